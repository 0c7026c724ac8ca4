"""Control groups: their usage and limits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# The files of usage and limit by controller, in version 1 and 2.
_FILES = (
    ("pids.current", "pids.max"),
    ("memory.usage_in_bytes", "memory.limit_in_bytes"),
    ("memory.current", "memory.max"),
)


class Group:
    """The group of one controller; in version 2 it is that of all controllers."""

    def __init__(self, path: Path, controller: str = "") -> None:
        self.path = path
        used, most = next(names for names in _FILES if names[0].startswith(controller) and (path / names[0]).exists())
        self._used, self._most = path / used, path / most
        self._before = self._most.read_text()

    def used(self) -> int:
        """Return the current usage."""
        return int(self._used.read_text())

    def limit(self, most: int) -> None:
        """Set the limit. Raises OSError if that fails."""
        self._most.write_text(str(most))

    def restore(self) -> None:
        """Restore the previous limit; that of a container disappears with it."""
        with contextlib.suppress(OSError):
            self._most.write_text(self._before)

    def remove(self) -> None:
        """Remove it once it is empty."""
        wait_until(lambda: not (self.path / "cgroup.procs").read_text(), what="an empty group")
        self.path.rmdir()
