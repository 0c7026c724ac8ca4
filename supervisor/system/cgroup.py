"""The limits that this process's control groups set, and what is used of them; version 1 and 2 (cgroups(7))."""

from __future__ import annotations

import os

from supervisor.namedtuples import NamedTuple
from supervisor.system import procfs

_ROOT = "/sys/fs/cgroup"
# Version 1 writes no limit as the largest number of whole pages.
_UNLIMITED = 1 << 60
_MEMORY = (("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current"))
_PROCESSES = (("pids.max", "pids.current"), ("pids.max", "pids.current"))


class CgroupLimit(NamedTuple):
    """The lowest limit on the way up, and what is used there; both are None where there is none, or nobody says."""

    limit: int | None = None
    used: int | None = None


def memory() -> CgroupLimit:
    """Return the limit of memory, in bytes."""
    return _lowest("memory", *_MEMORY)


def unreclaimable_bytes() -> int | None:
    """Return the memory in use that cannot be taken back, so without the disk's cache; None where nobody says."""
    for path, name in ((f"{_ROOT}/memory.stat", b"anon"), (f"{_ROOT}/memory/memory.stat", b"total_rss")):
        for line in procfs.read(path).splitlines():
            key, _, number = line.partition(b" ")
            if key == name and number.isdigit():
                return int(number)
    return None


def processes() -> CgroupLimit:
    """Return the limit of processes, in which each thread counts."""
    return _lowest("pids", *_PROCESSES)


def _lowest(controller: str, v1: tuple[str, str], v2: tuple[str, str]) -> CgroupLimit:
    found = []
    for line in procfs.read("/proc/self/cgroup").decode(errors="replace").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            found += _limits(f"{_ROOT}/{controller}", path, v1)
        elif not controllers:
            found += _limits(_ROOT, path, v2)
    return min(found, key=lambda each: each.limit or 0, default=CgroupLimit())


def _limits(root: str, path: str, names: tuple[str, str]) -> list[CgroupLimit]:
    """Return every limit from a group up to the root; in a container the path may be one that is not shown there."""
    found = []
    path = path.rstrip("/")
    while True:
        limit, used = (_number(os.path.join(f"{root}{path}", name)) for name in names)
        if limit is not None and limit < _UNLIMITED:
            found.append(CgroupLimit(limit, used))
        if not path:
            return found
        path = path.rpartition("/")[0]


def _number(path: str) -> int | None:
    text = procfs.read(path).strip()
    return int(text) if text.isdigit() else None
