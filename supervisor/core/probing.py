"""What a row of probes says about a process: pure, the clock is handed in."""

from __future__ import annotations

from typing import NamedTuple

EAGER_S = 0.5
STEADY_S = 5.0
DEADLINE_S = 2.0
# A busy loop is late by less.
LATE_S = 0.5
MISSES = 3


class Probing(NamedTuple):
    """One life's probes so far: whether one was answered, how many were missed since, and for how long.

    ``seen_s`` is when the last one was over. Time in which this program did not run is nobody's silence: between two
    looks, no more counts than there should be, and a probe that was over far too late counts for nothing.
    """

    answered: bool = False
    misses: int = 0
    silent_s: float = 0.0
    seen_s: float = 0.0


class Finding(NamedTuple):
    """What is known now: ``ready`` is None where nothing has changed; ``hung`` asks for a restart."""

    ready: bool | None
    why: str = ""
    hung: bool = False


def step(
    probing: Probing, miss: str | None, begun_s: float, now_s: float, hung_after_s: float | None
) -> tuple[Probing, Finding]:
    """Take one probe's result: ``miss`` says why it failed, None that it was answered."""
    if miss is None:
        return Probing(answered=True, seen_s=now_s), Finding(ready=True)
    if now_s - begun_s > DEADLINE_S + LATE_S:
        return probing._replace(seen_s=now_s), Finding(ready=None)
    misses = probing.misses + 1
    if not probing.answered:
        return probing._replace(misses=misses), Finding(ready=False, why=f"it has not answered yet: {miss}")
    silent_s = probing.silent_s + min(now_s - probing.seen_s, STEADY_S + DEADLINE_S)
    probing = probing._replace(misses=misses, silent_s=silent_s, seen_s=now_s)
    if hung_after_s is not None and silent_s >= hung_after_s:
        return probing, Finding(ready=False, why=f"no answer for {silent_s:.0f} s: {miss}", hung=True)
    if misses >= MISSES:
        return probing, Finding(ready=False, why=f"{misses} probes in a row failed: {miss}")
    return probing, Finding(ready=None)


def interval_s(probing: Probing) -> float:
    """Return how long after the start of one probe the next one starts."""
    return EAGER_S if not probing.answered else STEADY_S
