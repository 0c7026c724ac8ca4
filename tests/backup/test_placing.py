"""The last step of a restore, and the limits of a snapshot: what is renamed, what stays, and what restic may read."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, cast

import pytest

from supervisor.backup.places import WORKSHOP
from supervisor.backup.restore import Restoration, _Prepared, _swap
from supervisor.config.plan import BackupSource
from supervisor.core.backup import SnapshotView
from supervisor.system import dirs
from tests.backup.world import (
    APP,
    World,
    back_up,
    is_root,
    listed,
    path_with_wrapped_restic,
    small_disk,
    wait_for_state,
)
from tests.client.calling import call
from tests.process.running import Run
from tests.support.backups import restic
from tests.support.tracing import traces

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.backup.restic import Restic

AS_ROOT = pytest.mark.skipif(not is_root(), reason="takes root, to mount a disk")


@AS_ROOT
def test_root_s_restic_reads_nothing_outside_of_the_folders(tmp_path: Path) -> None:
    """The app may replace a folder by a link at any moment: if the kernel has Landlock, the link leads nowhere."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "note").write_text("the app's")
    (outside / "secret").write_text("root's")
    os.symlink(outside, inside / "link")
    os.symlink("/proc/self", inside / "self")
    words = ("/usr", "/lib", "/lib64", "/etc", "/nothing", "--", "/bin/cat", "note", "link/secret", "self/environ")
    with dirs.opened(str(inside)) as fd:
        argv = (sys.executable, "-I", "-m", "supervisor.backup.confine", str(fd), *words)
        ended = subprocess.run(argv, cwd=inside, pass_fds=(fd,), capture_output=True, text=True, check=False)
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")
    assert ended.stdout == "the app's"
    assert ended.stderr.count("Permission denied") == 2


@AS_ROOT
def test_a_link_that_the_app_puts_in_a_folder_s_way_at_the_last_moment_is_not_followed(tmp_path: Path) -> None:
    """Files for root alone are in no snapshot; what could not be read is reported, and the next snapshot is whole."""
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")
    world = World()
    ours, theirs, outside = world.folder / "app", world.folder / "moved", world.folder / "outside"
    (outside / "data").mkdir(parents=True)
    (outside / "data/secret").write_text("root's")
    outside.chmod(0o700)
    swap = (
        f"[ ! -e {world.folder}/swap ] || case $* in *reason=asked*) mv {ours} {theirs}; ln -s {outside} {ours};; esac"
    )
    paths = {"PATH": path_with_wrapped_restic(world, swap), "SUPERVISOR_BACKUP_PATHS": f"{ours}/data"}
    with world.running(**paths, SUPERVISOR_APP_USER="nobody") as run:
        wait_for_state(run, "idle")
        os.chown(ours, pwd.getpwnam("nobody").pw_uid, -1)
        (ours / "data/note").write_text("the app's")
        (world.folder / "swap").touch()
        call(run.run_dir, "backup")
        run.wait_for("snapshot taken, but not whole")
        ours.unlink()
        theirs.rename(ours)
        (world.folder / "swap").unlink()
        assert back_up(run)["whole"]
        for number, each in enumerate(listed(run)["snapshots"]):
            restic(world.repository, "restore", each["id"], "--target", str(tmp_path / str(number)))
    names = {path.name for path in tmp_path.rglob("*")}
    assert "note" in names
    assert "secret" not in names


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """The error is one line without a traceback: restic may be gone by the time it is run."""
    gone = str(tmp_path / "restic")
    argv = (sys.executable, "-I", "-m", "supervisor.backup.confine", "--", gone, "version")
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, f"cannot run {gone}: No such file or directory\n")


