"""A control group: what its processes use together, and may."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# What is used, and what may be, by controller: in the first version and the second.
_FILES = (
    ("pids.current", "pids.max"),
    ("memory.usage_in_bytes", "memory.limit_in_bytes"),
    ("memory.current", "memory.max"),
)


class Group:
    """One controller's group; of the second version it is that of all controllers."""

    def __init__(self, path: Path, controller: str = "") -> None:
        self.path = path
        used, most = next(names for names in _FILES if names[0].startswith(controller) and (path / names[0]).exists())
        self._used, self._most = path / used, path / most
        self._before = self._most.read_text()

    def used(self) -> int:
        """Return how much is used now."""
        return int(self._used.read_text())

    def limit(self, most: int) -> None:
        """Let it be no more than this. Raises OSError where it cannot be."""
        self._most.write_text(str(most))

    def restore(self) -> None:
        """Let it be what it was before; that of a container goes with it."""
        with contextlib.suppress(OSError):
            self._most.write_text(self._before)

    def remove(self) -> None:
        """Remove it, once nobody is in it."""
        wait_until(lambda: not (self.path / "cgroup.procs").read_text(), what="an empty group")
        self.path.rmdir()
