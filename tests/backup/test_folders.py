"""Missing folders: how a snapshot without them counts, and what a restore of it does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from supervisor.backup.places import MARKER, Places
from supervisor.backup.take import Taker
from supervisor.config.plan import BackupPlan, BackupSource
from tests.backup.test_restoring import restore, spoil
from tests.backup.world import World, back_up, listed, path_with_wrapped_restic, wait_for_state
from tests.client.calling import call
from tests.support.backups import restic

if TYPE_CHECKING:
    from pathlib import Path


# Root only in a user namespace: it has no access to what belongs to other users of the machine.
WITHOUT_OTHERS = ("env", "unshare", "--user", "--map-root-user")


def test_what_a_file_system_keeps_in_its_volume_is_not_the_apps() -> None:
    """A new volume contains lost+found, which only root may open: it is not read, backed up or replaced."""
    if subprocess.run([*WITHOUT_OTHERS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces cannot be had here")
    world = World(prefix=WITHOUT_OTHERS)
    lost = world.data / "lost+found"
    lost.mkdir(parents=True)
    lost.chmod(0o700)
    os.chown(lost, 12345, 12345)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        taken = back_up(run)
        assert taken["whole"]
        (world.data / "note").write_text("changed")
        restore(run, taken["id"])
        assert (world.data / "note").read_text() == "kept"
        run.stop()
    assert restic(world.repository, "find", "lost+found") == []
    assert lost.stat().st_uid == 12345
    # The next container's volume is like a new one: it contains only this directory.
    for name in (MARKER, "note"):
        (world.data / name).unlink()
    with world.running() as run:
        wait_for_state(run, "idle")
        assert (world.data / "note").read_text() == "kept"


def test_a_folder_that_has_lost_its_volume_holds_the_start() -> None:
    """Only half of the backed-up folders are here: nothing is restored over them, and nothing is taken for empty."""
    world = World()
    other = world.folder / "other"
    paths = {"SUPERVISOR_BACKUP_PATHS": f"{world.data}:{other}"}
    with world.running(**paths) as run:
        wait_for_state(run, "idle")
        (other / "note").write_text("kept")
        back_up(run)
        run.stop()
    shutil.rmtree(other)
    with world.running(**paths) as run:
        assert "volume" in wait_for_state(run, "held: choose")["why"]


def test_a_missing_folder_makes_a_partial_snapshot_and_all_missing_none() -> None:
    """restic itself exits with 0 if one of several folders does not exist."""
    world = World()
    other = world.folder / "other"
    with world.running(SUPERVISOR_BACKUP_PATHS=f"{world.data}:{other}") as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        back_up(run)
        other.rename(world.folder / "gone")
        call(run.run_dir, "backup")
        run.wait_for("snapshot taken, but not whole")
        assert [each["whole"] for each in listed(run)["snapshots"]] == [False, True]
        (taken,) = [each for each in restic(world.repository, "snapshots") if "partial" in each["tags"]]
        # It was marked from the beginning: a kill could come before a later mark.
        assert ("missing" in taken["tags"], "original" in taken) == (True, False)
        (world.folder / "gone").rename(other)
        again = back_up(run)
        assert again["whole"]
        (now,) = [each for each in restic(world.repository, "snapshots") if each["id"] == again["id"]]
        assert not {"partial", "missing"} & set(now["tags"])
        other.rename(world.folder / "gone")
        world.data.rename(world.folder / "gone too")
        assert call(run.run_dir, "backup").code == 1
        assert len(listed(run)["snapshots"]) == 3
        run.stop()
        run.wait_for("handed over", whole=False)
    world.lose_files()
    with world.running(SUPERVISOR_BACKUP_PATHS=f"{world.data}:{other}") as run:
        run.wait_for("restored", id=again["id"][:8])


def test_a_snapshot_without_a_folder_is_better_than_none() -> None:
    """If there is no other, what it contains is restored, and what it lacks is reported."""
    world = World()
    other = world.folder / "other"
    paths = {"SUPERVISOR_BACKUP_PATHS": f"{world.data}:{other}"}
    with world.running(**paths) as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        shutil.rmtree(other)
        call(run.run_dir, "backup")
        assert run.stop() == 0
    world.lose_files()
    with world.running(**paths) as run:
        assert run.wait_for("restored", 60.0)["not_in_it"] == [str(other)]
        run.wait_for("started")
        assert (world.data / "note").read_text() == "kept"


def test_a_folder_that_vanished_in_the_middle_of_a_snapshot_stays_as_it_is_at_a_restore() -> None:
    """The manifest names it, and a mark says that it is missing; without a mark, or with another fault, it fails."""
    world = World()
    other, gone = world.folder / "other", world.folder / "gone"
    path = path_with_wrapped_restic(world, f"[ -e {gone} ] || case $* in *reason=asked*) mv {other} {gone};; esac")
    with world.running(PATH=path, SUPERVISOR_BACKUP_PATHS=f"{world.data}:{other}") as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_bytes(os.urandom(100_000))
        before = (world.data / "note").read_bytes()
        call(run.run_dir, "backup")
        assert "has vanished" in run.wait_for("snapshot taken, but not whole")["why"]
        gone.rename(other)
        gone.mkdir()
        (world.data / "note").write_text("new")
        (other / "note").write_text("kept")
        taken = listed(run)["snapshots"][0]["id"]
        restore(run, taken)
        assert run.wait_for("restored", id=taken[:8])["not_in_it"] == [str(other)]
        assert (world.data / "note").read_bytes() == before
        assert (other / "note").read_text() == "kept"
        run.stop()
    # As if the supervisor had been killed before it could mark the snapshot.
    (raw,) = [each for each in restic(world.repository, "snapshots") if each["id"] == taken]
    tags = [tag for tag in raw["tags"] if tag not in {"partial", "missing"}]
    restic(world.repository, "tag", *(word for tag in tags for word in ("--set", tag)), taken)
    with world.running(PATH=path, SUPERVISOR_BACKUP_PATHS=f"{world.data}:{other}") as run:
        wait_for_state(run, "idle")
        (unmarked,) = [each["id"] for each in restic(world.repository, "snapshots") if each["tags"] == tags]
        (world.data / "note").write_text("newer")
        assert call(run.run_dir, "backup", "restore", unmarked, "--yes").code == 1
        run.wait_for("restore failed", replaced="nothing")
        assert (world.data / "note").read_text() == "newer"


def test_a_snapshot_that_lacks_a_folder_is_not_restored_where_it_cannot_be_read() -> None:
    """The mark for a missing folder excuses no other error."""
    world = World()
    other = world.folder / "other"
    with world.running(SUPERVISOR_BACKUP_PATHS=f"{world.data}:{other}") as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_bytes(os.urandom(100_000))
        # The pack that is damaged later contains the note, but not the manifest of the next snapshot.
        assert back_up(run)["whole"]
        shutil.rmtree(other)
        call(run.run_dir, "backup")
        run.wait_for("snapshot taken, but not whole")
        (world.data / "note").write_text("new")
        spoil(world)
        other.mkdir()
        assert call(run.run_dir, "backup", "restore", listed(run)["snapshots"][0]["id"], "--yes").code == 1
        run.wait_for("restore failed", replaced="nothing")
        assert (world.data / "note").read_text() == "new"


@pytest.mark.parametrize("what", ["tag", "snapshots"])
def test_a_mark_that_cannot_be_made_is_told_and_the_snapshot_counts(what: str) -> None:
    """This is as if the key had lost its rights, or the bucket had gone away, right after the snapshot."""
    world = World()
    other, gone, refuses = (world.folder / name for name in ("other", "gone", "refuses"))
    program = (
        f"[ -e {gone} ] || case $* in *reason=asked*) mv {other} {gone}; touch {refuses};; esac\n"
        f'case "$*" in "--json {what} "*) if [ -e {refuses} ]; then rm {refuses}; exit 1; fi;; esac'
    )
    paths = {"SUPERVISOR_BACKUP_PATHS": f"{world.data}:{other}"}
    with world.running(PATH=path_with_wrapped_restic(world, program), **paths) as run:
        wait_for_state(run, "idle")
        call(run.run_dir, "backup")
        assert "has vanished" in run.wait_for("snapshot taken, but not whole")["why"]
        assert (run.find("snapshot's tags left") is not None) == (what == "tag")
        assert not refuses.exists()
        wait_for_state(run, "idle")
        assert run.find("backup failed") is None
        gone.rename(other)
        gone.mkdir()
        again = back_up(run)
        assert again["whole"]
        assert again["sequence"] == len(restic(world.repository, "snapshots"))


async def test_an_identity_that_is_gone_is_missed_and_not_in_the_manifest(tmp_path: Path) -> None:
    """tailscaled's folder counts like the configured ones: a snapshot without it is not restored automatically."""
    (tmp_path / "data").mkdir()
    (tmp_path / "work/snapshot").mkdir(parents=True)
    gone = str(tmp_path / "tailscale")
    plan = BackupPlan(
        program="restic",
        folder=str(tmp_path / "work"),
        sources=(BackupSource("data", str(tmp_path / "data"), None),),
        identity=BackupSource("tailscale", gone, None),
        holds=True,
    )
    nothing = cast("Any", None)
    taker = Taker(cast("Any", SimpleNamespace(backup=plan, processes=())), nothing, nothing, Places(plan, print), {})
    assert (await taker.look()).absent == [gone]
    taker._write_manifest([gone], [])
    folders = json.loads((tmp_path / "work/snapshot/manifest.json").read_text())["folders"]
    assert [each["name"] for each in folders] == ["data"]
    (tmp_path / "tailscale").mkdir()
    assert (await taker.look()).absent == []
