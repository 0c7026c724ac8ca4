"""The owner's orders for the tailnet, and their results.

The API and the commands send orders with an id; the result is published under that id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.order_states import DONE, FAILED, REPLACED, UNDER_WAY, WAITING

if TYPE_CHECKING:
    from supervisor.core.tailnet import LoginFailure
    from supervisor.secret import Secret

_PENDING = frozenset({UNDER_WAY, WAITING})
CONNECT, CONNECT_WITH_KEY, DISCONNECT, FORGET = "connect", "connect with a key", "disconnect", "forget"
_CONNECTS = frozenset({CONNECT, CONNECT_WITH_KEY})
_REMEMBERED = 16
_OVERTAKEN = "another order came after it"


class Connect(NamedTuple):
    """Connect: log in with ``auth_key`` if given, else reconnect, or ask for a login URL."""

    auth_key: Secret | None = None
    id: str = ""

    @property
    def kind(self) -> str:
        """The kind of the order."""
        return CONNECT if self.auth_key is None else CONNECT_WITH_KEY


class Disconnect(NamedTuple):
    """Disconnect until the next Connect; ``forget`` also logs the device out."""

    forget: bool = False
    id: str = ""

    @property
    def kind(self) -> str:
        """The kind of the order."""
        return FORGET if self.forget else DISCONNECT


TailnetOrder = Connect | Disconnect


class OrderView(NamedTuple):
    """An order and its result: ``why`` is the reason if it failed or was replaced.

    ``wish`` is shared by orders that want the same; None until it is accepted. ``idle`` is whether there was nothing to
    change.
    """

    id: str
    kind: str
    at_s: float
    state: str = UNDER_WAY
    why: str = ""
    wish: int | None = None
    idle: bool = False

    @property
    def pending(self) -> bool:
        """Whether its result is pending."""
        return self.state in _PENDING

    @property
    def connects(self) -> bool:
        """Whether it is an order to connect."""
        return self.kind in _CONNECTS


Orders = tuple[OrderView, ...]


class Progress(NamedTuple):
    """The progress of the current ``wish``.

    ``connected`` and ``disconnected`` are whether it is fulfilled, ``forgotten`` whether there is no login any more,
    ``waits`` whether a person has to open the login URL, ``failure`` why it failed. The failure of a pasted key does
    not fail an order without one, which is followed by a login URL.
    """

    wish: int
    connected: bool = False
    disconnected: bool = False
    forgotten: bool = False
    waits: bool = False
    failure: LoginFailure | None = None


def add(orders: Orders, order: TailnetOrder, now_s: float, *, idle: bool) -> Orders:
    """Return the orders with a new one; only the last ones are kept."""
    return (*orders, OrderView(order.id, order.kind, now_s, idle=idle))[-_REMEMBERED:]


def begin(orders: Orders, order_id: str, wish: int) -> Orders:
    """Return the orders with one accepted: pending ones that want something else are replaced."""
    found = []
    for view in orders:
        if view.id == order_id:
            found.append(view._replace(wish=wish))
        elif view.pending and view.wish is not None and view.wish != wish:
            found.append(view._replace(state=REPLACED, why=_OVERTAKEN))
        else:
            found.append(view)
    return tuple(found)


def follow(orders: Orders, progress: Progress) -> Orders:
    """Return the orders with the results known by now."""
    return tuple(_answered(view, progress) if view.pending and view.wish == progress.wish else view for view in orders)


def _answered(view: OrderView, progress: Progress) -> OrderView:
    if _is_done(view, progress):
        return view._replace(state=DONE)
    failure = progress.failure
    if failure and (view.kind == CONNECT_WITH_KEY or (view.kind == CONNECT and not failure.pasted)):
        return view._replace(state=FAILED, why=failure.why)
    waits = progress.waits and view.kind == CONNECT
    return view._replace(state=WAITING if waits else UNDER_WAY)


def _is_done(view: OrderView, progress: Progress) -> bool:
    if view.connects:
        return progress.connected
    return progress.disconnected and (progress.forgotten or view.kind == DISCONNECT)


def newly_done(before: Orders, after: Orders) -> tuple[OrderView, ...]:
    """Return the orders that were fulfilled between two lists and had something to change."""
    done = zip(before, after, strict=True)
    return tuple(new for old, new in done if new.state == DONE and old.pending and not new.idle)


def abandon(orders: Orders, why: str) -> Orders:
    """Return the orders without pending ones: the service that handled them has ended."""
    return tuple(view._replace(state=FAILED, why=why) if view.pending else view for view in orders)
