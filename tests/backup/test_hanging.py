"""A disk that does not answer: this is reported, and health, orders and stops work without it."""

from __future__ import annotations

import time

import pytest

from tests.backup.world import APP, World, call_without_waiting, health_of, wait_for_state
from tests.support.hanging import hanging, may_hang
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not may_hang(), reason="only root can mount a disk that hangs, and with FUSE")

HASTE = {"look_s": 1.0, "again_s": 1.0}
TOLD = "cannot see what is in the folders: a disk has not answered for 1 s"


def test_a_disk_that_hangs_while_all_runs_stops_nothing() -> None:
    """A snapshot fails, which is reported like any other trouble; TERM is obeyed, and the repository handed over."""
    world = World()
    with world.hastened(HASTE, *APP, SUPERVISOR_STOP_TIMEOUT="10s") as run:
        wait_for_state(run, "idle")
        with hanging(str(world.data)):
            call_without_waiting(run)
            assert run.wait_for("backup failed")["why"] == TOLD
            begin_s = time.monotonic()
            assert health_of(run)["status"] == "warn"
            assert time.monotonic() - begin_s < 5
            assert run.stop(20) == 0
            assert run.wait_for("no last snapshot")["why"] == TOLD
            assert run.wait_for("handed over")


def test_a_start_waits_for_a_disk_that_hangs() -> None:
    """Files that cannot be seen are not taken for missing; once they can be, the start continues."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "file").write_text("mine")
        assert run.stop(30) == 0
    with hanging(str(world.data)), world.hastened(HASTE, *APP) as run:
        assert wait_for_state(run, "held")["why"] == TOLD
        assert health_of(run)["status"] == "fail"
        assert run.stop(20) == 0
    with world.hastened(HASTE, *APP) as run:
        with hanging(str(world.data)):
            wait_until(lambda: run.find("nothing is started", state="held"), what="a start that is held")
        wait_for_state(run, "idle")
        assert (world.data / "file").read_text() == "mine"
