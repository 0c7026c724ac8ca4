"""A frozen app is not taken for a hung one."""

from __future__ import annotations

import os
import signal
import sys
import time

from tests.process.running import running
from tests.support.waiting import wait_until

ANSWERS = (
    "import http.server,os,time\n"
    "class Handler(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        print('asked',flush=True)\n"
    "        time.sleep(0.3)\n"
    "        self.send_response(200)\n"
    "        self.end_headers()\n"
    "    def log_message(self,*_): pass\n"
    "http.server.HTTPServer((os.environ['HOST'],int(os.environ['PORT'])),Handler).serve_forever()"
)
HUNG_S = 4


def test_after_a_freeze_a_healthy_app_is_not_called_hung() -> None:
    """The freeze (`docker pause`, a machine snapshot) is longer than SUPERVISOR_APP_HUNG, and begins during a probe."""
    env = {"SUPERVISOR_APP_HEALTH_URL": "/", "SUPERVISOR_APP_HUNG": f"{HUNG_S}s"}
    with running(sys.executable, "-c", ANSWERS, env=env) as run:
        app = run.wait_for("started", child="moltis")["pid"]
        run.wait_for("health is pass")
        probes = len(run.all("asked"))
        run.wait_count(probes + 1, "asked")
        for pid in (app, run.pid):
            os.kill(pid, signal.SIGSTOP)
        until_s = time.monotonic() + HUNG_S + 1
        wait_until(lambda: time.monotonic() > until_s, what="the freeze to be long enough")
        for pid in (run.pid, app):
            os.kill(pid, signal.SIGCONT)
        run.wait_count(probes + 2, "asked")
        assert run.stop() == 0
        assert not run.find("hung")
        assert len(run.all("started", child="moltis")) == 1
