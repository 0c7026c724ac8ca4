"""A disk that does not answer, with the files that the app's start reads: the app is restarted all the same."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.client.calling import call
from tests.process.running import running
from tests.support.hanging import hanging, may_hang

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.running import Run

pytestmark = pytest.mark.skipif(not may_hang(), reason="only root can mount a disk that hangs, and with FUSE")

URL = "https://moltis.tail.example"
APP = 'echo "it has ${MOLTIS_EXTERNAL_URL-none}"; exec sleep 300'


def crash(run: Run, times: int, said: str) -> None:
    """Kill the app so many times, and wait each time until it has said this again."""
    for _ in range(times):
        count = len(run.all(said, process="moltis"))
        os.kill(run.all("started", child="moltis")[-1]["pid"], signal.SIGKILL)
        run.wait_count(count + 1, said, process="moltis")


def threads_of(run: Run) -> int:
    """Return how many threads the supervisor has."""
    return len(os.listdir(f"/proc/{run.pid}/task"))


def test_an_app_that_crashes_while_the_state_disk_hangs_is_restarted(tmp_path: Path) -> None:
    """It gets the URL that it had; the supervisor answers, and ends when it is told to."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "external-url").write_text(URL)
    env = {
        "SUPERVISOR_TAILSCALE": "attach",
        "TS_SOCKET": str(tmp_path / "none.sock"),
        "TS_STATE_DIR": str(state),
        "SUPERVISOR_SERVE": "auto",
    }
    said = f"it has {URL}"
    with running("sh", "-c", APP, env=env) as run:
        run.wait_for(said, process="moltis")
        run.wait_for("sign in to the panel with this code")
        with hanging(str(state)):
            crash(run, 1, said)
            assert "takes too long" in run.wait_for("started with a former URL", child="moltis")["why"]
            threads = threads_of(run)
            crash(run, 4, said)
            assert len(run.all("started with a former URL")) == 5
            assert threads_of(run) <= threads + 1
            assert call(run.run_dir, "status").out
            assert run.stop(20) == 0


def test_a_crash_loop_leaves_one_thread_with_the_disk_of_the_password(tmp_path: Path) -> None:
    """Each restart left one more, up to the container's limit of processes."""
    file = tmp_path / "password"
    file.write_text("a-password-of-its-own")
    said = "it has none"
    with running("sh", "-c", APP, env={"MOLTIS_PASSWORD_FILE": str(file)}) as run:
        run.wait_for(said, process="moltis")
        run.wait_for("sign in to the panel with this code")
        with hanging(str(tmp_path)):
            crash(run, 1, said)
            threads = threads_of(run)
            crash(run, 4, said)
            assert len(run.all("started with a former secret")) == 5
            assert threads_of(run) <= threads + 1
        assert run.stop(20) == 0


def test_a_disk_that_hangs_with_the_apps_data_gives_no_password_back(tmp_path: Path) -> None:
    """Whether the app needs its password still cannot be seen then: it gets what it got at its last start."""
    data = tmp_path / "data"
    data.mkdir()
    env = {"MOLTIS_PASSWORD": "a-password-of-its-own", "MOLTIS_DATA_DIR": str(data)}
    app = 'echo "it has ${MOLTIS_PASSWORD-none}"; exec sleep 300'
    with running("sh", "-c", app, env=env) as run:
        run.wait_for("it has [redacted]", process="moltis")
        run.wait_for("sign in to the panel with this code")
        with hanging(str(data)):
            crash(run, 2, "it has [redacted]")
            assert "takes too long" in run.wait_for("started with a former secret", child="moltis")["why"]
        (data / "agents/main").mkdir(parents=True)
        crash(run, 1, "it has none")
        with hanging(str(data)):
            threads = threads_of(run)
            crash(run, 3, "it has none")
            assert threads_of(run) <= threads + 1
        assert len(run.all("started with a former secret")) == 2
        assert run.stop(20) == 0
