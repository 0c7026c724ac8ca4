"""What a restore does to files: owners, links and permissions, and attempts to redirect it to other places."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from supervisor.backup.places import opened_folder
from supervisor.backup.restore import _clean, _finish
from supervisor.backup.take import _is_folder
from supervisor.client.control import Control
from supervisor.config.plan import BackupSource
from supervisor.core.process import User
from supervisor.system import dirs
from tests.backup.world import (
    APP,
    World,
    back_up,
    is_root,
    listed,
    make_unclear,
    small_disk,
    wait_for_state,
)
from tests.client.calling import call
from tests.support.backups import restic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.running import Run

AS_ROOT = pytest.mark.skipif(not is_root(), reason="takes root, for files of others")
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
NOBODY = {"SUPERVISOR_APP_USER": "nobody"} if is_root() else {}

# Run as another user, who may have no access to this project's folder.
OPENS = """
import sys
try:
    from supervisor.backup.places import opened_folder
    from supervisor.config.plan import BackupSource
except ImportError as error:
    sys.exit(f"cannot import: {error}")
with opened_folder(BackupSource("data", sys.argv[1], None), make=False):
    print("opened")
"""


def restore(run: Run, snapshot: str) -> None:
    """Restore a snapshot, and check that it succeeded."""
    called = call(run.run_dir, "backup", "restore", snapshot, "--yes")
    assert called.code == 0, (called, [record for record in run.records if record.get("part") == "backup"][-5:])


def spoil(world: World) -> None:
    """Damage the data of the largest file in a repository."""
    packs = [path for path in (world.folder / "repository/data").rglob("*") if path.is_file()]
    pack = max(packs, key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    pack.write_bytes(os.urandom(pack.stat().st_size))
    shutil.rmtree(world.folder / "state/moltis-supervisor-backup/cache")


def metrics(run: Run) -> str:
    """Return the metrics that Prometheus would get."""
    host, port = (run.run_dir / "http").read_text().split()
    headers = {"Authorization": "Bearer a token of sixteen characters"}
    with urlopen(Request(f"http://{host}:{port}/metrics", headers=headers), timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def names(folder: Path) -> set[str]:
    """Return the names in a folder, except the supervisor's own."""
    return {name for name in os.listdir(folder) if not name.startswith(".moltis-supervisor")}


def test_everything_that_a_file_can_be() -> None:
    """Names with newlines, links, hard links, empty folders, modes and times are restored as they were."""
    world = World()
    with world.running(**NOBODY) as run:
        wait_for_state(run, "idle")
        data = world.data
        (data / "new\nline").write_text("1")
        (data / "b\\*?[x]").write_text("2")
        os.symlink("/etc/passwd", data / "link")
        os.link(data / "new\nline", data / "hard")
        (data / "empty").mkdir()
        (data / "deep/er").mkdir(parents=True)
        (data / "deep/er/file").write_text("3")
        (data / "deep/er/file").chmod(0o640)
        os.utime(data / "deep/er/file", (1, 1_000_000))
        os.mkfifo(data / "pipe")
        before = names(data)
        taken = back_up(run)
        for name in before:
            path = data / name
            os.rename(path, data / f"moved {name[:2]}")
        restore(run, taken["id"])
        assert names(data) == before
        assert os.readlink(data / "link") == "/etc/passwd"
        assert (data / "hard").samefile(data / "new\nline")
        found = (data / "deep/er/file").stat()
        assert (stat.S_IMODE(found.st_mode), int(found.st_mtime)) == (0o640, 1_000_000)