@pytest.mark.skipif(not traces(), reason="strace is needed to make system calls fail")
@pytest.mark.parametrize(
    ("call", "error", "ended"),
    [
        # The kernel has no Landlock, or a filter hides it.
        ("landlock_create_ruleset", "ENOSYS", 0),
        ("landlock_create_ruleset", "EOPNOTSUPP", 0),
        ("landlock_create_ruleset", "EPERM", 0),
        ("landlock_create_ruleset", "ENOMEM", 1),
        ("landlock_create_ruleset", "EMFILE", 1),
        ("landlock_add_rule", "ENOMEM", 1),
        ("landlock_restrict_self", "ENOMEM", 1),
    ],
)
def test_what_cannot_be_confined_is_not_run(call: str, error: str, ended: int) -> None:
    """Only a kernel that has no Landlock lets it run unconfined: any other failure would let it read everything."""
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}")
    words = (sys.executable, "-I", "-m", "supervisor.backup.confine", "/usr", "/lib", "/lib64", "/bin", "--")
    done = subprocess.run((*strace, *words, "/bin/true"), capture_output=True, text=True, check=False)
    assert done.returncode == ended
    assert done.stderr.startswith("cannot run /bin/true: ") == bool(ended)
    assert "Traceback" not in done.stderr


def has_landlock() -> bool:
    """Return whether the kernel has Landlock, by asking for its version."""
    return int(ctypes.CDLL(None).syscall(444, None, 0, 1)) > 0


def test_a_swap_that_fails_leaves_each_folder_with_its_own_mode(tmp_path: Path) -> None:
    """This includes folders whose files had all been swapped."""
    with contextlib.ExitStack() as stack:
        prepared = []
        for name in ("one", "two"):
            workshop = tmp_path / name / WORKSHOP
            workshop.mkdir(parents=True)
            (tmp_path / name / "note").write_text("before")
            (tmp_path / name).chmod(0o700)
            fds = [stack.enter_context(dirs.opened(str(path))) for path in (tmp_path / name, workshop)]
            prepared.append(_Prepared(BackupSource(name, str(tmp_path / name), None), *fds))
        (tmp_path / "one" / WORKSHOP / "files").mkdir(mode=0o755)
        with pytest.raises(FileNotFoundError):
            _swap(prepared)
    for name in ("one", "two"):
        assert (tmp_path / name / "note").read_text() == "before"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


# Once, the third file cannot be put in its place, and the second one cannot be put back.
UNDONE = """
import errno, os, runpy
rename, begun, failed = os.rename, [], []
def refuse(name, target, **more):
    where = os.readlink(f"/proc/self/fd/{more['src_dir_fd']}") if "src_dir_fd" in more else ""
    if where.endswith("/.moltis-supervisor/files") and name == "note2" and not begun:
        begun.append(name)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    if where.endswith("/.moltis-supervisor/before") and begun and name == "note1" and not failed:
        failed.append(name)
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return rename(name, target, **more)
os.rename = refuse
runpy.run_module("supervisor", run_name="__main__", alter_sys=True)
"""


def test_what_could_not_be_put_back_is_kept_and_told() -> None:
    """The app stays stopped, no snapshot is taken of files of two times, and another restore replaces them."""
    world = World()
    program = (sys.executable, "-I", "-c", UNDONE, "run", "--", *APP)
    with contextlib.closing(Run(env=world.env(), program=program)) as run:
        wait_for_state(run, "idle")
        for number in range(4):
            (world.data / f"note{number}").write_text("old")
        taken = back_up(run)
        for number in range(4):
            (world.data / f"note{number}").write_text("new")
        called = call(run.run_dir, "backup", "restore", taken["id"], "--yes")
        assert called.code == 1
        told = run.wait_for("restore failed", replaced="a part")
        assert f"note1 could not be put back: see the folders in {world.data / WORKSHOP}" in told["why"]
        assert (world.data / WORKSHOP / "before/note1").read_text() == "new"
        assert list(world.folder.rglob("swapping"))
        assert call(run.run_dir, "backup").code == 1
        run.wait_for("backup failed")
        assert len(run.all("started", child="moltis")) == 1
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 0
        run.wait_count(2, "started", child="moltis")
        assert {(world.data / f"note{number}").read_text() for number in range(4)} == {"old"}
        assert back_up(run)["whole"]
        assert run.stop() == 0


