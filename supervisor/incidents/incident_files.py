"""The incidents' folder: one JSON file each, written atomically and synced; unreadable files are left alone."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec

from supervisor.core.incidents import Incident, within_limits
from supervisor.errors import ConfigError
from supervisor.json_input import decode_json
from supervisor.logs.format import stamp
from supervisor.runtime.loop_latency import run_in_background
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER = "incidents"
RUN_FILE = "run.json"
MOST_INCIDENTS = 100
MOST_BYTES = 1_000_000
# Limits, as the folder may belong to another user.
_MOST_READ = 4 * MOST_INCIDENTS
_MOST_UNREAD = 20
# Per incident: a hundred of them fit.
MOST_FILE_BYTES = 64 * 1024
# Most incidents change soon after they were created, and writing beside the loop slows it: a restart, or a stop.
_TOGETHER_S = 0.05
_END = ".json"

T = TypeVar("T")


class FolderContent(msgspec.Struct):
    """The folder's content: the incidents, oldest first, the sizes of their files, and the names of unreadable ones."""

    incidents: list[Incident]
    sizes: dict[str, int]
    unread: tuple[str, ...] = ()


class IncidentFiles:
    """The folder ``incidents`` in a state folder that may belong to another user: symlinks in it are not followed.

    Files are written in the background, each in its newest version only, and what changes within 50 ms together;
    ``why_not`` is why the last write failed.
    """

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._lock = threading.Lock()
        # What is to be written, None for what is to be removed; which files are being written, and which are there.
        self._pending: dict[str, str | None] = {}
        self._under_way: frozenset[str] = frozenset()
        self._there: set[str] = set()
        # Which of the pending files are to be synced; one that waits for that is synced in its next version too.
        self._durable: set[str] = set()
        self._storing = False
        self._ending = threading.Event()
        self.why_not = ""

    def load(self) -> FolderContent:
        """Return the stored incidents. It reads up to a hundred files, so call it in a thread."""
        found = FolderContent([], {})
        unread = []
        try:
            with self._opened(make=False) as fd:
                names = sorted(name for name in os.listdir(fd) if name.endswith(_END) and not name.startswith("."))
                if len(names) > _MOST_READ:
                    unread.append(f"{FOLDER}: it holds {len(names)} files, of which the last {_MOST_READ} are read")
                for name in names[-_MOST_READ:]:
                    if name == RUN_FILE:
                        continue
                    read = _decoded(fd, name, Incident)
                    if read is None or f"{read[0].id}{_END}" != name:
                        # Another user's name of a file may be no text.
                        unread.append(os.fsencode(name).decode(errors="backslashreplace"))
                    else:
                        found.incidents.append(within_limits(read[0]))
                        found.sizes[read[0].id] = read[1]
                        self._there.add(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            unread.append(f"{FOLDER}: {dirs.reason(error)}")
        more = len(unread) - _MOST_UNREAD
        found.unread = (*unread[:_MOST_UNREAD], *([f"{more} more"] if more > 0 else []))
        return found

    def read_run(self, shape: type[T]) -> T | None:
        """Return the record of the previous run; None if it is missing or unreadable."""
        try:
            with self._opened(make=False) as fd:
                read = _decoded(fd, RUN_FILE, shape)
        except OSError:
            return None
        return read[0] if read is not None else None

    def write(self, incident: Incident) -> int:
        """Store this version of an incident; return its size in bytes."""
        data = msgspec.json.encode(incident).decode()
        self._put({f"{incident.id}{_END}": data})
        return len(data.encode())

    def write_run(self, record: msgspec.Struct, *, durable: bool) -> None:
        """Store the record of this run."""
        self._put({RUN_FILE: msgspec.json.encode(record).decode()}, durable=durable)

    def end(self) -> None:
        """Write without a delay from now on: the run ends."""
        self._ending.set()

    def remove(self, ids: Iterable[str]) -> None:
        """Remove incidents."""
        self._put({f"{each}{_END}": None for each in ids})

    def _put(self, files: dict[str, str | None], *, durable: bool = True) -> None:
        with self._lock:
            self._pending |= files
            self._forget_removed(files)
            if durable:
                self._durable.update(files)
            if self._storing or not self._pending:
                return
            self._storing = True
        run_in_background(self._store)

    def _forget_removed(self, names: Iterable[str]) -> None:
        """Forget removals of files that do not exist: on a disk that accepts no change, their names would pile up."""
        for name in tuple(names):
            if self._pending[name] is None and name not in self._there and name not in self._under_way:
                del self._pending[name]

    def _store(self) -> None:
        """Write what is new to the disk; a failed write is tried again with the next one."""
        if threading.current_thread() is not threading.main_thread():
            self._ending.wait(_TOGETHER_S)
        while True:
            with self._lock:
                todo, durable = dict(self._pending), set(self._durable)
                self._pending.clear()
                self._durable.clear()
                self._under_way = frozenset(todo)
            why_not = self._store_all(todo, durable)
            with self._lock:
                self.why_not = why_not
                self._under_way = frozenset()
                if why_not:
                    self._pending = todo | self._pending
                    self._durable |= durable
                    self._forget_removed(self._pending)
                if why_not or not self._pending:
                    self._storing = False
                    return

    def _store_all(self, todo: dict[str, str | None], durable: set[str]) -> str:
        try:
            with self._opened(make=True) as fd:
                self._write_all(fd, {name: data for name, data in todo.items() if data is not None}, durable)
                for name in [name for name, data in todo.items() if data is None]:
                    dirs.remove_file(fd, name)
                    self._there.discard(name)
        except OSError as error:
            return f"{self._state_dir}: {dirs.reason(error)}"
        except ConfigError as error:
            return str(error)
        return ""

    def _write_all(self, fd: int, texts: dict[str, str], durable: set[str]) -> None:
        """Write files, and sync the folder once for all that are durable: each sync takes about a millisecond.

        The others come last: a synced folder that has a name but not its content would have neither version of it.
        """
        synced = [name for name in texts if name in durable]
        try:
            for name in synced:
                dirs.put_file(fd, name, texts[name], durable=True, sync_folder=False)
                self._there.add(name)
        finally:
            if synced:
                dirs.sync(fd)
        for name in texts.keys() - durable:
            dirs.put_file(fd, name, texts[name])
            self._there.add(name)

    @contextmanager
    def _opened(self, *, make: bool) -> Iterator[int]:
        """Open the folder for the duration of a block. Raises OSError."""
        with dirs.opened(self._state_dir) as parent_fd:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(FOLDER, dirs.PRIVATE, dir_fd=parent_fd)
            with dirs.opened(FOLDER, folder_fd=parent_fd) as fd:
                yield fd


def story_of(incident: Incident) -> dict[str, object]:
    """Return an incident as a JSON object for the log and for alerts, with times formatted."""
    found = msgspec.to_builtins(incident)
    times = {name: stamp(found.pop(f"{name}_s")) for name in ("at", "until", "last") if f"{name}_s" in found}
    return {**times, **found}


def _decoded(folder_fd: int, name: str, shape: type[T]) -> tuple[T, int] | None:
    try:
        data = dirs.read(name, MOST_FILE_BYTES, folder_fd=folder_fd, flags=os.O_NOFOLLOW)
        return decode_json(data, shape), len(data)
    except (OSError, ValueError, msgspec.DecodeError):
        return None
