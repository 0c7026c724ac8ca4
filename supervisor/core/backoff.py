"""How long to wait before a restart, and when to stop trying: pure arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.core.model import Backoff, GiveUp

_DOUBLINGS_MAX = 63


def ceiling_s(backoff: Backoff, failures: int) -> float:
    """Return the longest wait after so many failures in a row (1 is the first), in seconds."""
    doublings = min(max(failures - 1, 0), _DOUBLINGS_MAX)
    return min(backoff.max_s, backoff.initial_s * 2.0**doublings)


def delay_s(backoff: Backoff, failures: int, chance: float) -> float:
    """Return the wait with full jitter; ``chance`` is evenly spread over [0, 1)."""
    return ceiling_s(backoff, failures) * chance


def recent(times_s: tuple[float, ...], give_up: GiveUp, now_s: float) -> tuple[float, ...]:
    """Return the failures that still count against ``give_up``, at most as many as it takes."""
    return tuple(at_s for at_s in times_s if now_s - at_s < give_up.window_s)[-give_up.failures :]
