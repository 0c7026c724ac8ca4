"""Where web and tailnet meet without knowing each other: orders are handed in here, and a reader is lent out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor.core.backup import BackupOrder
    from supervisor.core.orders import TailnetOrder

    # What tailscaled tells of itself to Prometheus, within so many seconds; None where it does not.
    MetricsReader = Callable[[float], Awaitable[bytes | None]]

_MOST_WAITING = 16


Order = TypeVar("Order")


class Tray(Generic[Order]):
    """Hands each order to the one who attends; the last of those that came before are kept until someone does."""

    def __init__(self) -> None:
        self._attendant: Callable[[Order], None] | None = None
        self._waiting: deque[Order] = deque(maxlen=_MOST_WAITING)

    def post(self, order: Order) -> None:
        """Hand in an order; what comes of it is seen on the board."""
        if self._attendant is None:
            self._waiting.append(order)
        else:
            self._attendant(order)

    def attend(self, attendant: Callable[[Order], None]) -> Callable[[], None]:
        """Take every order from now on, the waiting ones first; return what ends that. It must not block."""
        self._attendant = attendant
        while self._waiting:
            attendant(self._waiting.popleft())
        return self._leave

    def _leave(self) -> None:
        self._attendant = None


class Desk:
    """The tray for the tailnet's orders, beside it the one for ``backups``, and a reader to be lent."""

    def __init__(self) -> None:
        tailnet: Tray[TailnetOrder] = Tray()
        self.post = tailnet.post
        self.attend = tailnet.attend
        self.backups: Tray[BackupOrder] = Tray()
        self._reader: MetricsReader | None = None

    def lend(self, reader: MetricsReader) -> Callable[[], None]:
        """Have tailscaled's own metrics read by ``reader`` from now on; return what ends that."""
        self._reader = reader
        return self._hand_back

    def _hand_back(self) -> None:
        self._reader = None

    async def read_metrics(self, timeout_s: float) -> bytes | None:
        """Return tailscaled's own metrics; None where there are none to be had in this time."""
        return None if self._reader is None else await self._reader(timeout_s)
