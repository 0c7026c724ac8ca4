"""Tells of what happens again and again: the first time at once, and from then on once a minute how often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SAY_EVERY_S = 60.0


class Repeats:
    """One such thing; ``tell`` is given how often it has happened since it was last called."""

    def __init__(self, tell: Callable[[int], object]) -> None:
        self._tell = tell
        self._untold = 0
        self._pause: asyncio.TimerHandle | None = None

    def add(self) -> None:
        """Count one."""
        self._untold += 1
        if self._pause is None:
            self._say()

    def _say(self) -> None:
        """Tell what was counted, and be silent for a while; a timer tells the rest, so that nothing stays untold."""
        self._pause = None
        if self._untold:
            count, self._untold = self._untold, 0
            self._pause = asyncio.get_running_loop().call_later(SAY_EVERY_S, self._say)
            self._tell(count)
