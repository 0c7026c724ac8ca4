"""Immutable counters and histograms: each event creates a new value."""

from __future__ import annotations

from supervisor.moltis import DURATION_BUCKETS_S
from supervisor.namedtuples import NamedTuple

# Kinds of exits; a restart is counted by the kind of the exit before it.
ASKED, HUNG, NOT_STARTED, OUT_OF_MEMORY = "asked", "hung", "not_started", "out_of_memory"
EXIT_CODE, SIGNAL, SUCCESS = "exit_code", "signal", "success"
END_KINDS = (ASKED, EXIT_CODE, HUNG, NOT_STARTED, OUT_OF_MEMORY, SIGNAL, SUCCESS)
# Results of a login: success, refused, no answer, or no key available.
SUCCEEDED, REFUSED, NO_ANSWER, NO_KEY = "succeeded", "refused", "no_answer", "no_key"
LOGIN_RESULTS = (SUCCEEDED, REFUSED, NO_ANSWER, NO_KEY)
# Results of an alert, and incidents that only the count in an alert mentions.
ALERT_RESULTS = ("sent", "failed", "left_out")
# HTTP methods counted by name; OTHER stands for all others.
OTHER = "other"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER)

Counts = tuple[tuple[str, int], ...]


def plus_one(counts: Counts, kind: str) -> Counts:
    """Return the counts with one more of a kind."""
    found = dict(counts)
    found[kind] = found.get(kind, 0) + 1
    return tuple(found.items())


class Durations(NamedTuple):
    """A histogram of durations: the count of each bucket (the last one is unbounded), and the sum."""

    buckets: tuple[int, ...] = (0,) * (len(DURATION_BUCKETS_S) + 1)
    sum_s: float = 0.0

    @property
    def times(self) -> int:
        """The number of durations."""
        return sum(self.buckets)

    def plus(self, took_s: float) -> Durations:
        """Return the histogram with one more duration."""
        at = sum(edge_s < took_s for edge_s in DURATION_BUCKETS_S)
        return Durations((*self.buckets[:at], self.buckets[at] + 1, *self.buckets[at + 1 :]), self.sum_s + took_s)
