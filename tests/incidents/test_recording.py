"""How exits of processes are recorded: on the disk, in the log, and in the API."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.incidents.looking import get, story, wait_recorded
from tests.process.running import running

if TYPE_CHECKING:
    from pathlib import Path


def test_a_crash_is_on_the_disk_in_the_log_and_in_the_api(tmp_path: Path) -> None:
    """Each has the same story: what, why, its last lines, and what was done."""
    # Recording starts a moment after the supervisor; a restart before that would be reported in the past tense.
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_BACKOFF_INITIAL": "30s"}
    with running("sh", "-c", "echo so long; exit 3", env=env) as run:
        told = story(run, "crash")
        assert (told["what"], told["why"], told["code"]) == ("moltis crashed", "exit code 3", 3)
        assert told["cause"] == "its last words: so long"
        assert "it is started again after" in told["done"]
        kept = wait_recorded(tmp_path, "crash", id=told["id"], done=told["done"])
        assert kept["last_lines"] == ["so long"]
        answer = get(run, f"/api/incidents/{told['id']}")
        assert answer["last_lines"] == ["so long"]
        assert answer["incident"]["what"] == "moltis crashed"
        assert told["id"] in [each["id"] for each in get(run, "/api/incidents")["incidents"]]


def test_what_was_asked_for_is_no_incident(tmp_path: Path) -> None:
    """A stop that was requested is not recorded as a failure of the process."""
    with running("sleep", "300", env={"TS_STATE_DIR": str(tmp_path)}) as run:
        run.wait_for("started", child="moltis")
        run.send(signal.SIGTERM)
        assert run.wait() == 0
        assert not [each for each in run.all("incident") if each["story"]["subject"] == "moltis"]
