"""Folders that belong to the supervisor alone, and their locks."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from supervisor.core.process import User
from supervisor.errors import ConfigError
from supervisor.system import dirs

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = User("nobody", 65534, 65534, "/")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a folder over")


def mode(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_run_folder_is_closed(tmp_path: Path) -> None:
    """It has mode 0700, even if it was open before; another user may traverse it by its group, but no more."""
    path = tmp_path / "a" / "run"
    os.close(dirs.run_folder(str(path), None))
    assert mode(path) == 0o700
    path.chmod(0o777)
    os.close(dirs.run_folder(str(path), None))
    assert mode(path) == 0o700


@as_root
def test_a_visitor_may_pass_through_the_run_folder(tmp_path: Path) -> None:
    """tailscaled as another user reaches its own folder inside, and cannot list the run folder."""
    path = tmp_path / "run"
    os.close(dirs.run_folder(str(path), NOBODY))
    assert (mode(path), path.stat().st_gid, path.stat().st_uid) == (0o710, 65534, 0)


@as_root
def test_a_run_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Someone else may have put it there."""
    path = tmp_path / "run"
    path.mkdir()
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to user 65534"):
        dirs.run_folder(str(path), None)


@as_root
def test_a_volume_is_handed_over_and_no_link_followed(tmp_path: Path) -> None:
    """Its content becomes the user's; the target of a link in it does not."""
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "deep").mkdir(parents=True)
    outside.write_text("root's")
    (volume / "deep" / "file").write_text("x")
    (volume / "link").symlink_to(outside)
    os.close(dirs.owned_folder(str(volume), NOBODY, "TS_STATE_DIR"))
    assert (volume.stat().st_uid, mode(volume)) == (65534, 0o700)
    assert (volume / "deep" / "file").stat().st_uid == 65534
    assert outside.stat().st_uid == 0


def test_a_link_is_refused(tmp_path: Path) -> None:
    """The creator of the link would choose what is written to."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="it is a link"):
        dirs.run_folder(str(tmp_path / "link"), None)
    with pytest.raises(ConfigError, match="it is a link"):
        dirs.owned_folder(str(tmp_path / "link"), None, "X")


def test_a_lock_is_taken_once(tmp_path: Path) -> None:
    """It is free again when its holder is gone."""
    folder = os.open(tmp_path, os.O_RDONLY)
    first, locked = dirs.lock(folder, "lock", "taken")
    assert locked
    with pytest.raises(ConfigError, match="taken"):
        dirs.lock(folder, "lock", "taken")
    os.close(first)
    os.close(dirs.lock(folder, "lock", "taken")[0])
    os.close(folder)


@as_root
def test_a_folder_that_is_locked_is_left_as_it_is(tmp_path: Path) -> None:
    """Before, a second supervisor that was refused took the folders away from the first one's tailscaled."""
    tmp_path.chmod(0o750)
    folder = os.open(tmp_path, os.O_RDONLY)
    held, _ = dirs.lock(folder, dirs.LOCK_FILE, "taken")
    with pytest.raises(ConfigError, match="taken"):
        dirs.run_folder(str(tmp_path), None, "taken")
    with pytest.raises(ConfigError, match="taken"):
        dirs.owned_folder(str(tmp_path), NOBODY, "TS_STATE_DIR", "taken")
    assert (mode(tmp_path), tmp_path.stat().st_uid) == (0o750, os.geteuid())
    os.close(held)
    os.close(dirs.owned_folder(str(tmp_path), NOBODY, "TS_STATE_DIR", "taken"))
    assert (mode(tmp_path), tmp_path.stat().st_uid) == (0o700, NOBODY.uid)
    os.close(folder)


def test_no_trap_is_written_to(tmp_path: Path) -> None:
    """The folder's owner may have put a link, or a file open to all, where the new one is to be created."""
    folder = os.open(tmp_path, os.O_RDONLY)
    outside = tmp_path / "outside"
    outside.write_text("root's")
    for trap in (tmp_path / ".name.new", tmp_path / "name"):
        trap.symlink_to(outside)
        dirs.put_file(folder, "name", "ours")
        assert (outside.read_text(), (tmp_path / "name").read_text()) == ("root's", "ours")
        assert not (tmp_path / "name").is_symlink()
        (tmp_path / "name").unlink()
    (tmp_path / ".name.new").write_text("open")
    (tmp_path / ".name.new").chmod(0o666)
    dirs.put_file(folder, "name", "ours")
    assert mode(tmp_path / "name") == 0o600
    os.close(folder)


def test_a_file_is_put_whole(tmp_path: Path) -> None:
    """Readers see the old text or the new one."""
    folder = os.open(tmp_path, os.O_RDONLY)
    dirs.put_file(folder, "name", "one")
    dirs.put_file(folder, "name", "two")
    assert os.listdir(tmp_path) == ["name"]
    assert (tmp_path / "name").read_text() == "two"
    dirs.remove_file(folder, "name")
    dirs.remove_file(folder, "name")
    assert os.listdir(tmp_path) == []
    os.close(folder)


def test_what_cannot_be_written_is_named_in_full(tmp_path: Path) -> None:
    """There are two folders with a lock: the message says which."""
    (tmp_path / "lock").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(ConfigError, match=str(tmp_path / "lock")):
        dirs.lock(folder, "lock", "taken")
    os.close(folder)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "raise the limit of open files"),
        (errno.ENFILE, "the machine has too many open files"),
        (errno.ENOMEM, "give the container more memory"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EROFS, "mount a volume"),
        (errno.EIO, "check the path and its disk"),
        (errno.EISDIR, "remove what is at that path"),
        (errno.ENOTDIR, "remove what is at that path"),
        (errno.ESTALE, "check the path and its disk"),
        (errno.EACCES, "root itself may not" if os.geteuid() == 0 else "make it writable"),
    ],
)
def test_the_remedy_is_for_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    """Rights are only named if they are missing: a limit or a disk has another remedy."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    folder = os.open(tmp_path, os.O_RDONLY)
    for call in ("fcntl.flock", "os.open"):
        monkeypatch.setattr(call, fail)
        with pytest.raises(ConfigError, match=f"{os.strerror(number)}; {remedy}") as raised:
            dirs.lock(folder, "lock", "taken")
        assert "writable" not in str(raised.value) or number == errno.EACCES
    with pytest.raises(ConfigError, match=f"{os.strerror(number)}; {remedy}"):
        dirs.run_folder(str(tmp_path / "run"), None)
    os.close(folder)


def test_a_folder_that_a_run_can_do_without(tmp_path: Path) -> None:
    """It is created if possible, as a private one, and an existing one stays as it is."""
    dirs.offer_folder(str(tmp_path / "new/kept"))
    assert mode(tmp_path / "new/kept") == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    dirs.offer_folder(str(tmp_path / "open"))
    assert mode(tmp_path / "open") == 0o755
    (tmp_path / "file").touch()
    dirs.offer_folder(str(tmp_path / "file/kept"))
