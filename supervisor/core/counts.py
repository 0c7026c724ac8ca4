"""Immutable counters and histograms of durations: each event makes a new value."""

from __future__ import annotations

from supervisor.moltis import DURATION_BUCKETS_S
from supervisor.namedtuples import NamedTuple

# What an end may come down to; a restart is counted by the one that it followed.
ASKED, HUNG, NOT_STARTED, OUT_OF_MEMORY = "asked", "hung", "not_started", "out_of_memory"
EXIT_CODE, SIGNAL, SUCCESS = "exit_code", "signal", "success"
END_KINDS = (ASKED, EXIT_CODE, HUNG, NOT_STARTED, OUT_OF_MEMORY, SIGNAL, SUCCESS)
# What may come of a login: it went well, was refused, brought no answer, or there was no key to be had for it.
SUCCEEDED, REFUSED, NO_ANSWER, NO_KEY = "succeeded", "refused", "no_answer", "no_key"
LOGIN_RESULTS = (SUCCEEDED, REFUSED, NO_ANSWER, NO_KEY)
# Methods that are counted by their names. OTHER stands for everything else.
OTHER = "other"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER)

Counts = tuple[tuple[str, int], ...]


def plus_one(counts: Counts, kind: str) -> Counts:
    """Return the counts with one more of this kind."""
    found = dict(counts)
    found[kind] = found.get(kind, 0) + 1
    return tuple(found.items())


class Durations(NamedTuple):
    """A histogram of durations: the count of each bucket (the last one is unbounded), and the sum."""

    buckets: tuple[int, ...] = (0,) * (len(DURATION_BUCKETS_S) + 1)
    sum_s: float = 0.0

    @property
    def times(self) -> int:
        """Return how often it happened."""
        return sum(self.buckets)

    def plus(self, took_s: float) -> Durations:
        """Return the histogram with one more duration."""
        at = sum(edge_s < took_s for edge_s in DURATION_BUCKETS_S)
        return Durations((*self.buckets[:at], self.buckets[at] + 1, *self.buckets[at + 1 :]), self.sum_s + took_s)
