"""Where orders for the tailnet are handed in: who posts one does not know who carries it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.orders import TailnetOrder


class Desk:
    """Hands each order to the one who attends; the newest of those that came before is kept until someone does."""

    def __init__(self) -> None:
        self._attendant: Callable[[TailnetOrder], None] | None = None
        self._waiting: TailnetOrder | None = None

    def post(self, order: TailnetOrder) -> None:
        """Hand in an order; what comes of it is seen on the board."""
        if self._attendant is None:
            self._waiting = order
        else:
            self._attendant(order)

    def attend(self, attendant: Callable[[TailnetOrder], None]) -> Callable[[], None]:
        """Take every order from now on, the waiting one first; return what ends that. It must not block."""
        self._attendant = attendant
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            attendant(waiting)
        return self._leave

    def _leave(self) -> None:
        self._attendant = None
