"""Exponential backoff: the delay before the next attempt."""

from __future__ import annotations

import os

from supervisor.namedtuples import NamedTuple

_DOUBLINGS_MAX = 63


class Backoff(NamedTuple):
    """The delay before a restart: doubles from ``initial_s`` to ``max_s``, and is reset after a run of ``reset_s``."""

    initial_s: float = 0.5
    max_s: float = 30.0
    reset_s: float = 60.0


def ceiling_s(backoff: Backoff, failures: int) -> float:
    """Return the longest delay after this many failures in a row (1 is the first), in seconds."""
    doublings = min(max(failures - 1, 0), _DOUBLINGS_MAX)
    return min(backoff.max_s, backoff.initial_s * 2.0**doublings)


def delay_s(backoff: Backoff, failures: int, jitter: float) -> float:
    """Return the delay with full jitter; ``jitter`` is uniform over [0, 1)."""
    return ceiling_s(backoff, failures) * jitter


def random_jitter() -> float:
    """Return a random number, uniform over [0, 1), without importing the module random, which is slow."""
    return int.from_bytes(os.urandom(6), "big") / 2.0**48
