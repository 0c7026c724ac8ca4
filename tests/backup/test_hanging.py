"""A disk that does not answer: this is reported, and health, orders and stops work without it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from supervisor.client.backup_commands import BACKUPS
from supervisor.client.control import Control
from supervisor.config.backup_plan import FOLDER
from tests.backup.world import APP, World, back_up, call_without_waiting, health_of, told, wait_for_state
from tests.client.calling import call
from tests.support.backups import KEY, PASSWORD
from tests.support.hanging import hanging, may_hang
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.running import Run
    from tests.support.backups import Bucket

pytestmark = pytest.mark.skipif(not may_hang(), reason="only root can mount a disk that hangs, and with FUSE")

HASTE = {"look_s": 1.0, "again_s": 1.0, "patience_s": 2.0}
TOLD = "cannot see what is in the folders: a disk has not answered for 1 s"


def answers_at_once(run: Run, status: str) -> None:
    """Check that health has this status, and that the answer comes at once."""
    begin_s = time.monotonic()
    assert health_of(run)["status"] == status
    assert time.monotonic() - begin_s < 5


def test_a_disk_that_hangs_while_all_runs_stops_nothing() -> None:
    """A snapshot fails, which is reported like any other trouble; TERM is obeyed, and the repository handed over."""
    world = World()
    with world.hastened(HASTE, *APP, SUPERVISOR_STOP_TIMEOUT="10s") as run:
        wait_for_state(run, "idle")
        with hanging(str(world.data)):
            call_without_waiting(run)
            assert run.wait_for("backup failed")["why"] == TOLD
            answers_at_once(run, "warn")
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


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_secret_on_a_disk_that_hangs_stops_nothing(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The password is read for each restic, and the keys also for each renewal of the lease."""
    name, text, repository = "SUPERVISOR_BACKUP_PASSWORD", PASSWORD, ""
    if kind == "bucket":
        server: Bucket = request.getfixturevalue("server")
        name, text, repository = "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY", KEY, server.repository
    file = tmp_path / "secrets" / "secret"
    file.parent.mkdir()
    file.write_text(text)
    why = f"cannot read {name} from {file}: it takes too long"
    world = World(repository)
    more = {name: f"file:{file}", "SUPERVISOR_STOP_TIMEOUT": "10s"}
    with world.hastened({**HASTE, "renew_s": 1.0}, *APP, **more) as run:
        wait_for_state(run, "idle")
        with hanging(str(file.parent)):
            call_without_waiting(run)
            assert run.wait_for("backup failed")["why"] == why
            answers_at_once(run, "warn")
            assert run.stop(20) == 0
            assert run.wait_for("no last snapshot")["why"] == why


def test_restics_own_folder_on_a_disk_that_hangs_stops_nothing() -> None:
    """A restore that is ordered then fails after restic's patience is over."""
    world = World()
    with world.hastened(HASTE, *APP, SUPERVISOR_STOP_TIMEOUT="10s") as run:
        wait_for_state(run, "idle")
        snapshot = back_up(run)["id"]
        with hanging(str(world.state.parent / FOLDER)):
            Control(str(run.run_dir)).post(f"{BACKUPS}/{snapshot}/restore", {"confirm": True})
            wait_for_state(run, "restoring")
            answers_at_once(run, "pass")
            assert run.wait_for("restore failed", replaced="nothing")
            answers_at_once(run, "warn")
            assert run.stop(20) == 0


def test_a_start_without_backups_starts_though_the_state_s_disk_hangs() -> None:
    """The start is held with the reason, and obeys the owner's order."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        assert run.stop(30) == 0
    folder = world.state.parent / FOLDER
    with hanging(str(world.data)), world.hastened(HASTE, *APP) as run:
        wait_for_state(run, "held")
        with hanging(str(folder)):
            told(run, f"cannot use {folder}: a disk has not answered for 1 s")
            answers_at_once(run, "fail")
            assert call(run.run_dir, "start", "moltis", "--without-backup").code == 0
            run.wait_for("ready", process="moltis")
            assert "its disk does not answer" in run.wait_for("a restore's record is left")["why"]
            assert run.stop(20) == 0


def test_the_app_s_program_on_a_disk_that_hangs_stops_nothing() -> None:
    """Each snapshot looks at the program's time and size: it fails, and everything else goes on."""
    world = World()
    program = world.folder / "programs" / "app"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{APP[2]}\n")
    program.chmod(0o755)
    with world.hastened(HASTE, str(program), SUPERVISOR_STOP_TIMEOUT="10s") as run:
        wait_for_state(run, "idle")
        with hanging(str(program.parent)):
            call_without_waiting(run)
            assert run.wait_for("backup failed")["why"] == TOLD
            answers_at_once(run, "warn")
            assert run.stop(20) == 0
            assert run.wait_for("handed over")
