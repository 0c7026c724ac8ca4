"""Standard streams that are closed, or that cannot encode what is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.process.running import SUPERVISOR
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_closed_streams_are_not_mistaken_for_ours(tmp_path: Path) -> None:
    """Otherwise the log could be written to a file that got the number of standard output."""
    env = {
        "PATH": os.environ["PATH"],
        "PORT": "0",
        "SUPERVISOR_RUN_DIR": str(tmp_path / "run"),
        "SUPERVISOR_TAILSCALE": "off",
        "SUPERVISOR_APP_HEALTH_URL": "",
    }
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *SUPERVISOR, "--", "sleep", "300"]
    run = subprocess.Popen(closed, env=env, cwd="/")
    wait_until((tmp_path / "run" / "http").exists, what="the port")
    assert [os.readlink(f"/proc/{run.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    run.send_signal(signal.SIGTERM)
    assert run.wait(15) == 0


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    """A path may contain bytes that are invalid UTF-8, and a terminal may be limited to ASCII."""
    words = [sys.executable, "-c", "from supervisor.cli import main; raise SystemExit(main(['check']))"]
    env = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii", "TS_STATE_DIR": os.fsdecode(b"/tmp/\xff\xc3\xa4")}
    done = subprocess.run(words, env=env, capture_output=True, check=False, cwd=os.getcwd())
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/tmp/\\udcff\\xe4" in done.stdout
