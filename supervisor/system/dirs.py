"""Private directories, lock files and small files; root follows no symbolic link."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from supervisor.errors import ConfigError, remedy_for_resources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.process import User

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# In the run folder and in the state folder.
LOCK_FILE = "supervisor.lock"
# In the run folder alone.
CONTROL_SOCKET = "control.sock"
_FLOCK, _MOST_OF_LOCKS = "FLOCK", 1024 * 1024
# Errors of fsync(2) and flock(2) on file systems that do not support them.
_NOT_OFFERED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK})
_NOT_ALLOWED = frozenset({errno.EPERM, errno.EACCES})
_IN_THE_WAY = frozenset({errno.EADDRINUSE, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY})
PRIVATE = 0o700
# For the owner, and for members of the group that know a name inside.
PASSABLE = 0o710


def run_folder(path: str, visitor: User | None, taken: str = "") -> int:
    """Create the run folder if needed, and return a descriptor of it.

    ``visitor`` is a user who has to reach a folder inside it; its group then gets search permission and nothing else.
    Raises ConfigError if the folder is a link, belongs to another user, or cannot be created, and with the text
    ``taken`` if another supervisor has locked it.
    """
    fd = _make(path, "SUPERVISOR_RUN_DIR", taken)
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


def owned_folder(path: str, owner: User | None, setting: str, taken: str = "") -> int:
    """Create a private folder of ``owner`` (None: this user) if needed, and return a descriptor of it.

    The content of an existing folder is given to ``owner`` too. Raises ConfigError if the folder is a link, or cannot
    be created or written to, and with the text ``taken`` if another supervisor has locked it.
    """
    fd = _make(path, setting, taken)
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
    """Create a private folder unless it exists; failures are ignored."""
    try:
        os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
        os.mkdir(path, PRIVATE)
    except OSError:
        return


def lock(folder_fd: int, name: str, taken: str) -> tuple[int, bool]:
    """Lock the file ``name`` in a folder; return its descriptor, which holds the lock, and whether it is locked.

    It stays unlocked on a file system without locks. Raises ConfigError, with the text ``taken`` if another process
    holds the lock, and with the reason if the file cannot be created.
    """
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder_fd)
    except OSError as error:
        raise ConfigError(f"cannot create {_path(folder_fd, name)}: {error.strerror}; {_remedy(error)}") from error
    try:
        locked = take_lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            raise ConfigError(taken) from error
        raise ConfigError(f"cannot write {_path(folder_fd, name)}: {error.strerror}; {_remedy(error)}") from error
    return fd, locked


def take_lock(fd: int, operation: int) -> bool:
    """Lock an open file (flock(2)); return False on a file system without locks. Raises OSError."""
    try:
        fcntl.flock(fd, operation)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
        return False
    return True


def is_locked(path: str) -> bool:
    """Return whether a process holds a lock on a file, without taking one (proc(5), /proc/locks)."""
    try:
        status = os.stat(path)
        locks = read_text("/proc/locks", _MOST_OF_LOCKS)
    except (OSError, ValueError):
        return False
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(words[1] == _FLOCK and inode in words for words in (line.split() for line in locks.splitlines()))


def put_file(
    folder_fd: int, name: str, text: str, mode: int = 0o600, *, durable: bool = False, sync_folder: bool = True
) -> None:
    """Write a small file into a folder atomically; with ``durable`` it is synced to survive a power loss.

    Whoever writes several can sync the folder once, after them. Raises ConfigError if it cannot be written.
    """
    new = f".{name}.new"
    # Always a new file: in another user's folder an existing one of that name may be a trap.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    remove_file(folder_fd, new)
    try:
        fd = os.open(new, flags, mode, dir_fd=folder_fd)
        try:
            left = memoryview(text.encode())
            while left:
                # A disk that fills up accepts a part of it.
                left = left[os.write(fd, left) :]
            if durable:
                sync(fd)
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        if durable and sync_folder:
            sync(folder_fd)
    except OSError as error:
        remove_file(folder_fd, new)
        raise ConfigError(f"cannot write {_path(folder_fd, name)}: {error.strerror}; {_remedy(error)}") from error


def sync(fd: int) -> None:
    """Write a file or folder to the disk, where its file system can do that. Raises OSError."""
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems do not support fsync.
        if error.errno not in _NOT_OFFERED:
            raise


@contextmanager
def opened(path: str, flags: int = FOLDER, folder_fd: int | None = None) -> Iterator[int]:
    """Open a path for the duration of a block; a folder unless the flags say otherwise."""
    fd = os.open(path, flags, dir_fd=folder_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def remove_file(folder_fd: int, name: str) -> None:
    """Remove a file from a folder if it exists; failures are ignored."""
    try:
        os.unlink(name, dir_fd=folder_fd)
    except OSError:
        return


def remove_socket(folder_fd: int, name: str) -> None:
    """Remove a socket from a folder if it exists; anything else of that name stays, and failures are ignored."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder_fd)


