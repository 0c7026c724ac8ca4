"""What an owner may want of the tailnet, and what came of it.

An order travels down from the API and the commands with an id of its own; its answer comes back up under that id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from supervisor.secret import Secret

UNDER_WAY, WAITING, DONE, FAILED, REPLACED = "under way", "waiting", "done", "failed", "replaced"
# Every state of an order; the first two may become another one.
ORDER_STATES = (UNDER_WAY, WAITING, DONE, FAILED, REPLACED)
_PENDING = frozenset({UNDER_WAY, WAITING})
CONNECT, CONNECT_WITH_KEY, DISCONNECT, FORGET = "connect", "connect with a key", "disconnect", "forget"
_CONNECTS = frozenset({CONNECT, CONNECT_WITH_KEY})
_REMEMBERED = 16
_OVERTAKEN = "another order came after it"


class Connect(NamedTuple):
    """Be connected: log in with ``auth_key`` where one is given, else reconnect, or ask for a login URL."""

    auth_key: Secret | None = None
    id: str = ""

    @property
    def kind(self) -> str:
        """Return which of the four kinds of orders it is."""
        return CONNECT if self.auth_key is None else CONNECT_WITH_KEY

    @property
    def connects(self) -> bool:
        """Whether it is to connect."""
        return True


class Disconnect(NamedTuple):
    """Be disconnected until the next Connect; ``forget`` logs the device out as well."""

    forget: bool = False
    id: str = ""

    @property
    def kind(self) -> str:
        """Return which of the four kinds of orders it is."""
        return FORGET if self.forget else DISCONNECT

    @property
    def connects(self) -> bool:
        """Whether it is to connect."""
        return False


TailnetOrder = Connect | Disconnect


class OrderView(NamedTuple):
    """One order and what came of it: ``why`` says it where it failed or was replaced.

    ``wish`` is shared by orders that want the same; None until it is taken up. ``idle``: there was nothing to change.
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
        """Whether its answer may still come."""
        return self.state in _PENDING

    @property
    def connects(self) -> bool:
        """Whether it is to connect."""
        return self.kind in _CONNECTS


Orders = tuple[OrderView, ...]


class Progress(NamedTuple):
    """How far things are with the present ``wish``, for those who ordered it.

    ``connected`` and ``disconnected`` say that it has come about, ``forgotten`` that there is no login any more,
    ``waits`` that a person has to open the login URL, ``failure`` why it did not come about.
    """

    wish: int
    connected: bool = False
    disconnected: bool = False
    forgotten: bool = False
    waits: bool = False
    failure: str = ""


def add(orders: Orders, order: TailnetOrder, now_s: float, *, idle: bool) -> Orders:
    """Return them with one that has just been given; only the last ones are remembered."""
    return (*orders, OrderView(order.id, order.kind, now_s, idle=idle))[-_REMEMBERED:]


def begin(orders: Orders, order_id: str, wish: int) -> Orders:
    """Return them with one taken up: those that wanted something else are replaced by it."""
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
    """Return them with the answers that there are by now."""
    return tuple(_answered(view, progress) if view.pending and view.wish == progress.wish else view for view in orders)


def _answered(view: OrderView, progress: Progress) -> OrderView:
    if _is_done(view, progress):
        return view._replace(state=DONE)
    if progress.failure and view.connects:
        return view._replace(state=FAILED, why=progress.failure)
    waits = progress.waits and view.kind == CONNECT
    return view._replace(state=WAITING if waits else UNDER_WAY)


def _is_done(view: OrderView, progress: Progress) -> bool:
    if view.connects:
        return progress.connected
    return progress.disconnected and (progress.forgotten or view.kind == DISCONNECT)


def newly_done(before: Orders, after: Orders) -> tuple[OrderView, ...]:
    """Return those that have been fulfilled in between, of those that had something to change."""
    done = zip(before, after, strict=True)
    return tuple(new for old, new in done if new.state == DONE and old.pending and not new.idle)


def abandon(orders: Orders, why: str) -> Orders:
    """Return them with none pending: whoever had them in hand is gone."""
    return tuple(view._replace(state=FAILED, why=why) if view.pending else view for view in orders)
