"""Takes the time from an owner's order until the tailnet is as they wanted it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.orders import Connect
from supervisor.core.tailnet import OFF

if TYPE_CHECKING:
    from supervisor.core.orders import TailnetOrder
    from supervisor.core.snapshot import TailnetView


class Stopwatch:
    """Runs for one order at a time: the next one starts it anew, and one that has nothing to change stops it."""

    def __init__(self) -> None:
        self._connects = False
        self._begun_s: float | None = None

    def begin(self, order: TailnetOrder, view: TailnetView, now_s: float) -> None:
        """Take an order that came when the tailnet was as ``view`` says."""
        self._connects = isinstance(order, Connect)
        self._begun_s = None if self._is_done(view) else now_s

    def look(self, view: TailnetView, now_s: float) -> TailnetView:
        """Return the view with the time that an order took, where it has just been fulfilled."""
        if self._begun_s is None or not self._is_done(view):
            return view
        took_s, self._begun_s = now_s - self._begun_s, None
        if self._connects:
            return view._replace(connects=view.connects.plus(took_s))
        return view._replace(disconnects=view.disconnects.plus(took_s))

    def _is_done(self, view: TailnetView) -> bool:
        return view.up if self._connects else view.state == OFF
