"""What a crash leaves behind is ended before the next start."""

from __future__ import annotations

import os
import sys

import pytest

from tests.process.running import running
from tests.support.processes import alive

# Daemonises a helper as Moltis' tools do: its own session, its parent gone, output elsewhere; then crashes.
DAEMON = (
    "import os,sys,time,signal\n"
    "stubborn=len(sys.argv)>1\n"
    "r,w=os.pipe()\n"
    "if os.fork()==0:\n"
    "    os.setsid()\n"
    "    if os.fork()==0:\n"
    "        if stubborn: signal.signal(signal.SIGTERM,signal.SIG_IGN)\n"
    "        null=os.open('/dev/null',os.O_RDWR)\n"
    "        for fd in (0,1,2): os.dup2(null,fd)\n"
    "        os.write(w,str(os.getpid()).encode())\n"
    "        time.sleep(300)\n"
    "    os._exit(0)\n"
    "pid=os.read(r,20).decode()\n"
    "print('helper',pid,flush=True)\n"
    "os.abort()"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as another user")


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=as_root)], ids=["shared user", "own user"])
@pytest.mark.parametrize("words", [(), ("stubborn",)], ids=["", "stubborn"])
def test_helpers_of_a_crashed_process_are_ended(user: str | None, words: tuple[str, ...]) -> None:
    """TERM, then KILL after two seconds; they are counted, and gone when the successor starts."""
    env = {"SUPERVISOR_APP_USER": user} if user else {}
    with running(sys.executable, "-c", DAEMON, *words, env=env) as run:
        run.wait_count(2, "started")
        line = next(record["message"] for record in run.records if record["message"].startswith("helper"))
        cleaned = run.wait_for("ended what it left behind", child="moltis")
        assert (cleaned["count"], cleaned["killed"], cleaned["still_alive"]) == (1, len(words), 0)
        assert not alive(int(line.split()[1]))
        messages = [record["message"] for record in run.records if record.get("child") == "moltis"]
        assert messages.index("ended what it left behind") < messages.index("will be restarted")


def test_what_belongs_to_another_process_is_left_alone() -> None:
    """A crash of the app does not end what a further process of the same user does."""
    toml = '[process.other]\ncommand = ["sh", "-c", "setsid sleep 300 & echo helper $!; exec sleep 300"]\n'
    with running(sys.executable, "-c", DAEMON, toml=toml) as run:
        run.wait_count(3, "started", child="moltis")
        line = next(
            record["message"]
            for record in run.records
            if record["process"] == "other" and record["message"].startswith("helper")
        )
        assert alive(int(line.split()[1]))
        assert len(run.all("started", child="other")) == 1
