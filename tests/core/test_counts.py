"""Immutable counts and durations: adding to one returns a new one."""

from __future__ import annotations

from supervisor.core.counts import Durations, plus_one
from supervisor.moltis import DURATION_BUCKETS_S


def test_counts_grow_by_kind() -> None:
    """Each kind is counted separately, in the order of first occurrence."""
    counts = plus_one(plus_one(plus_one((), "signal"), "hung"), "signal")
    assert counts == (("signal", 2), ("hung", 1))


def test_durations_fall_into_buckets() -> None:
    """An edge belongs to the bucket that it ends; durations longer than all edges have their own."""
    durations = Durations()
    for took_s in (0.0, 0.001, 0.0011, 60.0, 61.0):
        durations = durations.plus(took_s)
    assert (durations.buckets[0], durations.buckets[1], durations.buckets[-2], durations.buckets[-1]) == (2, 1, 1, 1)
    assert (durations.times, len(durations.buckets)) == (5, len(DURATION_BUCKETS_S) + 1)
    assert abs(durations.sum_s - 121.0021) < 1e-9
