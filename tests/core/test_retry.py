"""How often a key is tried, and when an outage gets help."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.retry import SOFT_AFTER_S, LoginRetry, Outage, Recovery, kind_of, recover


def test_three_refusals_end_a_round() -> None:
    """The first one shows the reason; a request to wait is not one; the next round is 1, 2, 4, 8, 15 minutes later."""
    retry = LoginRetry()
    now_s = 0.0
    waits = []
    for _ in range(6):
        assert retry.due(b"key", now_s)
        retry = retry.begin(b"key", now_s).refused("node registration rate limited; will retry after 3s", now_s)
        assert retry.under_way
        retry = retry.refused("authkey expired", now_s)
        assert (retry.kind, retry.refusals) == ("expired", 1)
        retry = retry.refused("authkey expired", now_s).refused("authkey expired", now_s)
        assert not retry.under_way
        assert retry.next_try_s is not None
        assert not retry.due(b"key", retry.next_try_s - 1)
        assert retry.due(b"another", now_s)
        waits.append((retry.next_try_s - now_s) / 60)
        now_s = retry.next_try_s
    assert waits == [1, 2, 4, 8, 15, 15]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("invalid key: API key kX not valid", "invalid"),
        ("invalid authkey", "invalid"),
        ("authkey expired", "expired"),
        ("authkey already used", "used up"),
        ("requested tags [tag:x] are invalid or not permitted", "tag not permitted"),
    ],
)
def test_what_a_refusal_comes_down_to(text: str, kind: str) -> None:
    """The texts are those of the real service and of headscale."""
    assert kind_of(text) == kind


def test_a_login_that_does_not_last_is_not_repeated_without_end() -> None:
    """The first one is repeated at once, later ones after growing waits."""
    retry = LoginRetry().begin(b"k", 0.0).succeeded(1.0)
    assert retry.due(b"k", 1.0)
    retry = retry.begin(b"k", 1.0).succeeded(2.0)
    assert not retry.due(b"k", 50.0)
    assert retry.due(b"k", 62.0)


def test_a_restart_of_tailscaled_costs_no_round() -> None:
    """It gets the same key again at once."""
    assert LoginRetry().begin(b"k", 0.0).interrupted().due(b"k", 0.0)


def test_an_answer_may_be_on_its_way_for_a_while() -> None:
    """It may be until it comes or takes too long; a login without any message is fruitless after a minute."""
    retry = LoginRetry().begin(b"k", 0.0)
    assert (retry.fresh(9.0), retry.fresh(11.0), retry.refused("no", 1.0).fresh(2.0)) == (True, False, False)
    assert (retry.fruitless(59.0), retry.fruitless(60.0)) == (False, True)
    told = retry.refused("rate limit", 1.0)
    assert (told.fruitless(60.0), told.overdue(60.0)) == (False, True)


def test_a_key_that_cannot_be_had_is_asked_for_again_soon() -> None:
    """The key itself was not refused."""
    retry = LoginRetry().unavailable(b"k", "no answer", 0.0)
    assert (retry.due(b"k", 4.0), retry.due(b"k", 5.0), retry.note) == (False, True, "no answer")
    assert not retry.unavailable(b"k", "no answer", 5.0).due(b"k", 14.0)


@given(st.lists(st.tuples(st.floats(0.1, 900), st.booleans()), max_size=80))
def test_an_outage_is_never_helped_too_often(steps: list[tuple[float, bool]]) -> None:
    """Help comes after a minute, or at once for a removed device; then once a minute at most, and with one restart."""
    outage: Outage | None = None
    softs: list[float] = []
    now_s, begun_s, restarts = 0.0, 0.0, 0
    for step_s, removed in steps:
        now_s += step_s
        begun_s = begun_s or now_s
        outage, recovery = recover(outage, now_s, away=True, removed=removed)
        if recovery is Recovery.SOFT:
            assert softs or removed or now_s - begun_s >= SOFT_AFTER_S
            softs.append(now_s)
        if removed:
            assert softs
        restarts += recovery is Recovery.RESTART
    assert restarts <= 1
    assert all(later - sooner >= SOFT_AFTER_S for sooner, later in itertools.pairwise(softs))
    assert recover(outage, now_s, away=False) == (None, None)


def test_a_key_that_cannot_be_had_is_asked_for_less_and_less_often() -> None:
    """Requests do not help the service that issues keys."""
    retry, waits = LoginRetry(), []
    for _ in range(5):
        retry = retry.unavailable(b"k", "not now", 0.0)
        assert retry.next_try_s is not None
        waits.append(retry.next_try_s)
    assert waits == sorted(set(waits))


def test_a_device_that_may_have_been_removed_is_helped_at_once() -> None:
    """This happens once: the control client's restart shows whether it was removed."""
    outage, recovery = recover(None, 0.0, away=True, removed=True)
    assert recovery is Recovery.SOFT
    assert recover(outage, 1.0, away=True, removed=True)[1] is None
