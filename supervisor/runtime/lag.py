"""Measures how late the event loop is for a timer: nothing else runs while it is."""

from __future__ import annotations

import asyncio

from supervisor.core.counts import Durations

EVERY_S = 1.0


class Lag:
    """Looks once a second from ``start`` on: nobody who does not ask for it pays for it."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.seen = Durations()
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, if that has not been done."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._timer is None:
            return
        loop = asyncio.get_running_loop()
        self.seen = self.seen.plus(max(0.0, loop.time() - self._timer.when()))
        self._timer = loop.call_later(self._every_s, self._look)