def instead_of_socket(path: str) -> str:
    """Return what is at a path, such as `a file`; empty for a socket, for nothing, and if that cannot be told."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return ""
    if stat.S_ISSOCK(mode):
        return ""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _path(folder_fd: int, name: str) -> str:
    try:
        return os.path.join(os.readlink(f"/proc/self/fd/{folder_fd}"), name)
    except OSError:
        # /proc is not mounted.
        return name


def _make(path: str, setting: str, taken: str) -> int:
    fd = _opened(path, setting)
    # Before anything in it is changed: that would take the folder away from the other one.
    if taken and _is_taken(fd):
        os.close(fd)
        raise ConfigError(taken)
    return fd


def _is_taken(folder_fd: int) -> bool:
    """Return whether another process has locked the lock file in a folder, if there is one and that can be told."""
    try:
        fd = os.open(LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(fd)
    return False


def _opened(path: str, setting: str) -> int:
    try:
        os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
        try:
            os.mkdir(path, PRIVATE)
        except FileExistsError:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                raise ConfigError(
                    f"cannot use {path}: it is a link; remove it or choose another folder with {setting}"
                ) from None
        return os.open(path, FOLDER)
    except OSError as error:
        raise _refused(path, setting, error) from error


def raised(error: OSError) -> NoReturn:
    """Raise it: `os.walk` and `os.fwalk` pass over a folder that cannot be read unless they are given this."""
    raise error


def _hand_over(folder_fd: int, owner: User) -> None:
    """Make ``owner`` the owner of a folder and its content: new volumes belong to root, or to an older image's user."""
    for _, folders, files, fd in os.fwalk(".", onerror=raised, dir_fd=folder_fd, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, owner.uid, owner.gid, dir_fd=fd, follow_symlinks=False)
    os.fchown(folder_fd, owner.uid, owner.gid)


def _refused(path: str, setting: str, error: OSError) -> ConfigError:
    return ConfigError(f"cannot use {path} as a folder: {error.strerror}; {_remedy(error, setting)}")


def _remedy(error: OSError, setting: str = "") -> str:
    if error.errno == errno.EROFS:
        return "mount a volume or a tmpfs there" + (f", or set {setting}" if setting else "")
    if used_up := remedy_for_resources(error):
        return used_up
    if os.geteuid() == 0 and error.errno in _NOT_ALLOWED:
        return (
            "root itself may not: add CHOWN, DAC_OVERRIDE and FOWNER to the container's capabilities, or start it as "
            "another user (docker run --user 1000)"
        )
    to_do = "make it writable for the supervisor" if error.errno in _NOT_ALLOWED else "check the path and its disk"
    to_do = in_the_way(error) or to_do
    return to_do + (f", or choose another folder with {setting}" if setting else "")


def in_the_way(error: OSError) -> str:
    """Return what to do where a file or folder of another kind prevents making one; empty for all other errors."""
    return "remove what is at that path" if error.errno in _IN_THE_WAY else ""


def read(path: str, most_bytes: int, *, folder_fd: int | None = None, flags: int = 0) -> bytes:
    """Return the content of a file.

    Raises OSError, or ValueError with the reason if it is larger than ``most_bytes``, or a pipe (which could be read
    only once).
    """
    # O_NONBLOCK: opening a pipe without a writer must not block.
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
    """Decode UTF-8, without a byte order mark. Raises ValueError with the line of the first invalid byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"it is not UTF-8 text (at line {line})") from error


def reason(error: OSError | ValueError) -> str:
    """Return the reason of an error as text."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
