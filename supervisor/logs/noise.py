"""Keeps tailscaled's known noise out of the log: the first lines of a kind pass, the rest of a minute is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.logs.lines import MORE
from supervisor.logs.tailscaled import noise_of

if TYPE_CHECKING:
    from supervisor.logs.tailscaled import Noise

WINDOW_S = 60.0
# So many lines of each row of the table pass in a window.
PASSING = 3


class HeldBack(NamedTuple):
    """What one window held back: how many lines, and how many of each kind."""

    lines: int
    kinds: dict[str, int]


class NoiseLimit:
    """Counts by the clock that it is handed. A window begins with its first noise, and no other line is counted."""

    def __init__(self) -> None:
        self.total = 0
        self._ends_s: float | None = None
        self._seen: dict[Noise, int] = {}
        self._held: dict[str, int] = {}

    @property
    def due_s(self) -> float | None:
        """When it is to be told what was held back; None while there is nothing to tell."""
        return self._ends_s if self._held else None

    def take(self, lines: bytes, now_s: float) -> bytes:
        """Return those of the whole lines that pass."""
        if self._ends_s is not None and now_s >= self._ends_s and not self._held:
            self._ends_s = None
            self._seen.clear()
        texts = lines[:-1].split(b"\n")
        passing = [text for text in texts if not self._holds(text, now_s)]
        if len(passing) == len(texts):
            return lines
        return b"".join([text + b"\n" for text in passing])

    def _holds(self, text: bytes, now_s: float) -> bool:
        # The first piece of a long line is known, the others are not: they stay together.
        row = None if text.endswith(MORE) else noise_of(text.decode(errors="backslashreplace"))
        if row is None:
            return False
        if self._ends_s is None:
            self._ends_s = now_s + WINDOW_S
        seen = self._seen[row] = self._seen.get(row, 0) + 1
        if seen <= PASSING:
            return False
        self.total += 1
        self._held[row.kind] = self._held.get(row.kind, 0) + 1
        return True

    def report(self) -> HeldBack | None:
        """Return what was held back since the last report, if anything, and begin anew."""
        kinds, self._held = self._held, {}
        self._ends_s = None
        self._seen.clear()
        return HeldBack(sum(kinds.values()), dict(sorted(kinds.items()))) if kinds else None
