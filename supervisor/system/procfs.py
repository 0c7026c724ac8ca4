"""Processes in /proc: their ancestry, the managed process they belong to, and their resource usage."""

from __future__ import annotations

import os
from collections import deque
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from supervisor.characters import printable
from supervisor.system import kernel
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.system.spawn import MARK, mark

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from supervisor.core.process import ProcessSpec

_DEAD = frozenset({b"Z", b"X"})
_STOPPED = b"T"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Limit of descriptors that are examined for a process.
_MOST_FILES = 1000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# In the /proc of another pid namespace these numbers are other processes: there, none is found.
_PROC = "/proc" if kernel.shows_processes() else "/nonexistent"
# Missing if the kernel was built without CONFIG_PROC_CHILDREN.
_CHILDREN_LISTED = os.path.exists(f"{_PROC}/self/task/{os.getpid()}/children")


class Process(NamedTuple):
    """A live process.

    ``born`` is its start time in ticks since boot, which distinguishes it from a later one with its pid. ``folder`` is
    the folder in /proc of one of its live threads.
    """

    pid: int
    name: str
    stopped: bool
    parent: int
    group: int
    session: int
    born: int
    folder: str


def read(path: str) -> bytes:
    """Return the content of a file in /proc; empty if it is gone or not readable."""
    return DESCRIPTORS.found(lambda: kernel.content(path), b"")


def children(pid: int) -> list[int]:
    """Return the live and dead children of a process; empty if it has ended."""
    # After an exit this process often has none left, and reading that takes twenty system calls.
    if pid == os.getpid() and not _has_children():
        return []
    if not _CHILDREN_LISTED:
        return [other for other in every_pid() if parent(other) == pid]
    return [
        child
        for task in _names(f"{_PROC}/{pid}/task")
        for child in map(int, read(f"{_PROC}/{pid}/task/{task}/children").split())
    ]


def _has_children() -> bool:
    """Return whether this process has children, live or dead, without reaping any."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # noqa: TID251 - it reaps none
    except ChildProcessError:
        return False
    except OSError:
        # A sandbox may not offer this call.
        pass
    return True


def descendants(pid: int) -> Iterator[int]:
    """Yield all descendants of a process, the nearest first."""
    queue = deque(children(pid))
    while queue:
        found = queue.popleft()
        yield found
        queue.extend(children(found))


def every_pid() -> list[int]:
    """Return all processes in /proc; none if it is missing, or belongs to another pid namespace."""
    return [int(name) for name in _names(_PROC) if name.isdigit()]


def parent(pid: int) -> int | None:
    """Return the parent of a process."""
    fields = _fields(f"{_PROC}/{pid}")
    return int(fields[1]) if fields else None


def name_and_parent(pid: int) -> tuple[bytes, int] | None:
    """Return the short name and the parent of a process, which may be dead; None if it is gone.

    Raises OSError if it cannot be read.
    """
    try:
        with open(f"{_PROC}/{pid}/stat", "rb", buffering=0) as file:
            head, _, rest = file.read().rpartition(b") ")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return head.partition(b" (")[2], int(rest.split()[1])


def look(pid: int) -> Process | None:
    """Return a process with a live thread, which need not be its first; None if it has none."""
    head, _, rest = read(f"{_PROC}/{pid}/stat").rpartition(b") ")
    fields = rest.split()
    folder, state = _living(pid, fields)
    if not folder:
        return None
    name = printable(head.partition(b" (")[2].decode(errors="replace"))
    stopped = state == _STOPPED
    return Process(pid, name, stopped, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), folder)


def folder_of(pid: int) -> str:
    """Return the folder in /proc of a live thread of a process; empty if there is none."""
    return _living(pid, _fields(f"{_PROC}/{pid}"))[0]


def lives_on(process: Process) -> bool:
    """Return whether a process is alive and its pid was not reused."""
    now = look(process.pid)
    return now is not None and now.born == process.born


def name_of(pid: int) -> str:
    """Return the short name of a process (comm)."""
    # Each process chooses its own.
    return printable(read(f"{_PROC}/{pid}/comm").decode(errors="replace").strip()) or str(pid)


def memory_bytes(pid: int) -> int | None:
    """Return the resident memory of a process in bytes."""
    fields = _fields(folder_of(pid))
    return int(fields[21]) * _PAGE_BYTES if fields else None


def own_peak_kib() -> int | None:
    """Return the peak resident memory of this program in KiB, None if unknown.

    ru_maxrss of getrusage(2) also counts the program that was replaced by this one.
    """
    for line in read("/proc/self/status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1])
    return None


def cpu_s(pid: int) -> float | None:
    """Return the CPU time of a process in seconds."""
    fields = _fields(f"{_PROC}/{pid}")
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else None


def state_of(pid: int) -> str:
    """Return the state letter of a process's first live thread (proc(5)); empty if it has ended."""
    return _living(pid, _fields(f"{_PROC}/{pid}"))[1].decode()


