"""The ordered stop: the app and what depends on it, then the tailnet, then everything else, within one budget."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.process import QUIT_GRACE_S, Event, EventKind
from supervisor.runtime.loop_latency import being_cancelled
from supervisor.runtime.store import Watch
from supervisor.system import procfs
from supervisor.system.sweeper import TERM_GRACE_S, Headcount, Sweeper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from supervisor.runtime.engine import Engine

RESERVE_LOGOUT_S = 3.0
RESERVE_TAILSCALED_S = 1.0
# Per process that may be left: ending thousands takes time.
RESERVE_EACH_S = 0.0006
# Most stops are over before this, and need no count.
COUNT_AFTER_S = 0.02
# With less time than this, a process that has not ended may only be slow: tailscaled 1.102 may need a second.
QUIT_WORTH_S = 3.0
# Time left to end after that.
RESERVE_KEEP_S = 0.5
CLOSE_WEB_S = 0.5
# How far a step of another component may overrun its time before it is cancelled.
OVERRUN_S = 0.3
# How long the kernel may take to end a killed process; one that waits for a broken disk does not end at all.
KILL_GRACE_S = 1.0
# How far ending the remaining processes may overrun the budget.
SWEEP_OVERRUN_S = 0.4


class StopPlan(NamedTuple):
    """How long the whole stop may take, which process is stopped last, and the steps of other components.

    ``close_tailnet`` gets its deadline in seconds of the monotonic clock; it is None if there is nothing to do.
    ``keep`` likewise, when every process has ended: it saves their files, and gets half of the time.
    ``close_web`` is called when all has ended: it notifies the clients of the end, and takes only a moment.
    """

    timeout_s: float = 8.0
    last: str | None = None
    close_tailnet: Callable[[float], Awaitable[None]] | None = None
    close_web: Callable[[], Awaitable[None]] | None = None
    keep: Callable[[float], Awaitable[None]] | None = None

    def reserve_s(self, count: int) -> float:
        """Return how much of the budget is reserved for the steps after the app, with so many processes left."""
        if self.close_tailnet is not None:
            wished_s = RESERVE_LOGOUT_S
        else:
            wished_s = RESERVE_TAILSCALED_S if self.last is not None else 0.0
        if self.keep is not None:
            wished_s = max(wished_s, self.timeout_s / 2)
        return min(wished_s + RESERVE_EACH_S * count, self.timeout_s / 2)


class Stop:
    """One ordered stop under way."""

    def __init__(self, engine: Engine, plan: StopPlan) -> None:
        self._engine = engine
        self._plan = plan
        # Both a state change and a reaped orphan appear there.
        self._watch = Watch(engine.store, lambda snapshot: snapshot.number)
        self._deadline_s = time.monotonic() + plan.timeout_s
        # Once the app is killed, its children have to be ended as well, and theirs.
        self._others = Headcount(procfs.everything_else, COUNT_AFTER_S)
        self._current: tuple[str, ...] = ()
        self._sweep: Sweeper | None = None
        self._forced = False
        engine.close()

    def force(self) -> None:
        """Kill at once what is being stopped, and the app when its turn comes; the order stays the same."""
        self._forced = True
        self._kill(self._current)
        if self._sweep is not None:
            self._sweep.escalate()

    async def run(self) -> None:
        """Stop everything; return when no process is left, or the rest cannot be ended."""
        last = self._plan.last
        others = [name for name in self._engine.children if name != last]
        while not self._engine.all_at_rest(others):
            left = await self._stop(self._without_dependents(others), self._turn_end(others))
            others = [name for name in others if name not in left]
        if self._plan.close_tailnet is not None:
            until_s = self._deadline_s - RESERVE_TAILSCALED_S / 2
            await self._attempt("leaving the tailnet", self._plan.close_tailnet(until_s), until_s)
        if last is not None:
            await self._stop((last,), lambda: self._deadline_s)
        await self._wait_for(self._engine.all_cleaned, self._deadline_s)
        if self._plan.keep is not None:
            until_s = self._deadline_s - RESERVE_KEEP_S
            await self._attempt("the last snapshot", self._plan.keep(until_s), until_s)
        await self._sweep_all()
        if self._plan.close_web is not None:
            await self._attempt("closing the web server", self._plan.close_web(), time.monotonic() + CLOSE_WEB_S)

    async def _attempt(self, name: str, work: Awaitable[None], until_s: float) -> None:
        """Run a step of another component; the stop continues even if it fails."""
        try:
            async with asyncio.timeout_at(until_s + OVERRUN_S):
                await work
        except (Exception, asyncio.CancelledError) as error:
            if being_cancelled():
                raise
            self._engine.log.record("error", f"{name} failed", why=repr(error))

    def _without_dependents(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the processes on which no other live process depends."""
        alive = [name for name in names if not self._engine.all_at_rest((name,))]
        needed = {other for name in alive for other in self._engine.children[name].spec.after}
        return tuple(name for name in alive if name not in needed) or tuple(alive)

    def _turn_end(self, names: Iterable[str]) -> Callable[[], float]:
        """Return what tells when the first turn of those to come ends: each gets the same part of what is left.

        Otherwise a process that does not end would leave no time to those that it depends on, such as the app. The more
        processes are counted, the earlier it ends.
        """
        turns, left = 0, self._without_dependents(names)
        alive = set(names)
        while left:
            turns += 1
            alive.difference_update(left)
            left = self._without_dependents(alive)
        begun_s = time.monotonic()

        def end_s() -> float:
            deadline_s = self._deadline_s - self._plan.reserve_s(self._others.count)
            return begun_s + max(deadline_s - begun_s, 0.0) / max(turns, 1)

        return end_s

    def _kill(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._engine.all_at_rest((name,)):
                self._engine.dispatch(name, Event(EventKind.FORCE_STOP))

    async def _stop(self, names: tuple[str, ...], end_s: Callable[[], float]) -> frozenset[str]:
        """Stop these processes; return those that survived KILL, or whose remains are still being ended.

        The stop does not wait for the remains: they are ended concurrently.
        """
        self._current = names
        for name in names:
            spec = self._engine.children[name].spec
            left_s = end_s() - time.monotonic()
            if spec.quit_before_kill and left_s >= QUIT_WORTH_S:
                left_s -= QUIT_GRACE_S
            limit_s = min(max(left_s, 0.0), spec.stop_timeout_s)
            self._engine.dispatch(name, Event(EventKind.STOP, limit_s=limit_s))
        if self._forced and self._plan.last not in names:
            self._kill(names)
        await self._wait_turn(names, end_s)
        self._kill(names)
        await self._wait_for(partial(self._engine.all_ended, names), time.monotonic() + KILL_GRACE_S)
        self._current = ()
        unending = [name for name in names if not self._engine.all_ended((name,))]
        if unending:
            self._engine.log.record("error", "cannot be ended", names=sorted(unending))
        return frozenset(name for name in names if not self._engine.all_at_rest((name,)))

    async def _wait_turn(self, names: tuple[str, ...], end_s: Callable[[], float]) -> None:
        """Wait until these are at rest or their turn ends; the other processes are counted meanwhile."""
        while not self._engine.all_at_rest(names) and time.monotonic() < end_s():
            until_s = end_s()
            # The last one ends by itself: nothing is left that takes time from it.
            if self._plan.last not in names:
                self._others.work()
                until_s = min(end_s(), self._others.due_s)
            await self._wait_change(until_s)

    async def _wait_for(self, condition: Callable[[], bool], deadline_s: float) -> None:
        while not condition():
            if not await self._wait_change(deadline_s):
                return

    async def _sweep_all(self) -> None:
        """End all unmanaged processes: orphans, other sessions, those started from a console."""
        now_s = time.monotonic()
        left_s = 0.0 if self._forced else max(self._deadline_s - now_s, 0.0)
        until_s = max(now_s, self._deadline_s) + SWEEP_OVERRUN_S
        sweep = self._sweep = Sweeper(procfs.everything_else, min(TERM_GRACE_S, left_s), until_s)
        for earlier in [child.stop_sweeping() for child in self._engine.children.values()]:
            if earlier is not None:
                sweep.take_over(earlier)
        self._engine.sweepers.append(sweep)
        while not sweep.work():
            # Other tasks run between two steps even if there is no time to wait.
            await asyncio.sleep(0)
            await self._wait_change(sweep.due_s)
        if sweep.left:
            managed = self._engine.reaper.owned
            others = {process.name for pid, process in sweep.left.items() if pid not in managed}
            self._engine.store.update_left(tuple(sorted(others)))
        if sweep.seen:
            self._engine.log.record(
                "warning" if sweep.killed else "info",
                "ended everything else",
                **sweep.figures(),
                pid_1=os.getpid() == 1,
            )

    async def _wait_change(self, deadline_s: float) -> bool:
        """Wait until something has changed; return False at the deadline."""
        timeout_s = deadline_s - time.monotonic()
        return timeout_s > 0 and await self._watch.changed(timeout_s)
