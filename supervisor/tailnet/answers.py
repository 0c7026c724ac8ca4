"""Keeps the owner's orders with their answers, and takes the time until each was fulfilled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import orders
from supervisor.core.orders import DONE
from supervisor.core.tailnet import OFF

if TYPE_CHECKING:
    from supervisor.core.orders import Orders, OrderView, Progress, TailnetOrder
    from supervisor.core.snapshot import TailnetView

_ABANDONED = "the supervisor's part for the tailnet was restarted; give the order again"


class Answers:
    """Those of one life of the tailnet's part; what an earlier one left open is answered with that."""

    def __init__(self, before: Orders) -> None:
        self._orders = orders.abandon(before, _ABANDONED)

    def take(self, order: TailnetOrder, view: TailnetView, now_s: float) -> TailnetView:
        """Return the view with an order that has just come; one that has nothing to change is not timed."""
        idle = view.up if order.connects else view.state == OFF
        self._orders = orders.add(self._orders, order, now_s, idle=idle)
        return view._replace(orders=self._orders)

    def begin(self, order: TailnetOrder, wish: int) -> None:
        """Note that an order has been taken up, and what it is a wish for."""
        self._orders = orders.begin(self._orders, order.id, wish)

    def follow(self, view: TailnetView, progress: Progress, now_s: float) -> TailnetView:
        """Return the view with the answers that there are by now, and the time that each took."""
        before, self._orders = self._orders, orders.follow(self._orders, progress)
        for old, new in zip(before, self._orders, strict=True):
            if new.state == DONE and old.pending and not new.idle:
                view = _timed(view, new, now_s)
        return view._replace(orders=self._orders)


def _timed(view: TailnetView, order: OrderView, now_s: float) -> TailnetView:
    took_s = now_s - order.at_s
    if order.connects:
        return view._replace(connects=view.connects.plus(took_s))
    return view._replace(disconnects=view.disconnects.plus(took_s))
