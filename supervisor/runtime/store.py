"""Holds the current snapshot and notifies of changes; passes orders between independent components."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor.core.backup import BackupOrder, BackupView
    from supervisor.core.orders import TailnetOrder
    from supervisor.core.snapshot import HealthView, IncidentsView, ListenerView, ProcessView, Snapshot, TailnetView

    # Returns tailscaled's own Prometheus metrics; gets a timeout in seconds, returns None if they are not available.
    MetricsReader = Callable[[float], Awaitable[bytes | None]]

_MOST_WAITING = 16
Order = TypeVar("Order")
T = TypeVar("T")


class SnapshotStore:
    """Holds one immutable snapshot; every change creates the next one and notifies the watchers, in order."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._places = {view.name: place for place, view in enumerate(snapshot.processes)}
        self._watchers: list[Callable[[Snapshot], None]] = []

    def watch(self, watcher: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call ``watcher`` with each new snapshot; return a function that unsubscribes it. A watcher must not block."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def update_process(self, view: ProcessView) -> None:
        """Replace or add one process."""
        views = self.snapshot.processes
        place = self._places.setdefault(view.name, len(views))
        if views[place : place + 1] != (view,):
            # A copy of a thousand is made by a list in half the time.
            changed = list(views)
            changed[place : place + 1] = [view]
            self._publish(processes=tuple(changed), changed=place)

    def update_wall_offset(self, offset_s: float) -> None:
        """Record that the wall clock was set: the offset from the monotonic clock is now this."""
        snapshot = self.snapshot
        first_s = snapshot.wall_offset_s if snapshot.first_offset_s is None else snapshot.first_offset_s
        self._put(wall_offset_s=offset_s, first_offset_s=first_s)

    def update_tailnet(self, view: TailnetView) -> None:
        """Replace the tailnet's view."""
        self._put(tailnet=view)

    def update_exposed(self, listeners: tuple[ListenerView, ...], *, known: bool) -> None:
        """Replace the list of ports that tailnet peers reach without going through serve; ``known`` if it is whole."""
        self._put(exposed=listeners, exposed_known=known)

    def update_backup(self, view: BackupView) -> None:
        """Replace the backups' view."""
        self._put(backup=view)

    def update_health(self, view: HealthView) -> None:
        """Replace the health."""
        self._put(health=view)

    def update_stopping(self, why: str) -> None:
        """Record that the ordered stop has begun, and its reason."""
        self._put(stopping=True, stopping_why=why, stopping_s=time.monotonic())

    def update_left(self, names: tuple[str, ...]) -> None:
        """Store the names of the unmanaged processes that the ordered stop could not end."""
        self._put(left=names)

    def update_incidents(self, view: IncidentsView) -> None:
        """Replace the list of incidents."""
        self._put(incidents=view)

    def update_orphans_reaped(self, count: int) -> None:
        """Record the number of adopted orphans reaped since the start."""
        self._put(orphans_reaped=count)

    def _put(self, **changes: Any) -> None:
        if any(getattr(self.snapshot, name) != value for name, value in changes.items()):
            self._publish(**changes)

    def _publish(self, **changes: Any) -> None:
        self.snapshot = self.snapshot._replace(number=self.snapshot.number + 1, **changes)
        for watcher in tuple(self._watchers):
            watcher(self.snapshot)


class Watch(Generic[T]):
    """Waits until ``value``, which ``look`` extracts from the snapshot, changes; for use on the event loop only."""

    def __init__(self, store: SnapshotStore, look: Callable[[Snapshot], T]) -> None:
        # The store exists before asyncio is imported.
        import asyncio

        self._timeout = asyncio.timeout
        self._changed = asyncio.Event()
        self._look = look
        self.value = look(store.snapshot)
        self.close = store.watch(self._take)

    def _take(self, snapshot: Snapshot) -> None:
        value = self._look(snapshot)
        if value != self.value:
            self.value = value
            self._changed.set()

    async def changed(self, timeout_s: float | None = None) -> bool:
        """Wait for a change since the last call, at most the given time; return whether there was one."""
        try:
            async with self._timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def until_true(self) -> None:
        """Wait until the value is true."""
        while not self.value:
            await self.changed()


class CommandChannel(Generic[Order]):
    """Passes each order to its handler; the latest of those sent before a handler is set are kept for it."""

    def __init__(self) -> None:
        self._handler: Callable[[Order], None] | None = None
        self._waiting: deque[Order] = deque(maxlen=_MOST_WAITING)

    def send(self, order: Order) -> None:
        """Send an order; its effect appears in the store."""
        if self._handler is None:
            self._waiting.append(order)
        else:
            self._handler(order)

    def set_handler(self, handler: Callable[[Order], None]) -> Callable[[], None]:
        """Pass every order to ``handler`` from now on, the waiting ones first; return what ends that.

        It must not block.
        """
        self._handler = handler
        while self._waiting:
            handler(self._waiting.popleft())
        return self._clear

    def _clear(self) -> None:
        self._handler = None


class Channels:
    """The links between web, tailnet and backup: a channel for the orders to each, and tailscaled's own metrics."""

    def __init__(self) -> None:
        self.tailnet: CommandChannel[TailnetOrder] = CommandChannel()
        self.backups: CommandChannel[BackupOrder] = CommandChannel()
        self._reader: MetricsReader | None = None

    def set_metrics_reader(self, reader: MetricsReader) -> Callable[[], None]:
        """Read tailscaled's own metrics with ``reader`` from now on; return a function that removes it."""
        self._reader = reader
        return self._clear_reader

    def _clear_reader(self) -> None:
        self._reader = None

    async def read_metrics(self, timeout_s: float) -> bytes | None:
        """Return tailscaled's own metrics; None if they are not available within this time."""
        return None if self._reader is None else await self._reader(timeout_s)
