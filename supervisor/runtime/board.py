"""Where the current snapshot hangs: owners replace their part of it, readers take it or watch it change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.backup import BackupView
    from supervisor.core.snapshot import HealthView, ListenerView, ProcessView, Snapshot, TailnetView


class Board:
    """Holds one immutable snapshot; every change makes the next one and tells the watchers, in order."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._watchers: list[Callable[[Snapshot], None]] = []

    def watch(self, watcher: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call ``watcher`` with each new snapshot; return what ends that. A watcher must not block."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def put_process(self, view: ProcessView) -> None:
        """Replace (or add) one process."""
        views = self.snapshot.processes
        if any(old.name == view.name for old in views):
            views = tuple(view if old.name == view.name else old for old in views)
        else:
            views = (*views, view)
        self._put(self.snapshot._replace(processes=views))

    def put_tailnet(self, view: TailnetView) -> None:
        """Replace what is known of the tailnet."""
        self._put(self.snapshot._replace(tailnet=view))

    def put_exposed(self, listeners: tuple[ListenerView, ...]) -> None:
        """Replace the list of ports that tailnet peers reach past serve."""
        self._put(self.snapshot._replace(exposed=listeners))

    def put_backup(self, view: BackupView) -> None:
        """Replace what is known of the backups."""
        self._put(self.snapshot._replace(backup=view))

    def put_health(self, view: HealthView) -> None:
        """Replace the verdict."""
        self._put(self.snapshot._replace(health=view))

    def put_stopping(self) -> None:
        """Say that the ordered stop has begun."""
        self._put(self.snapshot._replace(stopping=True))

    def put_orphans_reaped(self, count: int) -> None:
        """Say how many adopted orphans were reaped since the start."""
        self._put(self.snapshot._replace(orphans_reaped=count))

    def _put(self, snapshot: Snapshot) -> None:
        if snapshot == self.snapshot:
            return
        self.snapshot = snapshot._replace(number=snapshot.number + 1)
        for watcher in tuple(self._watchers):
            watcher(self.snapshot)