class Remains:
    """Finds what a run of a process left behind, among the descendants of this process.

    It is recognised by session and process group, the pipes of its output, the mark in its environment, and its user if
    no other process has it. A process can drop each of these, but usually keeps another. Its descendants belong to it,
    and what was found once stays found. ``pid`` is that of the run, ``pipes`` are the inodes of its output. A process
    that has dropped all of them is not found, nor one that never was a descendant; an orphan of which nothing tells
    whose it is, is a stranger.
    """

    def __init__(self, spec: ProcessSpec, pid: int, pipes: Collection[int]) -> None:
        self._pid = pid
        self._mark = _marked(spec.name)
        self._pipes = frozenset(f"pipe:[{inode}]" for inode in pipes)
        self._uid = f"\nUid:\t{spec.user.uid}\t".encode() if spec.user and not spec.shares_user else b""
        # Where a user is not enough, what is its own is seen as that user.
        other = spec.user if spec.shares_user else None
        self._reader = partial(kernel.reading_as, other.uid, other.gid) if other else nullcontext
        self._known: dict[int, int] = {}
        self._strangers: dict[int, Process] = {}

    def find(self, orphans: Iterable[int]) -> Iterator[Process | None]:
        """Yield them one by one, and None for each other process, since the search may take long.

        ``orphans`` are the children of this process that are not managed; the descendants of managed ones are theirs.
        """
        own = os.getpid()
        queue = deque((pid, False) for pid in orphans)
        while queue:
            pid, inherits = queue.popleft()
            process = look(pid)
            if process is None or not (inherits or self._belongs(process)):
                if process is not None and process.parent == own:
                    self._strangers[pid] = process
                yield None
            else:
                inherits = True
                self._known[pid] = process.born
                yield process
            queue.extend((child, inherits) for child in children(pid))

    def strangers_since(self, begun_s: float) -> list[str]:
        """Return the names of the strangers that were started at this time since boot in seconds, or later."""
        return sorted({each.name for each in self._strangers.values() if each.born >= int(begun_s * _TICKS_PER_S)})

    def _belongs(self, process: Process) -> bool:
        return (
            self._known.get(process.pid) == process.born
            or self._pid in {process.session, process.group}
            # The owner of the folder cannot be used: it is root for an undumpable process.
            or bool(self._uid and self._uid in read(f"{process.folder}/status"))
            or self._has_mark(process.folder)
        )

    def _has_mark(self, folder: str) -> bool:
        with self._reader():
            return self._mark in read(f"{folder}/environ").split(b"\0") or bool(
                self._pipes and not self._pipes.isdisjoint((target for _, target in open_files(folder, _MOST_FILES)))
            )


def everything_else() -> Iterator[Process | None]:
    """Yield all other live processes: all of the container as process 1, else the descendants.

    None stands for a process that is not alive.
    """
    own = os.getpid()
    yield from (look(pid) for pid in (every_pid() if own == 1 else descendants(own)) if pid != own)


def owner_of(pid: int, managed: Mapping[int, str]) -> str:
    """Return the name of the managed process that a process descends from or is marked as; empty if there is none.

    ``managed`` are the names by pid.
    """
    ancestor: int | None = pid
    while ancestor:
        if ancestor in managed:
            return managed[ancestor]
        ancestor = parent(ancestor)
    # A daemon has a different parent, but keeps its session, or the environment it was started with.
    process = look(pid)
    if process is None:
        return ""
    if process.session in managed:
        return managed[process.session]
    environ = read(f"{process.folder}/environ").split(b"\0")
    return next((name for name in managed.values() if _marked(name) in environ), "")


def _marked(name: str) -> bytes:
    return f"{MARK}={mark(name)}".encode()


def open_files(folder: str, most: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield the path of each descriptor of a process, and its target as the kernel prints it: ``pipe:[4711]``."""
    for name in _names(f"{folder}/fd")[:most]:
        path = f"{folder}/fd/{name}"
        yield path, target_of(path)


def target_of(path: str) -> str:
    """Return the target of a link; empty if it is gone."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _living(pid: int, fields: list[bytes]) -> tuple[str, bytes]:
    """Return the folder and state of a live thread, both empty if there is none.

    The first thread, whose ``fields`` are given, may have ended before the others.
    """
    if not fields:
        return "", b""
    if fields[0] not in _DEAD:
        return f"{_PROC}/{pid}", fields[0]
    threads = _names(f"{_PROC}/{pid}/task")
    if not threads and int(fields[17]) > 1:
        # gVisor counts threads, and lists them only while the first one lives.
        return f"{_PROC}/{pid}", fields[0]
    for thread in threads:
        folder = f"{_PROC}/{pid}/task/{thread}"
        state = (_fields(folder) or [b"X"])[0]
        if state not in _DEAD:
            return folder, state
    return "", b""


def _names(folder: str) -> list[str]:
    """Return what is in a folder of /proc; nothing if it is gone or not readable."""
    return DESCRIPTORS.found(lambda: os.listdir(folder), [])


def _fields(folder: str) -> list[bytes]:
    """Return the fields of a stat file after the name: state, parent, group … (proc(5), from the third on)."""
    return read(f"{folder}/stat").rpartition(b") ")[2].split()
