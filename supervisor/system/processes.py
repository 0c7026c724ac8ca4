"""Reads /proc: who descends from whom, who is whose, what they use."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from supervisor.system.spawn import MARK, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from supervisor.core.model import ProcessSpec

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Absent where the kernel was built without CONFIG_PROC_CHILDREN.
_CHILDREN_LISTED = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children(pid: int) -> list[int]:
    """Return the live and dead children of a process; empty where it is gone."""
    if not _CHILDREN_LISTED:
        return [other for other in every_pid() if parent(other) == pid]
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(f"/proc/{pid}/task/{task}/children").split()]


def descendants(pid: int, without: Collection[int] = ()) -> Iterator[int]:
    """Yield everything below a process, nearest first; what is below one of ``without`` is left out with it."""
    queue = deque(children(pid))
    while queue:
        found = queue.popleft()
        if found in without:
            continue
        yield found
        queue.extend(children(found))


def every_pid() -> list[int]:
    """Return every process that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent(pid: int) -> int | None:
    """Return a process's parent."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def is_dead(pid: int) -> bool:
    """Tell whether a process is gone, or only waits to be reaped."""
    fields = _stat(pid)
    return not fields or fields[0] in {b"Z", b"X"}


def name_of(pid: int) -> str:
    """Return a process's short name as the kernel keeps it."""
    return _read(f"/proc/{pid}/comm").decode(errors="replace").strip() or str(pid)


def command_line(pid: int) -> bytes:
    """Return a process's words, each with a zero byte behind it; none where it is gone."""
    return _read(f"/proc/{pid}/cmdline")


def memory_bytes(pid: int) -> int | None:
    """Return the resident memory of a process."""
    fields = _stat(pid)
    return int(fields[21]) * _PAGE_BYTES if fields else None


def cpu_s(pid: int) -> float | None:
    """Return the processor time a process has used, in seconds."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else None


def remains_of(spec: ProcessSpec, managed: Collection[int]) -> list[int]:
    """Return what a process that ended left behind, among everything below this one.

    Its own user tells, or where that is shared, the mark that was put into its environment. ``managed`` are live
    children: they and what is below them belong to someone.
    """
    belongs = _has_mark(spec.name) if spec.shares_user or spec.user is None else _has_uid(spec.user.uid)
    return [pid for pid in descendants(os.getpid(), managed) if belongs(pid) and not is_dead(pid)]


def everything_else() -> list[int]:
    """Return all that is alive and not this process: the container as process 1, else whatever is below."""
    if os.getpid() == 1:
        return [pid for pid in every_pid() if pid != 1 and not is_dead(pid)]
    return [pid for pid in descendants(os.getpid()) if not is_dead(pid)]


def owner_of(pid: int, managed: Mapping[int, str]) -> str:
    """Return the name of the managed process that a process descends from, or is marked as; nothing for neither.

    ``managed`` are the names by pid.
    """
    ancestor: int | None = pid
    while ancestor:
        if ancestor in managed:
            return managed[ancestor]
        ancestor = parent(ancestor)
    # One that made itself a daemon has no parent to tell, but the environment it was born with.
    environ = _read(f"/proc/{pid}/environ").split(b"\0")
    return next((name for name in managed.values() if f"{MARK}={mark(name)}".encode() in environ), "")


def _has_mark(name: str) -> Callable[[int], bool]:
    wanted = f"{MARK}={mark(name)}".encode()
    return lambda pid: wanted in _read(f"/proc/{pid}/environ").split(b"\0")


def _has_uid(uid: int) -> Callable[[int], bool]:
    # The folder's owner does not tell: it is root's for a process that made itself undumpable.
    wanted = f"\nUid:\t{uid}\t".encode()
    return lambda pid: wanted in _read(f"/proc/{pid}/status")


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat behind the name: state, parent, group … (proc(5), from the third on)."""
    return _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
