"""Drives every process through its state table: dispatches events, keeps timers, collects exits.

Nothing here blocks or needs an event loop: the first child starts before asyncio is imported. The main loop calls
``fire_due`` at ``next_due_s``, and ``reap`` on SIGCHLD.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from supervisor.backoff import random_jitter
from supervisor.core.process import WAITS, Event, EventKind, SetTimer, State, possible
from supervisor.namedtuples import NamedTuple
from supervisor.runtime.child import AT_REST, Child
from supervisor.system.kernel import OomCounter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from supervisor.core.process import ProcessSpec
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore
    from supervisor.system.reaper import Reaper
    from supervisor.system.sweeper import Sweeper

    class Observer(Protocol):
        """The events that the main loop receives in addition to changes of the store."""

        def take_final(self, name: str) -> None:
            """Handle that a process has ended permanently: by its restart policy, or because it was given up."""

        def take_change(self) -> None:
            """Handle any change: the time of the next timer may have changed."""

        def take_defect(self, error: Exception) -> None:
            """Handle an internal error."""


# So many timers of states that have been left may wait for their time.
_MOST_STALE = 256
FINAL = frozenset({State.ENDED, State.FAILED})
_ENDED = AT_REST | {State.CLEANING}
_BEGINNINGS = frozenset({EventKind.START, EventKind.RESTART, EventKind.RELEASED, EventKind.LET_GO})


class _Timer(NamedTuple):
    due_s: float
    number: int
    name: str
    kind: EventKind
    generation: int


class Engine:
    """All processes of one plan."""

    def __init__(
        self,
        specs: Iterable[ProcessSpec],
        store: SnapshotStore,
        log: LogPipeline,
        reaper: Reaper,
        launcher: tuple[str, ...],
    ) -> None:
        self.store = store
        self.log = log
        self.reaper = reaper
        self.launcher = launcher
        self.oom = OomCounter()
        # Each is called for every orphan reaped.
        self.sweepers: list[Sweeper] = []
        self._observer: Observer | None = None
        self._events: deque[tuple[str, Event]] = deque()
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        self._stepping = False
        self._closing = False
        # Of a thousand processes, few wait or are being cleaned up after at a time: only those are searched.
        self._waiting: set[str] = set()
        self.sweeping: dict[str, Child] = {}
        # When the next of them is due, None if there is none; too early does no harm.
        self._sweep_due_s: float | None = None
        # The orphans, listed once for all that look for remains in one turn.
        self._orphans: list[int] | None = None
        self.children = {spec.name: Child(spec, self) for spec in specs}

    def observe(self, observer: Observer) -> None:
        """Notify ``observer`` from now on, and at once of the processes that have already ended permanently."""
        self._observer = observer
        self.settle()
        for name, child in self.children.items():
            if child.machine.state in FINAL:
                observer.take_final(name)

    @property
    def is_observed(self) -> bool:
        """Whether the main loop has begun, and must not wait for a disk."""
        return self._observer is not None

    def start_all(self) -> None:
        """Order every process to start."""
        for name in self.children:
            self.dispatch(name, Event(EventKind.START))

    def hold(self, names: Iterable[str], state: State) -> None:
        """Make every start of these processes wait in this state until ``release``."""
        for name in names:
            self.dispatch(name, Event(EventKind.HOLD, hold=state))

    def release(self) -> None:
        """Allow the held processes to start, in the order of their dependencies."""
        for name, child in self.children.items():
            if child.machine.hold is not None:
                self.dispatch(name, Event(EventKind.LET_GO))

    def close(self) -> None:
        """Refuse all starts from now on: the ordered stop has begun."""
        self._closing = True

    def dispatch(self, name: str, event: Event) -> None:
        """Pass an event to a process. The events that it causes are handled before others in the queue."""
        if self._stepping:
            self._events.appendleft((name, event))
            return
        self._events.append((name, event))
        self.settle()

    def settle(self) -> None:
        """Handle all events, and start the processes whose dependencies are ready."""
        if self._stepping:
            return
        self._stepping = True
        try:
            self._release_waiting()
            while self._events:
                self._step(*self._events.popleft())
                if not self._events:
                    self._release_waiting()
        except Exception as error:
            # The main loop decides; the sender of the order is not involved.
            if self._observer is None:
                raise
            self._observer.take_defect(error)
        finally:
            self._stepping = False
        self._tell_change()

    def take_final(self, name: str) -> None:
        """Notify the observer that a process has ended permanently."""
        if self._observer is not None:
            self._observer.take_final(name)

    def _tell_change(self) -> None:
        if self._observer is not None:
            self._observer.take_change()

    def _step(self, name: str, event: Event) -> None:
        child = self.children[name]
        if self._closing and event.kind in _BEGINNINGS:
            return
        if not possible(child.machine.state, event.kind):
            self.log.record(
                "error",
                "impossible event ignored",
                child=name,
                state=child.machine.state.value,
                event_kind=event.kind.value,
            )
            return
        child.step(event, time.monotonic(), random_jitter())
        if child.machine.state is State.WAITING:
            self._waiting.add(name)
        else:
            self._waiting.discard(name)

    def _release_waiting(self) -> None:
        if not self._waiting:
            return
        for name, child in self.children.items():
            if name not in self._waiting or child.machine.hold is not None:
                continue
            missing = [other for other in child.spec.after if not self.children[other].ready]
            if missing:
                child.wait_for(missing)
            else:
                self._events.append((name, Event(EventKind.RELEASED)))

    def update_readiness(self, name: str, *, ready: bool, why: str = "") -> None:
        """Store a probe's result; it is ignored if the process has ended since."""
        if self.children[name].update_readiness(ready=ready, why=why):
            self.settle()

    def set_timer(self, name: str, timer: SetTimer, generation: int) -> None:
        """Dispatch an event later, unless the process has left its present state by then."""
        # A timer that is due at once waits for ``fire_due`` too, so that starts without a pause let others run.
        due_s = time.monotonic() + max(0.0, timer.after_s)
        heapq.heappush(self._timers, _Timer(due_s, next(self._numbers), name, timer.kind, generation))
        if len(self._timers) > _MOST_STALE + 2 * len(self.children):
            # In a crash loop each life leaves one, for as long as SUPERVISOR_BACKOFF_RESET.
            self._timers = [each for each in self._timers if self._is_current(each)]
            heapq.heapify(self._timers)

    def next_due_s(self) -> float | None:
        """Return the time of the next timer, in seconds of the monotonic clock."""
        while self._timers and not self._is_current(self._timers[0]):
            heapq.heappop(self._timers)
        dues = (self._timers[0].due_s if self._timers else None, self._sweep_due_s)
        return min((due_s for due_s in dues if due_s is not None), default=None)

    def fire_due(self) -> None:
        """Dispatch the event of every timer that is due."""
        self._sweep()
        now_s = time.monotonic()
        due = []
        while self._timers and self._timers[0].due_s <= now_s:
            due.append(heapq.heappop(self._timers))
        for timer in due:
            if self._is_current(timer):
                self.dispatch(timer.name, Event(timer.kind))
        self._tell_change()

    def _is_current(self, timer: _Timer) -> bool:
        return self.children[timer.name].generation == timer.generation

    def reap(self) -> bool:
        """Reap exited children; return whether there may be more."""
        before = self.reaper.orphans
        more = self.reaper.reap(self._take_orphan)
        if self.reaper.orphans != before:
            self.store.update_orphans_reaped(self.reaper.orphans)
        self._sweep()
        return more

    def _take_orphan(self, pid: int) -> None:
        for sweeper in self.sweepers:
            sweeper.forget(pid)

    def _sweep(self) -> None:
        self._orphans = None
        for child in tuple(self.sweeping.values()):
            child.sweep()
        sweepers = (child.sweeper for child in self.sweeping.values())
        self._sweep_due_s = min((sweeper.due_s for sweeper in sweepers if sweeper is not None), default=None)

    def sweep_soon(self) -> None:
        """Let ``fire_due`` continue to clean up at the next opportunity."""
        self._sweep_due_s = 0.0

    def orphans(self) -> list[int]:
        """Return the children of this process that are not managed, as they were in this turn's first sweep."""
        if self._orphans is None:
            # Imported with the loop, so that no child starts later because of it.
            from supervisor.system.procfs import children

            self._orphans = sorted({*children(os.getpid())}.difference(self.reaper.owned))
        return self._orphans

    def all_at_rest(self, names: Iterable[str]) -> bool:
        """Return whether all of these processes are stopped and not about to start."""
        return all(self.children[name].machine.state in AT_REST for name in names)

    def all_down(self, names: Iterable[str]) -> bool:
        """Return whether none of these processes works: each is stopped, or its start waits."""
        return all(self.children[name].machine.state in AT_REST | WAITS for name in names)

    def all_ended(self, names: Iterable[str]) -> bool:
        """Return whether all of these processes have ended; what they left behind may still run."""
        return all(self.children[name].machine.state in _ENDED for name in names)

    def all_cleaned(self) -> bool:
        """Return whether the cleanup of everything that processes left behind is complete."""
        return not self.sweeping
