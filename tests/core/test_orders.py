"""Orders and their answers: each answer is about its own order, whatever other orders there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.order_states import DONE, FAILED, ORDER_STATES, REPLACED, UNDER_WAY, WAITING
from supervisor.core.orders import (
    Connect,
    Disconnect,
    Orders,
    OrderView,
    Progress,
    TailnetOrder,
    abandon,
    add,
    begin,
    follow,
    newly_done,
)
from supervisor.core.tailnet import LoginFailure
from supervisor.secret import Secret

KINDS: tuple[TailnetOrder, ...] = (Connect(), Connect(Secret("k" * 9)), Disconnect(), Disconnect(forget=True))


def given_one(order: TailnetOrder, wish: int, before: Orders = ()) -> Orders:
    """Return the orders with one more that is under way."""
    return begin(add(before, order, 0.0, idle=False), order.id, wish)


REFUSED, OF_PASTED_KEY = LoginFailure(1, "refused"), LoginFailure(1, "refused", pasted=True)


def states(orders: Orders) -> list[str]:
    """Return the state of each order."""
    return [order.state for order in orders]


@pytest.mark.parametrize(
    ("order", "progress", "state"),
    [
        (Connect(), Progress(1), UNDER_WAY),
        (Connect(), Progress(1, connected=True), DONE),
        (Connect(), Progress(1, waits=True), WAITING),
        (Connect(), Progress(1, failure=REFUSED), FAILED),
        # Another's pasted key, whose login it shares.
        (Connect(), Progress(1, failure=OF_PASTED_KEY), UNDER_WAY),
        (Connect(), Progress(1, failure=OF_PASTED_KEY, waits=True), WAITING),
        (Connect(Secret("key")), Progress(1, failure=OF_PASTED_KEY), FAILED),
        (Connect(Secret("key")), Progress(1, waits=True), UNDER_WAY),
        (Connect(Secret("key")), Progress(1, failure=REFUSED, waits=True), FAILED),
        (Connect(Secret("key")), Progress(2, failure=REFUSED), UNDER_WAY),
        (Connect(), Progress(2, connected=True), UNDER_WAY),
        (Disconnect(), Progress(1, connected=True, failure=REFUSED), UNDER_WAY),
        (Disconnect(), Progress(1, disconnected=True), DONE),
        (Disconnect(forget=True), Progress(1, disconnected=True), UNDER_WAY),
        (Disconnect(forget=True), Progress(1, disconnected=True, forgotten=True), DONE),
    ],
)
def test_an_answer(order: TailnetOrder, progress: Progress, state: str) -> None:
    """This covers each kind of order, with progress of its own wish and of another one."""
    assert states(follow(given_one(order, 1), progress)) == [state]


def test_nothing_answers_an_order_that_was_not_taken_up() -> None:
    """What is true at that time was true before the order."""
    waiting = add((), Connect(Secret("key"), "a"), 0.0, idle=False)
    assert states(follow(waiting, Progress(0, connected=True, failure=REFUSED))) == [UNDER_WAY]


def test_orders_that_come_beside_each_other() -> None:
    """Orders for the same get the same answer; an order for something else is answered with why it was replaced."""
    orders = given_one(Connect(id="b"), 1, given_one(Connect(id="a"), 1))
    assert states(follow(orders, Progress(1, connected=True))) == [DONE, DONE]
    orders = given_one(Disconnect(id="c"), 2, orders)
    assert states(orders) == [REPLACED, REPLACED, UNDER_WAY]
    assert [bool(order.why) for order in orders] == [True, True, False]


def test_what_has_been_done_is_told_once() -> None:
    """It is reported for how long it took, unless there was nothing to do."""
    orders = begin(add(given_one(Connect(id="a"), 1), Connect(id="b"), 5.0, idle=True), "b", 1)
    done = follow(orders, Progress(1, connected=True))
    assert [order.id for order in newly_done(orders, done)] == ["a"]
    assert not newly_done(done, done)


def test_a_lost_order_is_answered() -> None:
    """What would have carried it out is gone; an answer that was already given stays."""
    orders = given_one(Disconnect(id="b"), 2, follow(given_one(Connect(id="a"), 1), Progress(1, connected=True)))
    assert states(abandon(orders, "gone")) == [DONE, FAILED]


PROGRESS = st.builds(
    Progress,
    wish=st.integers(0, 3),
    connected=st.booleans(),
    disconnected=st.booleans(),
    forgotten=st.booleans(),
    waits=st.booleans(),
    failure=st.sampled_from([None, REFUSED, OF_PASTED_KEY]),
)
STEPS = st.lists(st.one_of(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), PROGRESS), max_size=60)


@given(STEPS)
def test_an_answer_is_final(steps: list[tuple[TailnetOrder, int] | Progress]) -> None:
    """Whatever happens, answers and ids are kept, and a limited number of orders is remembered."""
    orders: Orders = ()
    answered: dict[str, OrderView] = {}
    for number, step in enumerate(steps):
        if isinstance(step, Progress):
            orders = follow(orders, step)
        else:
            orders = given_one(step[0]._replace(id=str(number)), step[1], orders)
        assert len(orders) <= 16
        for order in orders:
            assert order.state in ORDER_STATES
            assert order.id not in answered or order == answered[order.id]
            if not order.pending:
                answered[order.id] = order
