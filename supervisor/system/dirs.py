"""Private directories, locks and small files; root follows no link on the way."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from supervisor.errors import ConfigError

if TYPE_CHECKING:
    from supervisor.core.process import User

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The errors of a call that a file system does not offer: fsync(2), flock(2).
_NOT_OFFERED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK})
PRIVATE = 0o700
# Its owner, and those of its group that know a name inside it.
PASSABLE = 0o710


def run_folder(path: str, visitor: User | None) -> int:
    """Make the supervisor's own folder and return it open.

    ``visitor`` is another user who has to reach a folder inside it: passing through is then granted to that user's
    group, and nothing else. Raises ConfigError where the folder is a link, another user's, or cannot be made.
    """
    fd = _make(path, "SUPERVISOR_RUN_DIR")
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        os.close(fd)
        raise ConfigError(
            f"cannot use {path}: it belongs to user {status.st_uid}, not to {os.geteuid()}; "
            "remove it or choose another folder with SUPERVISOR_RUN_DIR"
        )
    try:
        if visitor is not None:
            os.fchown(fd, -1, visitor.gid)
        os.fchmod(fd, PRIVATE if visitor is None else PASSABLE)
    except OSError as error:
        os.close(fd)
        raise _refused(path, "SUPERVISOR_RUN_DIR", error) from error
    return fd


def owned_folder(path: str, owner: User | None, setting: str) -> int:
    """Make a folder that only ``owner`` (None: this user) can enter, hand over what is in it, and return it open.

    Raises ConfigError where it is a link, cannot be made, or cannot be written to.
    """
    fd = _make(path, setting)
    try:
        if owner is not None and os.fstat(fd).st_uid != owner.uid:
            _hand_over(fd, owner)
        if os.fstat(fd).st_uid in {os.geteuid(), owner.uid if owner else -1}:
            os.fchmod(fd, PRIVATE)
        if not os.access(".", os.W_OK, dir_fd=fd):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        os.close(fd)
        raise _refused(path, setting, error) from error
    return fd


def offer_folder(path: str) -> None:
    """Make a private folder unless it exists; failures are ignored."""
    try:
        os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
        os.mkdir(path, PRIVATE)
    except OSError:
        return


def lock(folder_fd: int, name: str, taken: str) -> tuple[int, bool]:
    """Take the lock file ``name`` in a folder, for as long as the descriptor returned stays open.

    Beside it stands whether it is locked: not every file system has locks. Raises ConfigError with the text ``taken``
    where another process has it, or where the disk refuses the file.
    """
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder_fd)
    except OSError as error:
        raise ConfigError(f"cannot create {_path(folder_fd, name)}: {error.strerror}; {_remedy(error)}") from error
    locked = True
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
            locked = False
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            raise ConfigError(taken) from error
        raise ConfigError(f"cannot write {_path(folder_fd, name)}: {error.strerror}; {_remedy(error)}") from error
    return fd, locked


def put_file(folder_fd: int, name: str, text: str, mode: int = 0o600, *, durable: bool = False) -> None:
    """Write a small file into a folder, whole or not at all; a ``durable`` one outlives a loss of power.

    Raises ConfigError where the disk refuses it.
    """
    new = f".{name}.new"
    # Made anew: in another user's folder, what has that name already may be a trap.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    remove_file(folder_fd, new)
    try:
        fd = os.open(new, flags, mode, dir_fd=folder_fd)
        try:
            left = memoryview(text.encode())
            while left:
                # A disk that fills up takes part of it.
                left = left[os.write(fd, left) :]
            if durable:
                _sync(fd)
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        if durable:
            _sync(folder_fd)
    except OSError as error:
        remove_file(folder_fd, new)
        raise ConfigError(f"cannot write {_path(folder_fd, name)}: {error.strerror}; {_remedy(error)}") from error


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems have nothing to wait for.
        if error.errno not in _NOT_OFFERED:
            raise


def remove_file(folder_fd: int, name: str) -> None:
    """Remove a file from a folder, if it is there."""
    try:
        os.unlink(name, dir_fd=folder_fd)
    except OSError:
        return


def _path(folder_fd: int, name: str) -> str:
    try:
        return os.path.join(os.readlink(f"/proc/self/fd/{folder_fd}"), name)
    except OSError:
        # There is no /proc.
        return name


def _make(path: str, setting: str) -> int:
    try:
        os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
        try:
            os.mkdir(path, PRIVATE)
        except FileExistsError:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                raise ConfigError(
                    f"cannot use {path}: it is a link; remove it or choose another folder with {setting}"
                ) from None
        return os.open(path, _DIRECTORY)
    except OSError as error:
        raise _refused(path, setting, error) from error


def _hand_over(folder_fd: int, owner: User) -> None:
    """Give a folder and what is in it to ``owner``: a volume arrives as root's, or from an older image."""
    for _, folders, files, fd in os.fwalk(".", dir_fd=folder_fd, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, owner.uid, owner.gid, dir_fd=fd, follow_symlinks=False)
    os.fchown(folder_fd, owner.uid, owner.gid)


def _refused(path: str, setting: str, error: OSError) -> ConfigError:
    return ConfigError(f"cannot use {path} as a folder: {error.strerror}; {_remedy(error, setting)}")


def _remedy(error: OSError, setting: str = "") -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some of it, or mount a larger volume"
    if error.errno == errno.EROFS:
        return "mount a volume or a tmpfs there" + (f", or set {setting}" if setting else "")
    if os.geteuid() == 0 and error.errno in {errno.EPERM, errno.EACCES}:
        return (
            "root itself may not: add CHOWN, DAC_OVERRIDE and FOWNER to the container's capabilities, or start it as "
            "another user (docker run --user 1000)"
        )
    return "make it writable for the supervisor" + (f", or choose another folder with {setting}" if setting else "")


def read(path: str, most_bytes: int, *, folder_fd: int | None = None, flags: int = 0) -> bytes:
    """Return all that is in a file.

    Raises OSError, or ValueError with the reason where it is a pipe (it could be read but once) or too large.
    """
    # O_NONBLOCK: a pipe that no one writes to must not hold anything up.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=folder_fd)
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            raise ValueError("it is a pipe, not a file")
        data = b""
        while len(data) <= most_bytes and (chunk := os.read(fd, most_bytes + 1 - len(data))):
            data += chunk
    finally:
        os.close(fd)
    if len(data) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return data


def read_text(path: str, most_bytes: int) -> str:
    """Return the text in a file, without a byte order mark. Raises OSError, or ValueError with the reason."""
    return text_of(read(path, most_bytes))


def text_of(data: bytes) -> str:
    """Return the text that bytes are, without a byte order mark. Raises ValueError where they are none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"it is not UTF-8 text (at line {line})") from error


def reason(error: OSError | ValueError) -> str:
    """Return the reason that one of these gives."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
