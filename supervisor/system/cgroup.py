"""The limits of this process's control groups and their usage; version 1 and 2 (cgroups(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple
from supervisor.system import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = "/sys/fs/cgroup"
# Version 1 represents no limit as the largest number of whole pages.
_UNLIMITED = 1 << 60
# Memory that cannot be reclaimed, which excludes the page cache: version 2, version 1.
_IN_USE = (b"anon", b"total_rss")


class CgroupLimit(NamedTuple):
    """The lowest limit of the group and its ancestors, and the usage there; both are None if there is none known."""

    limit: int | None = None
    used: int | None = None


def memory() -> CgroupLimit:
    """Return the limit of memory, in bytes."""
    folder, limit = _lowest("memory", "memory.limit_in_bytes", "memory.max")
    if limit is None:
        return CgroupLimit()
    return CgroupLimit(limit, _in_use(folder))


def unreclaimable_bytes() -> int | None:
    """Return the memory in use that cannot be reclaimed, in bytes; None if the kernel does not report it."""
    used = _in_use(_ROOT)
    return _in_use(f"{_ROOT}/memory") if used is None else used


def processes() -> CgroupLimit:
    """Return the limit of processes, which includes threads."""
    folder, limit = _lowest("pids", "pids.max", "pids.max")
    return CgroupLimit(limit, _number(f"{folder}/pids.current")) if limit is not None else CgroupLimit()


def _in_use(folder: str) -> int | None:
    for line in procfs.read(f"{folder}/memory.stat").splitlines():
        name, _, number = line.partition(b" ")
        if name in _IN_USE and number.isdigit():
            return int(number)
    return None


def _lowest(controller: str, v1: str, v2: str) -> tuple[str, int | None]:
    """Return the folder with the lowest limit, and that limit."""
    found: list[tuple[str, int]] = []
    for line in procfs.read("/proc/self/cgroup").decode(errors="replace").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            found += _limits(f"{_ROOT}/{controller}", path, v1)
        elif not controllers:
            found += _limits(_ROOT, path, v2)
    return min(found, key=lambda each: each[1], default=("", None))


def _limits(root: str, path: str, name: str) -> Iterator[tuple[str, int]]:
    """Yield every limit from a group up to the root; in a container the path may not exist."""
    path = path.rstrip("/")
    while True:
        limit = _number(f"{root}{path}/{name}")
        if limit is not None and limit < _UNLIMITED:
            yield f"{root}{path}", limit
        if not path:
            return
        path = path.rpartition("/")[0]


def _number(path: str) -> int | None:
    text = procfs.read(path).strip()
    return int(text) if text.isdigit() else None
