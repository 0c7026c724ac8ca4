"""The record of a restore under way, in case it still exists although the restore is over."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.backup.places import Places, Swap
from supervisor.backup.words import BackupError, Trouble
from supervisor.config.plan import BackupPlan
from tests.backup.test_restoring import names, restore
from tests.backup.world import APP, World, back_up, is_root, listed, lost, small_disk, wait_for_state
from tests.chaos.refusal_table import sites
from tests.chaos.refused_sites import Refusal, refusing
from tests.client.calling import call
from tests.support.syncs import noted_syncs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.running import Run


async def places_in(folder: Path) -> Places:
    """Return the folders of backups, which are made."""
    places = Places(BackupPlan("restic", str(folder), (), None, holds=True), pytest.fail)
    await places.make()
    return places


async def test_a_record_is_on_the_disk_before_a_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise files of two times would count as one state after a power loss."""
    places = await places_in(tmp_path / "work")
    synced = noted_syncs(monkeypatch)
    async with places.swapping(Swap("1" * 64, whole=False, generation=1)):
        assert synced == [f"{tmp_path}/work/.swapping.new", f"{tmp_path}/work"]


@pytest.mark.parametrize("content", [bytes(9), b"1234", b"1234 all", b"1234 all x", b"\xff all 2"])
async def test_a_damaged_record_is_not_taken_for_none(tmp_path: Path, content: bytes) -> None:
    """Nor does it become none by a restore that fails before it has replaced anything."""
    places = await places_in(tmp_path)
    (tmp_path / "swapping").write_bytes(content)
    for _ in range(2):
        left = places.swapped_halfway()
        assert left is not None
        assert (left.snapshot_id, left.whole) == ("", True)
        with pytest.raises(BackupError, match="no room"):
            async with places.swapping(Swap("1" * 64, whole=False, generation=1)):
                raise BackupError(Trouble("no room"))


def record(world: World) -> Path:
    """Return the path of the record that files are being replaced."""
    return world.folder / "state/moltis-supervisor-backup/swapping"


def leave_a_record(world: World, snapshot: str, what: str) -> None:
    """Write the record of the last restore again, as if the disk had refused to remove it."""
    mark = json.loads((world.data / ".moltis-supervisor.json").read_text())["swap"]
    record(world).write_text(f"{snapshot} {what} 1 {mark}\n")


def go_on_writing(run: Run, world: World) -> None:
    """Write as the app would after a restore, and kill the supervisor before any snapshot."""
    run.wait_for("restored")
    (world.data / "note").write_text("written since")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()


def restored_by_hand(world: World, **env: str) -> str:
    """Restore a snapshot by hand, and write as the app would afterwards; return the snapshot's id."""
    with world.running(**env) as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("restored")
        taken: str = back_up(run)["id"]
        restore(run, taken)
        go_on_writing(run, world)
    return taken


def killed_after_a_snapshot(world: World) -> Any:
    """Take a snapshot of a note, kill the supervisor, and return the snapshot."""
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("wanted")
        taken = back_up(run)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    return taken


def test_a_restore_by_hand_that_was_over_is_not_done_again() -> None:
    """If its record could not be removed, the files' marker shows that it is over; what was written since stays."""
    world = World()
    taken = restored_by_hand(world)
    leave_a_record(world, taken, "app")
    with world.running() as run:
        run.wait_for("started")
        assert run.find("the last restore was over", id=taken[:8])
        assert run.find("restoring") is None
        assert (world.data / "note").read_text() == "written since"
        assert not record(world).exists()


def test_a_restore_at_a_start_that_was_over_is_not_done_again() -> None:
    """This holds before the first snapshot, and later, when another instance seems to have continued from there."""
    world = lost("")
    with world.running() as run:
        wait_for_state(run, "idle")
        newest = listed(run)["snapshots"][0]["id"]
        go_on_writing(run, world)
    leave_a_record(world, newest, "all")
    with world.running() as run:
        wait_for_state(run, "idle")
        assert (world.data / "note").read_text() == "written since"
        back_up(run)
        run.stop()
    leave_a_record(world, newest, "all")
    with world.running() as run:
        run.wait_for("started")
        assert run.find("the last restore was over")
        assert (world.data / "note").read_text() == "written since"


