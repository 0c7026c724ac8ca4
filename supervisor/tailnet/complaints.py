"""Hears what tailscaled tells in its log alone (1.102): that control is lost, or does not know the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config.plan import TAILSCALED
from supervisor.logs.history import LAST_LINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.logs.pipeline import LogPipeline

_LOST = "Received error"
_UNKNOWN_DEVICE = "node not found"


class Complaints:
    """Calls ``wake`` at each complaint of a device that is in its tailnet, or logs in.

    ``removed``: control does not know it.
    """

    def __init__(self, log: LogPipeline, wake: Callable[[], None]) -> None:
        self._log = log
        self._wake = wake
        self._next: int | None = None
        self.removed = False

    def listen(self) -> Callable[[], None]:
        """Listen from now on; return what ends that."""
        return self._log.subscribe(self._hear)

    def follow(self, *, running: bool, online: bool, trying: bool) -> None:
        """Take how the device is; ``trying``: it logs in.

        Who is not in a tailnet has nothing to lose, and who is online has lost nothing.
        """
        if not (running or trying):
            self._next = None
        elif self._next is None:
            self._next = self._log.history.next
        self.removed = self.removed and running and not online

    def _hear(self) -> None:
        if self._next is None:
            return
        lines = self._log.tail(TAILSCALED, LAST_LINES, self._next)
        self._next = self._log.history.next
        if any(_LOST in line for line in lines):
            self.removed = self.removed or any(_UNKNOWN_DEVICE in line for line in lines)
            self._wake()
