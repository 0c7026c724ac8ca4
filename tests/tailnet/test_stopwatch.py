"""How long an owner's order took."""

from __future__ import annotations

from supervisor.core.orders import Connect, Disconnect
from supervisor.core.snapshot import TailnetView
from supervisor.core.tailnet import CONNECTED, CONNECTING, OFF
from supervisor.tailnet.stopwatch import Stopwatch

UP = TailnetView("embedded", CONNECTED, up=True)
AWAY = TailnetView("embedded", OFF)
BETWEEN = TailnetView("embedded", CONNECTING)


def test_an_order_is_timed_until_it_is_so() -> None:
    """Once, however often one looks afterwards."""
    watch = Stopwatch()
    watch.begin(Connect(), AWAY, 10.0)
    assert watch.look(BETWEEN, 11.0) == BETWEEN
    view = watch.look(UP, 13.0)
    assert (view.connects.times, view.connects.sum_s) == (1, 3.0)
    assert watch.look(view, 14.0) == view
    watch.begin(Disconnect(), view, 20.0)
    view = watch.look(view._replace(state=OFF, up=False), 20.5)
    assert (view.connects.times, view.disconnects.times, view.disconnects.sum_s) == (1, 1, 0.5)


def test_an_order_that_changes_nothing_is_not_timed() -> None:
    """Nor is one that was overtaken by another."""
    watch = Stopwatch()
    watch.begin(Connect(), UP, 10.0)
    assert watch.look(UP, 11.0) == UP
    watch.begin(Connect(), AWAY, 10.0)
    watch.begin(Disconnect(), AWAY, 11.0)
    assert watch.look(UP, 12.0) == UP