@AS_ROOT
def test_rights_are_dropped_and_owners_are_by_name() -> None:
    """Setuid bits, capabilities and devices are dropped; all files belong to the app's user, and none to root."""
    world = World()
    user = pwd.getpwnam("nobody")
    with world.running(SUPERVISOR_APP_USER="nobody") as run:
        wait_for_state(run, "idle")
        data = world.data
        (data / "tool").write_text("#!/bin/sh\n")
        (data / "tool").chmod(0o6755)
        os.mknod(data / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
        (data / "stranger").write_text("of an image with other numbers")
        os.chown(data / "stranger", 12345, 12345)
        os.setxattr(data / "stranger", "user.note", b"kept")
        os.setxattr(data / "stranger", "security.capability", CAPABILITY)
        taken = back_up(run)
        restore(run, taken["id"])
        assert stat.S_IMODE((data / "tool").stat().st_mode) == 0o755
        assert not (data / "disk").exists()
        assert {path.lstat().st_uid for path in data.rglob("*") if path.name[:18] != ".moltis-supervisor"} == {
            user.pw_uid
        }
        assert os.listxattr(data / "stranger") == ["user.note"]


@AS_ROOT
def test_what_gives_rights_is_dropped_even_where_restic_may_make_it(tmp_path: Path) -> None:
    """It has no right to make devices or to set capabilities; in case it has, everything restored is checked."""
    (tmp_path / "files/deep").mkdir(parents=True)
    os.mknod(tmp_path / "files/deep/disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    (tmp_path / "files/deep/tool").touch(0o755)
    (tmp_path / "files/deep/tool").chmod(0o6755)
    os.setxattr(tmp_path / "files/deep/tool", "security.capability", CAPABILITY)
    with dirs.opened(str(tmp_path)) as fd:
        _clean(fd, None)
    assert os.listdir(tmp_path / "files/deep") == ["tool"]
    assert not os.listxattr(tmp_path / "files/deep/tool")
    assert stat.S_IMODE((tmp_path / "files/deep/tool").stat().st_mode) == 0o755


def test_a_copy_takes_the_place_of_the_live_file_and_its_journals(tmp_path: Path) -> None:
    """SQLite would apply a journal of another time to the copy, and mix the two states."""
    for name in ("files/deep", "copies/deep"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a.db", "a.db-wal", "a.db-shm", "a.db-journal", "other-wal"):
        (tmp_path / "files/deep" / name).write_text("live")
    (tmp_path / "copies/deep/a.db").write_text("copy")
    with dirs.opened(str(tmp_path)) as fd:
        _finish(fd, None)
    assert sorted(os.listdir(tmp_path / "files/deep")) == ["a.db", "other-wal"]
    assert (tmp_path / "files/deep/a.db").read_text() == "copy"


def test_why_a_folder_cannot_be_made_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names a file on the way only if there is one; a folder that its user cannot get is removed."""
    (tmp_path / "file").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    for path, why in (("x" * 300, "File name too long"), ("file/deep", "file on the way to .* not a folder")):
        with pytest.raises(OSError, match=why), opened_folder(BackupSource("data", f"{tmp_path}/{path}", None)):
            pass

    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    source = BackupSource("data", f"{tmp_path}/new", User("somebody", 1000, 1000, "/"))
    with pytest.raises(OSError, match="not permitted"), opened_folder(source):
        pass
    assert not (tmp_path / "new").exists()
    assert len(os.listdir("/proc/self/fd")) == before


@AS_ROOT
def test_only_links_of_root_s_own_making_lead_to_a_folder(tmp_path: Path) -> None:
    """One in a folder that the app may write is refused, whoever owns it; one of the image (/data) is followed."""
    outside, loose = tmp_path / "outside", tmp_path / "loose"
    outside.mkdir()
    loose.mkdir()
    os.symlink(outside, loose / "data")
    os.chown(loose, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(OSError, match="is a link"), opened_folder(BackupSource("data", f"{loose}/data", None)):
        pass
    # For a snapshot, a folder behind such a link does not exist.
    (outside / "inner").mkdir()
    assert not _is_folder(BackupSource("data", f"{loose}/data/inner", None))
    assert _is_folder(BackupSource("data", f"{outside}/inner", None))
    os.symlink(outside, tmp_path / "link")
    with opened_folder(BackupSource("data", f"{tmp_path}/link/deep", None)):
        assert sorted(os.listdir(outside)) == ["deep", "inner"]


@AS_ROOT
def test_a_folder_on_the_way_need_not_be_readable(tmp_path: Path) -> None:
    """A user who may traverse /home need not be able to list it."""
    (tmp_path / "home/data").mkdir(parents=True)
    tmp_path.chmod(0o711)
    (tmp_path / "home").chmod(0o711)
    os.chown(tmp_path / "home/data", 65534, 65534)
    words = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", OPENS)
    opens = subprocess.run([*words, f"{tmp_path}/home/data"], capture_output=True, text=True, check=False)
    if "cannot import" in opens.stderr or "failed to execute" in opens.stderr:
        pytest.skip("that user cannot run this project")
    assert (opens.stdout, opens.stderr) == ("opened\n", "")


@AS_ROOT
def test_links_that_the_app_planted_lead_root_nowhere() -> None:
    """If the app has replaced its folder, or the supervisor's folder in it, by a link, nothing outside is written."""
    world = World()
    outside = world.folder / "outside"
    outside.mkdir()
    (outside / "precious").write_text("root's")
    with world.running(SUPERVISOR_APP_USER="nobody") as run:
        wait_for_state(run, "idle")
        data = world.data
        (data / "note").write_text("1")
        taken = back_up(run)
        os.symlink(outside, data / ".moltis-supervisor")
        restore(run, taken["id"])
        assert os.listdir(outside) == ["precious"]
        os.chown(world.folder, pwd.getpwnam("nobody").pw_uid, -1)
        data.rename(world.folder / "elsewhere")
        os.symlink(outside, data)
        os.lchown(data, pwd.getpwnam("nobody").pw_uid, -1)
        called = call(run.run_dir, "backup", "restore", taken["id"], "--yes")
        assert called.code == 1, called
        assert os.listdir(outside) == ["precious"]
        run.wait_for("restore failed")


def test_a_restore_that_fails_replaces_nothing_and_the_app_goes_on() -> None:
    """A snapshot that cannot be read completely changes no file, whatever the name of the unreadable file."""
    world = World()
    # restic's error contains the name, which looks like that of an attribute that it may not set.
    note = world.data / "security.note"
    with world.running() as run:
        wait_for_state(run, "idle")
        note.write_bytes(os.urandom(100_000))
        taken = back_up(run)
        note.write_text("new")
        spoil(world)
        called = call(run.run_dir, "backup", "restore", taken["id"], "--yes")
        assert called.code == 1
        assert note.read_text() == "new"
        assert run.find("exited") is None


@AS_ROOT
def test_a_restore_that_cannot_be_placed_puts_back_what_it_has_moved() -> None:
    """A volume inside the folder cannot be renamed: all files are as before, and the stopped app is started again."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        data = world.data
        for number in range(8):
            (data / f"note{number}").write_text("old")
        taken = back_up(run)
        for number in range(8):
            (data / f"note{number}").write_text("new")
        (data / "volume").mkdir()
        with small_disk(data / "volume", "1m"):
            (data / "volume/precious").write_text("kept")
            assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 1
            run.wait_for("restore failed", replaced="nothing")
            assert {(data / f"note{number}").read_text() for number in range(8)} == {"new"}
            assert (data / "volume/precious").read_text() == "kept"
            run.wait_count(2, "started", child="moltis")
        restore(run, taken["id"])
        assert names(data) == {f"note{number}" for number in range(8)}


def test_files_without_a_marker_beside_snapshots_are_held_until_the_owner_chooses() -> None:
    """Neither is chosen automatically; keeping the files here makes them the newest, and the snapshot is kept."""
    world = World()
    theirs = make_unclear(world)
    with world.running() as run:
        wait_for_state(run, "held: choose")
        assert run.find("started") is None
        assert call(run.run_dir, "backup").code == 0
        run.wait_for("started")
        now = listed(run)["snapshots"]
        assert (now[0]["generation"], now[-1]["id"]) == (2, theirs["id"])
        assert (world.data / "note").read_text() == "ours"


def test_files_that_another_instance_has_left_behind_are_held_with_the_reason_everywhere() -> None:
    """With an older marker the owner has to choose, and every view shows the reason."""
    world = World()
    aside = world.folder / "aside"
    for note in ("old", "newer"):
        with world.running() as run:
            wait_for_state(run, "idle")
            (world.data / "note").write_text(note)
            back_up(run)
            assert run.stop() == 0
        if note == "old":
            world.data.rename(aside)
    shutil.rmtree(world.data)
    aside.rename(world.data)
    with world.running() as run:
        why = wait_for_state(run, "held: choose")["why"]
        assert "newer snapshots" in why
        assert run.find("started") is None
        told = Control(str(run.run_dir)).get("/api/processes")["processes"][0]
        assert (told["state"], why in told["held_why"]) == ("held: choose", True)
        shown = call(run.run_dir, "status")
        assert shown.out.count(f"held: choose  -    -       0         -       {why}") == 1
        assert json.loads(call(run.run_dir, "status", "--json").out)["health"]["status"] == "fail"
        assert why in run.wait_for("nothing is started", state="held: choose")["why"]
        assert 'process_state{process="moltis",state="held: choose"} 1' in metrics(run)
        assert call(run.run_dir, "backup").code == 0
        run.wait_for("started")
        assert (world.data / "note").read_text() == "old"
        assert listed(run)["snapshots"][0]["generation"] == 3


def test_a_held_start_takes_the_owner_s_word_for_a_snapshot() -> None:
    """The files here are saved in a snapshot, then the chosen one is restored."""
    world = World()
    theirs = make_unclear(world)
    with world.running() as run:
        wait_for_state(run, "held: choose")
        restore(run, theirs["id"])
        run.wait_for("started")
        assert (world.data / "note").read_text() == "theirs"
        assert [each["reason"] for each in listed(run)["snapshots"]] == ["before restore", "stop", "asked"]


def test_the_wish_for_a_snapshot_is_carried_out_once() -> None:
    """SUPERVISOR_BACKUP_RESTORE with an id restores it at one start; the next one only logs a reminder."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("old")
        wish = back_up(run)["id"]
        (world.data / "note").write_text("new")
        run.stop()
    with world.running(SUPERVISOR_BACKUP_RESTORE=wish) as run:
        wait_for_state(run, "idle")
        assert (world.data / "note").read_text() == "old"
        assert listed(run)["snapshots"][0]["reason"] == "before restore"
        (world.data / "note").write_text("newer")
        run.stop()
    with world.running(SUPERVISOR_BACKUP_RESTORE=wish) as run:
        run.wait_for("SUPERVISOR_BACKUP_RESTORE is still set")
        wait_for_state(run, "idle")
        assert (world.data / "note").read_text() == "newer"
        run.stop()
    world.lose_files()
    with world.running(SUPERVISOR_BACKUP_RESTORE=wish) as run:
        run.wait_for("SUPERVISOR_BACKUP_RESTORE is still set")
        wait_for_state(run, "idle")
        assert (world.data / "note").read_text() == "newer"


def test_files_that_were_there_before_backups_are_adopted() -> None:
    """With an empty repository a snapshot is taken before anything starts."""
    world = World()
    world.data.mkdir()
    (world.data / "note").write_text("kept")
    with world.running() as run:
        run.wait_for("started")
        assert [each["reason"] for each in listed(run)["snapshots"]] == ["adopt"]


def test_a_start_after_a_kill_between_two_renames_goes_on_with_that_restore() -> None:
    """The files are then a mix of old and new: they are not adopted, and the owner need not choose."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("wanted")
        wanted = back_up(run)
        (world.data / "note").write_text("newer")
        back_up(run)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    (world.data / "note").unlink()
    (world.data / "half").write_text("of it")
    (world.folder / "state/moltis-supervisor-backup/swapping").write_text(f"{wanted['id']} app 1\n")
    with world.running() as run:
        run.wait_for("restored", id=wanted["id"][:8])
        run.wait_for("started")
        assert names(world.data) == {"note"}
        assert (world.data / "note").read_text() == "wanted"
        assert not (world.folder / "state/moltis-supervisor-backup/swapping").exists()


def test_restic_alone_restores_all_of_it(tmp_path: Path) -> None:
    """This is what the documentation says for a fresh machine."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        taken = back_up(run)["id"]
    restic(world.repository, "restore", taken, "--target", str(tmp_path))
    assert (tmp_path / str(world.data)[1:] / "note").read_text() == "kept"
    # There is no marker: a supervisor would take the files next to it for those that it names.
    assert os.listdir(tmp_path / str(world.data)[1:]) == ["note"]


@AS_ROOT
def test_a_wish_that_fails_again_and_again_keeps_what_is_here_once() -> None:
    """The restore is retried every 15 s, but the files do not change between the tries."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        wish = back_up(run)["id"]
        run.stop()
    (world.data / "volume").mkdir()
    (world.data / "note").write_text("kept")
    again = world.hastened({"again_s": 0.1}, *APP, SUPERVISOR_BACKUP_RESTORE=wish)
    with small_disk(world.data / "volume", "1m"), again as run:
        run.wait_count(3, "restore failed", replaced="nothing")
        assert [each["reason"] for each in listed(run)["snapshots"]] == ["before restore", "stop", "asked"]


def test_a_restore_that_was_broken_off_before_another_instance_went_on_asks_first() -> None:
    """Otherwise its snapshot would become the newest, over everything that the other instance has written since."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("old")
        old = back_up(run)
        run.stop()
    world.lose_files()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("of the other one")
        back_up(run)
        run.stop()
    swapping = world.folder / "state/moltis-supervisor-backup/swapping"
    swapping.write_text(f"{old['id']} app {old['generation']}\n")
    with world.running() as run:
        assert "was interrupted" in wait_for_state(run, "held: choose")["why"]
        assert call(run.run_dir, "backup").code == 0
        run.wait_for("started")
        assert (world.data / "note").read_text() == "of the other one"
        assert not swapping.exists()
