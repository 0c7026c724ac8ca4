"""Holds the current snapshot and notifies of changes; passes orders between parts that do not know each other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.backup import BackupView
    from supervisor.core.snapshot import HealthView, IncidentsView, ListenerView, ProcessView, Snapshot, TailnetView


class SnapshotStore:
    """Holds one immutable snapshot; every change makes the next one and notifies the watchers, in order."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._places = {view.name: place for place, view in enumerate(snapshot.processes)}
        self._watchers: list[Callable[[Snapshot], None]] = []

    def watch(self, watcher: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call ``watcher`` with each new snapshot; return what ends that. A watcher must not block."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def update_process(self, view: ProcessView) -> None:
        """Replace (or add) one process."""
        views = self.snapshot.processes
        place = self._places.setdefault(view.name, len(views))
        self._put(self.snapshot._replace(processes=(*views[:place], view, *views[place + 1 :])))

    def update_tailnet(self, view: TailnetView) -> None:
        """Replace what is known of the tailnet."""
        self._put(self.snapshot._replace(tailnet=view))

    def update_exposed(self, listeners: tuple[ListenerView, ...]) -> None:
        """Replace the list of ports that tailnet peers reach past serve."""
        self._put(self.snapshot._replace(exposed=listeners))

    def update_backup(self, view: BackupView) -> None:
        """Replace what is known of the backups."""
        self._put(self.snapshot._replace(backup=view))

    def update_health(self, view: HealthView) -> None:
        """Replace the health."""
        self._put(self.snapshot._replace(health=view))

    def update_stopping(self, why: str) -> None:
        """Record that the ordered stop has begun, and what for."""
        self._put(self.snapshot._replace(stopping=True, stopping_why=why))

    def update_incidents(self, view: IncidentsView) -> None:
        """Replace what is known of the incidents."""
        self._put(self.snapshot._replace(incidents=view))

    def update_orphans_reaped(self, count: int) -> None:
        """Record how many adopted orphans were reaped since the start."""
        self._put(self.snapshot._replace(orphans_reaped=count))

    def _put(self, snapshot: Snapshot) -> None:
        if snapshot == self.snapshot:
            return
        self.snapshot = snapshot._replace(number=snapshot.number + 1)
        for watcher in tuple(self._watchers):
            watcher(self.snapshot)


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor.core.backup import BackupOrder
    from supervisor.core.orders import TailnetOrder

    # What tailscaled tells of itself to Prometheus, within so many seconds; None where it does not.
    MetricsReader = Callable[[float], Awaitable[bytes | None]]

_MOST_WAITING = 16


Order = TypeVar("Order")
T = TypeVar("T")


class Watch(Generic[T]):
    """Waits for ``value``, what ``look`` finds in the snapshot, to become another one; for the event loop alone."""

    def __init__(self, store: SnapshotStore, look: Callable[[Snapshot], T]) -> None:
        # The store is there before an event loop is loaded.
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
        """Wait for a change since the last call, for at most so long; tell whether there was one."""
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
    """Hands each order to its handler; the last of those sent before there is one are kept until then."""

    def __init__(self) -> None:
        self._handler: Callable[[Order], None] | None = None
        self._waiting: deque[Order] = deque(maxlen=_MOST_WAITING)

    def send(self, order: Order) -> None:
        """Hand in an order; its effect shows in the store."""
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
    """What web, tailnet and backup use of each other: a channel for each one's orders, and tailscaled's own metrics."""

    def __init__(self) -> None:
        self.tailnet: CommandChannel[TailnetOrder] = CommandChannel()
        self.backups: CommandChannel[BackupOrder] = CommandChannel()
        self._reader: MetricsReader | None = None

    def set_metrics_reader(self, reader: MetricsReader) -> Callable[[], None]:
        """Have tailscaled's own metrics read by ``reader`` from now on; return what ends that."""
        self._reader = reader
        return self._clear_reader

    def _clear_reader(self) -> None:
        self._reader = None

    async def read_metrics(self, timeout_s: float) -> bytes | None:
        """Return tailscaled's own metrics; None where there are none to be had in this time."""
        return None if self._reader is None else await self._reader(timeout_s)
