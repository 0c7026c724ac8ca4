"""The owner's orders, their answers, and how long each took."""

from __future__ import annotations

from supervisor.core.orders import DONE, FAILED, REPLACED, Connect, Disconnect, Progress
from supervisor.core.snapshot import TailnetView
from supervisor.core.tailnet import CONNECTED, CONNECTING, OFF
from supervisor.tailnet.answers import Answers

UP = TailnetView("embedded", CONNECTED, up=True)
AWAY = TailnetView("embedded", OFF)
BETWEEN = TailnetView("embedded", CONNECTING)


def test_an_order_is_timed_until_it_is_so() -> None:
    """Once, however often one looks afterwards."""
    answers = Answers(())
    answers.take(Connect(id="a"), AWAY, 10.0)
    answers.begin(Connect(id="a"), 1)
    assert answers.follow(BETWEEN, Progress(1), 11.0).connects.times == 0
    view = answers.follow(UP, Progress(1, connected=True), 13.0)
    assert (view.connects.times, view.connects.sum_s) == (1, 3.0)
    assert answers.follow(view, Progress(1, connected=True), 14.0) == view
    answers.take(Disconnect(id="b"), view, 20.0)
    answers.begin(Disconnect(id="b"), 2)
    view = answers.follow(view._replace(state=OFF, up=False), Progress(2, disconnected=True), 20.5)
    assert (view.connects.times, view.disconnects.times, view.disconnects.sum_s) == (1, 1, 0.5)
    assert [order.state for order in view.orders] == [DONE, DONE]


def test_an_order_that_changes_nothing_is_not_timed() -> None:
    """Nor is one that was overtaken by another."""
    answers = Answers(())
    answers.take(Connect(id="a"), UP, 10.0)
    answers.begin(Connect(id="a"), 1)
    assert answers.follow(UP, Progress(1, connected=True), 11.0).connects.times == 0
    answers.take(Connect(id="b"), AWAY, 10.0)
    answers.begin(Connect(id="b"), 2)
    answers.take(Disconnect(id="c"), AWAY, 11.0)
    answers.begin(Disconnect(id="c"), 3)
    view = answers.follow(UP, Progress(3), 12.0)
    assert view.connects.times == 0
    assert [order.state for order in view.orders][:2] == [DONE, REPLACED]


def test_an_order_of_an_earlier_life_is_answered() -> None:
    """The part that had it in hand has been restarted, and knows nothing of it any more."""
    before = Answers(()).take(Connect(id="a"), AWAY, 10.0)
    view = Answers(before.orders).follow(AWAY, Progress(0, connected=True), 11.0)
    assert [(order.id, order.state) for order in view.orders] == [("a", FAILED)]
    assert "give the order again" in view.orders[0].why