def test_a_start_that_could_not_put_back_goes_on_with_that_restore() -> None:
    """Nothing is started on files of two times, and the previous files are in a snapshot."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        for number in range(4):
            (world.data / f"note{number}").write_text("old")
        taken = back_up(run)
        assert run.stop() == 0
    for number in range(4):
        (world.data / f"note{number}").write_text("new")
    sooner = UNDONE.replace(
        "os.rename = refuse", "from supervisor.backup import beginning\nbeginning._AGAIN_S = 1.0\nos.rename = refuse"
    )
    program = (sys.executable, "-I", "-c", sooner, "run", "--", *APP)
    with contextlib.closing(Run(env=world.env(SUPERVISOR_BACKUP_RESTORE=taken["id"]), program=program)) as run:
        run.wait_for("restore failed", replaced="a part")
        run.wait_for("started", child="moltis")
        assert run.find("restored")
        assert {(world.data / f"note{number}").read_text() for number in range(4)} == {"old"}
        wait_for_state(run, "idle")
        assert [each["reason"] for each in listed(run)["snapshots"]].count("before restore") == 1
        assert not list(world.folder.rglob("swapping"))


@AS_ROOT
def test_folders_of_an_image_itself_are_emptied_and_filled_again(tmp_path: Path) -> None:
    """overlayfs cannot rename them: their content is moved, and moved back if the rest cannot be."""
    folder = overlay(tmp_path, ["data/both/deep", "data/old/deep", "data/file"])
    try:
        (folder / "both/deep/note").write_text("before")
        (folder / "old/deep/note").write_text("before")
        workshop = folder / WORKSHOP
        (workshop / "files/both/deep").mkdir(parents=True)
        (workshop / "files/both").chmod(0o750)
        (workshop / "files/both/deep/new").write_text("after")
        (workshop / "files/file").write_text("after")
        with dirs.opened(str(folder)) as fd, dirs.opened(str(workshop)) as workshop_fd:
            prepared = _Prepared(BackupSource("data", str(folder), None), fd, workshop_fd)
            with small_disk(folder / "volume", "1m"), pytest.raises(OSError, match="busy"):
                _swap([prepared])
            assert contents(folder) == {"both/deep/note", "old/deep/note"}
            (folder / "volume").rmdir()
            shutil.rmtree(workshop / "before")
            _swap([prepared])
        assert contents(folder) == {"both/deep/new", "file"}
        assert sorted(os.listdir(folder)) == [WORKSHOP, "both", "file"]
        assert stat.S_IMODE((folder / "both").stat().st_mode) == 0o750
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "merged")], check=True)


def overlay(place: Path, folders: list[str]) -> Path:
    """Mount an overlay with these folders in its lower layer, and return the folder `data` in it."""
    for name in ("lower", "upper", "work", "merged"):
        (place / name).mkdir()
    for name in folders:
        (place / "lower" / name).mkdir(parents=True)
    layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
    words = ["mount", "-t", "overlay", "-o", layers, "overlay", str(place / "merged")]
    if subprocess.run(words, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    return place / "merged" / "data"


def contents(folder: Path) -> set[str]:
    """Return the files in a folder, except those in the workshop."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(WORKSHOP)}


async def test_what_was_replaced_is_removed_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is removed in a thread: thousands of files take seconds on a busy disk, and health has to be answered."""
    (tmp_path / WORKSHOP / "before").mkdir(parents=True)
    threads, really = [], shutil.rmtree

    def remove(path: str, dir_fd: int) -> None:
        threads.append(threading.current_thread())
        really(path, dir_fd=dir_fd)

    monkeypatch.setattr(shutil, "rmtree", remove)
    source = BackupSource("data", str(tmp_path), None)
    with dirs.opened(str(tmp_path)) as fd:
        async with contextlib.aclosing(Restoration(cast("Restic", None), SnapshotView("id"), [source])) as restoration:
            restoration._prepared[source] = _Prepared(source, fd, fd)
        assert not (tmp_path / WORKSHOP).exists()
        assert threads[0] is not threading.main_thread()
