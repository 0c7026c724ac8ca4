"""What a row of probes says about a process: pure, the clock is handed in."""

from __future__ import annotations

from typing import NamedTuple

EAGER_S = 0.5
STEADY_S = 5.0
DEADLINE_S = 2.0
MISSES = 3


class Probing(NamedTuple):
    """One life's probes so far. ``answered_s`` is when the last answer came; None before the first."""

    answered_s: float | None = None
    misses: int = 0


class Finding(NamedTuple):
    """What is known now: ``ready`` is None where nothing has changed; ``hung`` asks for a restart."""

    ready: bool | None
    why: str = ""
    hung: bool = False


def step(probing: Probing, miss: str | None, now_s: float, hung_after_s: float | None) -> tuple[Probing, Finding]:
    """Take one probe's result: ``miss`` says why it failed, None that it was answered."""
    if miss is None:
        return Probing(now_s), Finding(ready=True)
    misses = probing.misses + 1
    probing = probing._replace(misses=misses)
    if probing.answered_s is None:
        return probing, Finding(ready=False, why=f"it has not answered yet: {miss}")
    silent_s = now_s - probing.answered_s
    if hung_after_s is not None and silent_s >= hung_after_s:
        return probing, Finding(ready=False, why=f"no answer for {silent_s:.0f} s: {miss}", hung=True)
    if misses >= MISSES:
        return probing, Finding(ready=False, why=f"{misses} probes in a row failed: {miss}")
    return probing, Finding(ready=None)


def interval_s(probing: Probing) -> float:
    """Return how long after the start of one probe the next one starts."""
    return EAGER_S if probing.answered_s is None else STEADY_S
