"""How waits between retries are computed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.backoff import Backoff, ceiling_s, delay_s
from supervisor.core.process import GiveUp, recent

SPANS = st.floats(0.001, 1e4)
CHANCES = st.floats(0, 1, exclude_max=True)


@given(initial=SPANS, most=SPANS, failures=st.integers(1, 10**9), jitter=CHANCES)
def test_a_wait_is_never_longer_than_the_ceiling(initial: float, most: float, failures: int, jitter: float) -> None:
    """Full jitter spreads a wait over the whole range from zero to the ceiling."""
    backoff = Backoff(initial, most, 60.0)
    assert 0 <= delay_s(backoff, failures, jitter) <= ceiling_s(backoff, failures) <= most


@given(failures=st.integers(1, 100))
def test_the_ceiling_never_falls(failures: int) -> None:
    """Another failure never makes the wait's ceiling lower."""
    backoff = Backoff(0.5, 30.0, 60.0)
    assert ceiling_s(backoff, failures) <= ceiling_s(backoff, failures + 1)


def test_the_ceiling_doubles() -> None:
    """The defaults of the contract: 500 ms, doubling, at most 30 s."""
    assert [ceiling_s(Backoff(), failures) for failures in range(1, 9)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@given(st.lists(st.floats(0, 1000)).map(sorted), st.floats(0, 1000))
def test_recent_keeps_what_is_in_the_window_and_no_more_than_it_takes(times: list[float], window_s: float) -> None:
    """Memory stays small however often a process fails."""
    kept = recent(tuple(times), GiveUp(3, window_s), 1000.0)
    assert len(kept) <= 3
    assert all(1000.0 - at_s < window_s for at_s in kept)
