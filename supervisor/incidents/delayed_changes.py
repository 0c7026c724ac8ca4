"""Passes changes of the snapshot on a moment later, so that what they cause, such as a restart, comes first."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.snapshot import Snapshot
    from supervisor.runtime.store import SnapshotStore

AFTER_S = 0.02
# How many changes may wait, and how many views of processes they may hold: each has the list of all.
MOST_WAITING, MOST_VIEWS = 256, 100_000


class DelayedChanges:
    """The changes of a store since the snapshot ``seen``, without those of its incidents alone.

    ``look`` gets the snapshots before and after each at once, ``take`` gets them later in their order, with the time of
    the change in seconds of the monotonic clock. ``handled`` is the snapshot after the last one that ``take`` got.
    """

    def __init__(
        self,
        store: SnapshotStore,
        seen: Snapshot,
        look: Callable[[Snapshot, Snapshot], None],
        take: Callable[[Snapshot, Snapshot, float], None],
    ) -> None:
        self._seen = seen
        self._look = look
        self._take = take
        self._waiting: deque[tuple[Snapshot, Snapshot, float]] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self.handled = store.snapshot
        self._unwatch = store.watch(self._note)
        self._note(store.snapshot)

    def handle(self) -> None:
        """Pass on all changes so far."""
        if self._busy:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._busy = True
        try:
            while self._waiting:
                before, self.handled, at_s = self._waiting.popleft()
                self._take(before, self.handled, at_s)
        finally:
            self._busy = False
            self._set_timer()

    def close(self) -> None:
        """Pass on the changes so far, and no later ones."""
        self._unwatch()
        self.handle()

    def _note(self, snapshot: Snapshot) -> None:
        before, self._seen = self._seen, snapshot
        of_incidents = snapshot.number == before.number + 1 and snapshot.incidents is not before.incidents
        if before is snapshot or of_incidents:
            return
        self._look(before, snapshot)
        self._waiting.append((before, snapshot, time.monotonic()))
        if len(self._waiting) >= min(MOST_WAITING, MOST_VIEWS // (1 + len(snapshot.processes))):
            self.handle()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._waiting and self._timer is None and not self._busy:
            self._timer = asyncio.get_running_loop().call_later(AFTER_S, self.handle)
