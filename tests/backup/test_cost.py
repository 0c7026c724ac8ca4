"""What backups cost: nothing if they are off, little if they are on."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.backup.world import World, back_up, call_without_waiting, child_of, wait_for_state
from tests.client.calling import call
from tests.process.running import running
from tests.support.backups import PROGRAMS, path_with_restic
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
# How much more memory a supervisor may use with backups into a folder than without, once both have loaded the API.
MOST_IDLE_BYTES = 3 * MIB
# Runs the supervisor, and reports the modules that are loaded when it exits.
LOADED = """
import os, runpy, sys
def end(status, really=os._exit):
    open(os.environ["REPORT"], "w").write(" ".join(sys.modules))
    really(status)
os._exit = end
sys.argv = ["supervisor", "run", "--", "sleep", "300"]
runpy.run_module("supervisor", run_name="__main__")
"""


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        found = re.search(r"VmRSS:\s+(\d+) kB", file.read())
    assert found is not None
    return int(found[1]) * 1024


def peak_bytes(pid: int) -> int:
    """Return the peak of a process's resident memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
    return int(found[1]) * 1024 if found is not None else 0


def test_off_they_cost_nothing(tmp_path: Path) -> None:
    """Without a repository none of their modules is loaded, and nothing is run."""
    report = tmp_path / "modules"
    with running(env={"REPORT": str(report)}, program=(sys.executable, "-c", LOADED)) as run:
        run.wait_for("sign in to the panel with this code")
        assert run.stop() == 0
    loaded = report.read_text().split()
    assert "supervisor.runtime.engine" in loaded
    assert not [name for name in loaded if name.startswith("supervisor.backup")]


@pytest.mark.slow
def test_on_and_idle() -> None:
    """A supervisor with backups that has taken snapshots uses little more memory than one without."""
    with running("sh", "-c", "echo ready; exec sleep 300") as run:
        run.wait_for("ready")
        assert call(run.run_dir, "logs").code == 0
        without = resident_bytes(run.pid)
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        for number in range(3):
            (world.data / f"file{number}").write_bytes(os.urandom(100_000))
            back_up(run)
        assert resident_bytes(run.pid) - without < MOST_IDLE_BYTES


@pytest.mark.slow
def test_a_snapshot_without_changes() -> None:
    """restic uses at most 90 MB with 100 MB of files; the benchmarks measure how long it takes."""
    world = World()
    # Its usual key derivation takes most of that.
    with world.running(PATH=path_with_restic(PROGRAMS["restic"][0])) as run:
        wait_for_state(run, "idle")
        for number in range(100):
            (world.data / f"file{number}").write_bytes(os.urandom(MIB))
        back_up(run)
        most = 0
        for _ in range(3):
            call_without_waiting(run)
            pid = wait_until(lambda: child_of(run, "restic"), what="restic")
            while (now := child_peak(pid)) is not None:
                most = max(most, now)
            wait_for_state(run, "idle")
        assert 0 < most < 90_000_000


def child_peak(pid: int) -> int | None:
    """Return the peak of a child's memory, None once it has exited; pause before the next call."""
    try:
        found = peak_bytes(pid)
    except (OSError, AssertionError):
        return None
    time.sleep(0.01)
    return found or None
