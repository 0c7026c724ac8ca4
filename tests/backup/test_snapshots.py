"""Snapshots of real folders with real restic: taken, listed, and restored."""

from __future__ import annotations

from tests.backup.world import World, back_up, listed, wait_for_state
from tests.client.calling import call


def test_first_start_snapshot_and_list() -> None:
    """A first start makes the repository, starts the app, and takes a snapshot when it is asked for one."""
    world = World()
    with world.running() as run:
        run.wait_for("started")
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        taken = back_up(run)
        assert (taken["generation"], taken["sequence"], taken["whole"]) == (1, 1, True)
        assert [each["id"] for each in listed(run)["snapshots"]] == [taken["id"]]


def test_restore_by_hand() -> None:
    """A restore brings the files back, keeps those that were there as a snapshot, and starts the app again."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("old")
        taken = back_up(run)
        (world.data / "note").write_text("new")
        (world.data / "more").write_text("too")
        called = call(run.run_dir, "backup", "restore", taken["id"][:8], "--yes")
        assert called.code == 0, (called, run.records[-20:])
        assert (world.data / "note").read_text() == "old"
        assert not (world.data / "more").exists()
        run.wait_count(2, "started", process="supervisor")
        assert listed(run)["snapshots"][0]["reason"] == "before restore"


def test_a_new_container_gets_the_newest_snapshot_before_anything_starts() -> None:
    """With a repository and no files, the files are restored before the app is started."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept\n")
        back_up(run)
        run.stop()
    world.lose_files()
    with world.running("sh", "-c", f"cat {world.data}/note; exec sleep 100") as run:
        run.wait_for("kept")
        assert listed(run)["generation"] == 2
