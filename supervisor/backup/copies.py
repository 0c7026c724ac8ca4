"""Copies SQLite databases with SQLite itself; run as the app's user, with only the standard library.

    python -I -m supervisor.backup.copies TARGET FOLDER…

Each database below a folder is recognized by its header, and copied to the same path below TARGET. A copy of one that
has not changed is left as it is. Each line of output is a JSON object about one database, the last has ``done``; a
``path`` has one character for each of its bytes, as JSON has no other way to write a name that is not UTF-8.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import stat
import sys
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"SQLite format 3\0"
BESIDE = ("-wal", "-shm", "-journal")
# The folder in which a restore is prepared, as in `places`: its files are of another time, and must not be opened.
WORKSHOP = ".moltis-supervisor"
# The file system's own, as in `places`.
_LOST_AND_FOUND = "lost+found"
_INDEX = ".copies.json"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CLOSED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM})
_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
# Space that always stays free on the disk.
_RESERVE_BYTES = 64 * 1024 * 1024
_STEP_PAGES = 256
_STEP_PAUSE_S = 0.005
# Each write by another process restarts a copy in steps: with many of them it would never end.
_MOST_RESTARTS = 3
# A busy writer leaves short gaps only; waiting for one blocks no other process.
_BUSY_S = 30.0
# A change within one clock tick does not show in a file's time.
_SETTLED_NS = 2_000_000_000


class _RestartedError(Exception):
    """A copy in steps was restarted too often."""


class _NoRoomError(Exception):
    """The copy would fill the disk."""


def main(target: str, folders: list[str]) -> int:
    """Copy all databases and report each. Return 0 even if some failed: the output says which."""
    os.umask(0o077)
    known = _read_index(target)
    index: dict[str, Any] = {}
    kept = set()
    for path in _databases(folders):
        copy = target + path
        said: dict[str, Any] = {"path": os.fsencode(path).decode("latin-1")}
        try:
            seen = _fingerprint(path)
            settled = _is_settled(seen)
            if known.get(path) == seen and os.path.exists(copy):
                said["state"] = "unchanged"
            else:
                said |= {"state": "copied", "waited_s": round(_copy(path, copy), 3)}
            kept.add(copy)
            if settled:
                index[path] = seen
        except (OSError, sqlite3.Error, _NoRoomError) as error:
            why = os.fsencode(str(error)).decode(errors="replace")
            said |= {"state": "failed", "why": why, "no_room": isinstance(error, _NoRoomError)}
        _tell(said)
    try:
        _remove_others(target, kept)
    except OSError as error:
        _complain("cannot remove copies of databases that are gone", error)
    _write_index(target, index)
    _tell({"done": True})
    return 0


def _tell(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _databases(folders: list[str]) -> Iterator[str]:
    for folder in folders:
        for place, inner, names in os.walk(folder, onerror=_unless_closed):
            if place == folder:
                inner[:] = [name for name in inner if name not in {WORKSHOP, _LOST_AND_FOUND}]
            for name in names:
                path = os.path.join(place, name)
                if not name.endswith(BESIDE) and _is_database(path):
                    yield path


def _unless_closed(error: OSError) -> None:
    """Report a folder that could not be read, unless it is gone, or closed to the app, which has no database there."""
    if error.errno not in _CLOSED:
        _complain(f"cannot look for databases in {error.filename}", error)


def _complain(what: str, error: OSError) -> None:
    # It counts as missing in the snapshot, as all that is written there.
    sys.stderr.write(f"{os.fsencode(what).decode(errors='replace')}: {error.strerror or error}\n")


def _is_database(path: str) -> bool:
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        # restic reports a file that it cannot open.
        if error.errno in _LACK:
            _complain(f"cannot look at {path}", error)
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and os.read(fd, len(HEAD)) == HEAD
    except OSError:
        return False
    finally:
        os.close(fd)


def _fingerprint(path: str) -> list[list[int]]:
    """Return a value that changes when the database does."""
    found = []
    # Without -shm, as every reader changes it.
    for beside in ("", "-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path + beside)
            found.append([status.st_ino, status.st_size, status.st_mtime_ns])
    return found


def _is_settled(seen: list[list[int]]) -> bool:
    return all(time.time_ns() - changed_ns > _SETTLED_NS for _, _, changed_ns in seen)


def _copy(path: str, copy: str) -> float:
    """Copy one database; return for how long writers may have been blocked, in seconds."""
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    size = os.stat(path).st_size
    room = os.statvfs(os.path.dirname(copy))
    if room.f_bavail * room.f_frsize < size + _RESERVE_BYTES:
        raise _NoRoomError(f"a copy of {size} bytes would fill the disk")
    new = f"{copy}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    with contextlib.closing(_opened(path)) as source:
        # A read transaction in WAL mode blocks no writer, and sees one point in time.
        in_wal = source.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        waited_s = 0.0
        with contextlib.closing(sqlite3.connect(new)) as target:
            if in_wal or not _in_steps(source, target):
                begin_s = time.monotonic()
                source.backup(target, pages=-1, sleep=_STEP_PAUSE_S)
                waited_s = 0.0 if in_wal else time.monotonic() - begin_s
            target.execute("PRAGMA journal_mode=DELETE")
    os.replace(new, copy)
    return waited_s


def _opened(path: str) -> sqlite3.Connection:
    # Read and write: the journal of a crash has to be rolled back before the content is consistent.
    return sqlite3.connect(f"file:{urllib.parse.quote(os.fsencode(path))}?mode=rw", uri=True, timeout=_BUSY_S)


def _in_steps(source: sqlite3.Connection, target: sqlite3.Connection) -> bool:
    """Copy in steps, between which writers have their turn; return whether the copy is complete."""
    last, restarts = sys.maxsize, 0

    def look(_status: int, remaining: int, _total: int) -> None:
        nonlocal last, restarts
        restarts += remaining > last
        last = remaining
        if restarts >= _MOST_RESTARTS:
            raise _RestartedError

    try:
        source.backup(target, pages=_STEP_PAGES, progress=look, sleep=_STEP_PAUSE_S)
    except _RestartedError:
        return False
    return True


def _raised(error: OSError) -> NoReturn:
    raise error


def _remove_others(target: str, kept: set[str]) -> None:
    """Remove all other copies: a restore would put them in the place of what is there now."""
    for place, folders, names in os.walk(target, topdown=False, onerror=_raised):
        for name in names:
            path = os.path.join(place, name)
            if path not in kept:
                os.unlink(path)
        for name in folders:
            # Only an empty folder is removed.
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(place, name))


def _read_index(target: str) -> dict[str, Any]:
    try:
        with open(os.path.join(target, _INDEX), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_index(target: str, index: dict[str, Any]) -> None:
    with open(os.path.join(target, _INDEX), "w", encoding="utf-8") as file:
        json.dump(index, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