@pytest.mark.parametrize("lacking", ["the mark in one folder", "the mark of this restore"])
def test_a_restore_that_was_not_over_everywhere_goes_on(lacking: str) -> None:
    """The marker of an earlier restore is not enough, nor is that of one folder out of two."""
    world = World()
    paths = {"SUPERVISOR_BACKUP_PATHS": f"{world.data}:{world.folder}/more"}
    taken = restored_by_hand(world, **paths)
    leave_a_record(world, taken, "app")
    if lacking == "the mark in one folder":
        marker = world.folder / "more/.moltis-supervisor.json"
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "swap": ""}))
    else:
        record(world).write_text(f"{taken} app 1 0123456789abcdef\n")
    with world.running(**paths) as run:
        run.wait_for("restored", id=taken[:8])
        run.wait_for("started")
        assert names(world.data) == {"note"}
        assert (world.data / "note").read_text() == "restored"


def test_a_restore_that_was_broken_off_asks_where_files_were_written_since() -> None:
    """The owner has started without backups, and the record's disk did not answer: the files of that run stay."""
    world = World()
    taken = killed_after_a_snapshot(world)
    record(world).write_text(f"{taken['id']} all 1\n")
    os.utime(record(world), (1e9, 1e9))
    (world.data / "deeper").mkdir()
    (world.data / "deeper/file").write_text("written since")
    os.utime(world.data / "note", (9e8, 9e8))
    with world.running() as run:
        assert "files have been written since" in wait_for_state(run, "held: choose")["why"]
        assert (world.data / "deeper/file").read_text() == "written since"
        assert call(run.run_dir, "backup").code == 0
        run.wait_for("started")
        assert run.find("restoring") is None
        assert names(world.data) == {"note", "deeper"}
        assert not record(world).exists()


@pytest.mark.parametrize("chosen", ["keep", "restore"])
def test_a_record_that_is_damaged_asks(chosen: str) -> None:
    """The snapshot that was being restored is not known, and the files may be a mix: the owner is told, and chooses."""
    world = World()
    taken = killed_after_a_snapshot(world)
    record(world).write_bytes(bytes(99))
    (world.data / "note").write_text("of the mix")
    with world.running() as run:
        assert "its record is damaged" in wait_for_state(run, "held: choose")["why"]
        words = ["backup"] if chosen == "keep" else ["backup", "restore", taken["id"], "--yes"]
        assert call(run.run_dir, *words).code == 0
        run.wait_for("started")
        assert (world.data / "note").read_text() == ("of the mix" if chosen == "keep" else "wanted")
        assert not record(world).exists()


@pytest.mark.skipif(not is_root(), reason="takes root, to mount a disk")
def test_a_restore_that_was_broken_off_and_cannot_go_on_is_not_forgotten() -> None:
    """The files are still a mix: the restore is retried, and succeeds once it can."""
    world = World()
    taken = killed_after_a_snapshot(world)
    (world.data / "note").write_text("of the mix")
    record(world).write_text(f"{taken['id']} app 1\n")
    (world.data / "volume").mkdir()
    with small_disk(world.data / "volume", "1m"), world.hastened({"again_s": 0.1}, *APP) as run:
        run.wait_count(2, "restore failed", replaced="nothing")
        assert run.find("nothing is started", state="held: choose") is None
        run.stop()
    with world.running() as run:
        run.wait_for("restored", id=taken["id"][:8])
        run.wait_for("started")
        assert (world.data / "note").read_text() == "wanted"
        assert not record(world).exists()


def test_a_record_that_cannot_be_removed_is_emptied(tmp_path: Path) -> None:
    """The next start ignores an empty record."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("restored")
        taken = back_up(run)
        run.stop()
    places = [site for site in sites() if site.module == "supervisor.backup.places" and site.name == "os.unlink"]
    way = refusing([Refusal(site, "EROFS") for site in places], tmp_path / "log")
    run = way.run(**world.env())
    try:
        wait_for_state(run, "idle")
        restore(run, taken["id"])
        assert record(world).read_text() == ""
        go_on_writing(run, world)
    finally:
        run.close()
    with world.running() as run:
        run.wait_for("started")
        assert (world.data / "note").read_text() == "written since"
