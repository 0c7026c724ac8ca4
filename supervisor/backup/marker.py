"""The small file in each folder that says which repository and generation its files belong to."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from supervisor.backup.places import LOST_AND_FOUND, MARKER, WORKSHOP, opened_folder
from supervisor.backup.words import BackupError, Trouble
from supervisor.core.backup import Files, Marker
from supervisor.errors import ConfigError
from supervisor.json_input import decode_json
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.config.plan import BackupSource

_MOST_BYTES = 4096
# Something else has the name: a link, a folder, a socket.
_NO_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO})
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Kept(msgspec.Struct, frozen=True):
    """The file's content.

    ``restored`` is the id that SUPERVISOR_BACKUP_RESTORE named, once that was restored; ``swap`` is the mark of the
    restore that has put the files here, written after the last of them.
    """

    repository: str = ""
    generation: int = 0
    instance: str = ""
    restored: str = ""
    swap: str = ""

    @property
    def unswapped(self) -> Kept:
        """Return all but ``swap``, which differs between folders after a restore of the app's alone."""
        return msgspec.structs.replace(self, swap="")

    @property
    def marker(self) -> Marker:
        """Return the part on which decisions are based."""
        return Marker(self.repository, self.generation, self.instance)


# It does not name a repository, as every other one does.
_DAMAGED = Kept()


def look(sources: Iterable[BackupSource]) -> tuple[Kept | None, Files]:
    """Return the folders' marker, and the state of their content.

    Raises BackupError if that cannot be determined: files that were taken for none would be replaced.
    """
    found = []
    for source in sources:
        with _seeing(source):
            found.append((_read(source.path), _has_files(source.path)))
    kept = {each and each.unswapped for each, _ in found}
    has_files = any(some for _, some in found)
    if _DAMAGED in kept:
        return None, Files.DAMAGED
    if kept == {None}:
        return None, Files.SOME if has_files else Files.NONE
    if len(kept) > 1:
        return None, Files.MIXED
    return kept.pop(), Files.SOME if has_files else Files.NONE


def is_over(sources: Iterable[BackupSource], repository: str, mark: str) -> bool:
    """Return whether the swap with this mark has put every file in its place: each folder's marker says so.

    Raises BackupError if that cannot be determined.
    """
    found = set()
    for source in sources:
        with _seeing(source):
            kept = _read(source.path)
            found.add(kept and (kept.repository, kept.swap))
    # A record of an earlier version has no mark.
    return bool(mark) and found == {(repository, mark)}


def written_since(sources: Iterable[BackupSource], moment_s: float) -> bool:
    """Return whether a file was written after a moment; a restore sets the times that the snapshot has.

    Raises BackupError if that cannot be determined.
    """
    for source in sources:
        with _seeing(source):
            if any(os.lstat(path).st_mtime > moment_s for path in _files(source.path)):
                return True
    return False


@contextmanager
def _seeing(source: BackupSource) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"cannot see what is in {error.filename or source.path}: {error.strerror or error}"
        raise BackupError(Trouble(why, "it is tried again; check the folder and its disk")) from error


def write(sources: Iterable[BackupSource], kept: Kept) -> str:
    """Write it into each folder; return the reason of a failure, empty on success."""
    wrong = []
    for source in sources:
        try:
            with opened_folder(source) as fd:
                # What a restore has written is not synced, and a marker must not outlast it.
                dirs.put_file(fd, MARKER, msgspec.json.encode(kept).decode(), 0o644, durable=not kept.swap)
        except (OSError, ConfigError) as error:
            wrong.append(str(error))
    return "; ".join(wrong)


def remove(sources: Iterable[BackupSource]) -> None:
    """Remove it, as the files are about to be replaced."""
    for source in sources:
        with opened_folder(source) as fd:
            dirs.remove_file(fd, MARKER)


def _read(folder: str) -> Kept | None:
    try:
        with dirs.opened(os.path.join(folder, MARKER), _READ) as fd:
            return decode_json(os.read(fd, _MOST_BYTES), Kept)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return _DAMAGED
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return None


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _has_files(folder: str) -> bool:
    """Return whether there are any files."""
    return any(True for _ in _files(folder))


def _files(folder: str) -> Iterator[str]:
    """Yield the path of each file or link; the supervisor's own and the file system's are ignored. Raises OSError."""
    not_the_apps = {MARKER, WORKSHOP, LOST_AND_FOUND, "supervisor.lock"}
    for place, names, files in os.walk(folder, onerror=_unless_gone):
        if place == folder:
            names[:] = [name for name in names if name not in not_the_apps]
            files = [name for name in files if name not in not_the_apps]  # noqa: PLW2901 - as the folders above
        yield from (os.path.join(place, name) for name in files)
        yield from (path for name in names if os.path.islink(path := os.path.join(place, name)))
