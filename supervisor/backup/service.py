"""The backup service: first it restores what was backed up, then it takes a snapshot every few minutes."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import anyio

from supervisor.backup.beginning import Beginning
from supervisor.backup.by_hand import restore_by_hand
from supervisor.backup.holder import LostError
from supervisor.backup.maintenance import Maintenance
from supervisor.backup.programs import ended_by, in_background
from supervisor.backup.words import BackupError, Trouble
from supervisor.backup.work import AT_STOP, Work
from supervisor.core.backup import BackUp, BackupState, Restore, StartWithout
from supervisor.core.process import Event, EventKind
from supervisor.logs.received import received_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from supervisor.backup.holder import Lease
    from supervisor.config.plan import Plan
    from supervisor.core.backup import BackupOrder
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import Channels, SnapshotStore

# Part of the last snapshot's time, reserved for releasing the repository.
RELEASE_S = 1.0
# Retry interval of the last snapshot and of the release, after which there are no others.
LAST_AGAIN_S = 1.0
_REPLACED = "another instance has taken over"
_NO_TIME = Trouble("there was not enough time for it", "raise SUPERVISOR_STOP_TIMEOUT and the platform's grace period")


class Backups:
    """The only component that runs restic, and the receiver of orders for it.

    It outlives a crash of ``run``, which is then called again: what was decided and acquired still is.
    """

    def __init__(
        self, plan: Plan, store: SnapshotStore, engine: Engine, channels: Channels, environ: Mapping[str, str]
    ) -> None:
        self._work = Work(plan, store, engine, environ)
        self._channels = channels
        self._orders: list[BackupOrder] = []
        self._asked = anyio.Event()
        self._one = anyio.Lock()
        self._current: anyio.CancelScope | None = None
        self._ending = False
        self._last_failure = _NO_TIME
        self._last_is_whole = False
        self._lost = anyio.Event()
        self._life = anyio.CancelScope()
        self._rests = anyio.Event()
        self._rests.set()

    @property
    def keeps(self) -> bool:
        """Whether there is something to save or to release when everything has ended."""
        work = self._work
        if work.holder is None or work.view.state is BackupState.REPLACED:
            return False
        return work.holder.holds or work.view.holds

    async def keep(self, until_s: float) -> None:
        """Take the last snapshot, after the processes have ended, and release the repository; failures are logged."""
        self._ending = True
        self._work.abandon_orders("the supervisor stops")
        if self._work.view.holds or self._work.view.state is BackupState.WITHOUT:
            # This run has no snapshots that count; it must not take over any more.
            self._life.cancel()
            with anyio.move_on_after(max(0.0, until_s - RELEASE_S - time.monotonic())):
                await self._rests.wait()
            await self._let_go(until_s, whole=False)
            return
        if self._current is not None:
            # It began before the last write.
            self._current.cancel()
        begin_s = time.monotonic()
        async with anyio.create_task_group() as group:
            ended, scope = anyio.Event(), anyio.CancelScope()
            with ended_by(until_s):
                group.start_soon(self._take_last, ended, scope)
            with anyio.move_on_after(max(0.0, until_s - RELEASE_S - begin_s)):
                await ended.wait()
            if not ended.is_set():
                self._tell_missing(self._last_failure, begin_s)
                scope.cancel()
                # Time for restic to remove its lock. If it hangs, it is killed after the hand-over.
                with anyio.move_on_after(RELEASE_S / 2):
                    await ended.wait()
            if not self._lost.is_set():
                await self._let_go(until_s, whole=self._last_is_whole)

    def _tell_missing(self, trouble: Trouble, begin_s: float) -> None:
        said = {"after_s": round(time.monotonic() - begin_s, 3), "why": trouble.why, "what_to_do": trouble.what_to_do}
        self._work.log.record("error", "no last snapshot", part="backup", **said)
        self._work.count_failure(Trouble(f"there is no last snapshot: {trouble.why}", trouble.what_to_do))

    async def _take_last(self, ended: anyio.Event, scope: anyio.CancelScope) -> None:
        """Take it; report any failure."""
        begin_s = time.monotonic()
        with scope:
            try:
                async with self._one:
                    await self._try_last()
                self._last_is_whole = not self._work.view.warning
            except LostError:
                self._lost.set()
            except BackupError:
                # Already logged.
                pass
            except Exception as error:  # noqa: BLE001 - the hand-over comes in any case
                why = received_line(f"an internal error: {error!r}", self._work.log.redactor.mask_text)
                self._tell_missing(Trouble(why, "report it"), begin_s)
        ended.set()

    async def _try_last(self) -> None:
        """Take it; wait for a bucket that is temporarily unreachable. Raises BackupError."""
        while True:
            try:
                await self._work.snapshot(AT_STOP)
            except BackupError as error:
                if not error.trouble.may_pass:
                    raise
                self._last_failure = error.trouble
            else:
                return
            await anyio.sleep(LAST_AGAIN_S)

    async def _let_go(self, until_s: float, *, whole: bool) -> None:
        """Release the repository; wait for a bucket that is temporarily unreachable."""
        work = self._work
        if work.holder is None:
            return
        trouble = _NO_TIME
        with anyio.move_on_after(max(0.0, until_s - time.monotonic())):
            while True:
                try:
                    released = await work.holder.release(*work.own_head, whole=whole)
                except LostError:
                    trouble = Trouble(_REPLACED)
                    break
                except BackupError as error:
                    trouble = error.trouble
                    if not trouble.may_pass:
                        break
                    await anyio.sleep(LAST_AGAIN_S)
                else:
                    if released:
                        work.log.record("info", "handed over", part="backup", whole=whole)
                    return
        work.log.record("warning", "cannot hand over", part="backup", why=str(trouble), next="the next one waits")

    async def run(self) -> None:
        """Work until cancelled."""
        leave = self._channels.backups.set_handler(self._take)
        self._life, self._rests = anyio.CancelScope(), anyio.Event()
        # After a crash of this service, the order that it had is lost.
        kept = [order.order for order in self._orders if not isinstance(order, StartWithout)]
        self._work.abandon_orders("the service that handled it was restarted", but=kept)
        try:
            async with anyio.create_task_group() as group:
                if self._work.holder is not None:
                    group.start_soon(self._hold, self._work.holder)
                    group.start_soon(self._lose)
                with self._life:
                    await self._live()
                self._rests.set()
        finally:
            self._rests.set()
            leave()

    async def _live(self) -> None:
        """Decide what to do with the files, release the processes, and back up; until another instance takes over."""
        if self._ending or self._lost.is_set():
            return
        try:
            await Beginning(self._work, self._next_order, self._orders.extend).run()
            await self._go_on()
        except LostError:
            self._lost.set()

    async def _hold(self, holder: Lease) -> None:
        """Renew the lease; report what prevents that, and with it the snapshots."""
        try:
            await holder.keep(lambda: self._work.own_head, lambda: self._ending, self._work.take_hold_trouble)
        except LostError:
            self._lost.set()

    async def _lose(self) -> None:
        """Stop the users of the files after another instance has taken over: what they write would be lost."""
        await self._lost.wait()
        self._life.cancel()
        if self._current is not None:
            self._current.cancel()
        work, engine = self._work, self._work.engine
        work.abandon_orders(_REPLACED)
        work.log.record("error", "another instance has taken over", part="backup", next="everything is stopped here")
        work.show(
            state=BackupState.REPLACED,
            holds=True,
            next_s=None,
            why=_REPLACED,
            what_to_do="end one of the two; this one starts nothing until the container is started again",
        )
        for name in engine.children:
            engine.dispatch(name, Event(EventKind.STOP))

    def _take(self, order: BackupOrder) -> None:
        self._work.take_order(order)
        self._orders.append(order)
        self._asked.set()

    async def _next_order(self, until_s: float | None) -> BackupOrder | None:
        """Return the next order; None if there is none in time."""
        while not self._orders:
            self._asked = anyio.Event()
            with anyio.move_on_after(None if until_s is None else max(0.0, until_s - time.monotonic())) as scope:
                await self._asked.wait()
            if scope.cancelled_caught:
                return None
        return self._orders.pop(0)

    async def _go_on(self) -> None:
        work = self._work
        maintenance = Maintenance(work, time.monotonic())
        if work.view.state is not BackupState.WITHOUT:
            work.rest()
        while True:
            idle = work.view.state is BackupState.IDLE
            dues = [due for due in (work.view.next_s, maintenance.due_s) if due is not None]
            order = await self._next_order(min(dues) if dues and idle else None)
            if order is not None:
                await self._carry_out(order)
            elif work.view.next_s is not None and time.monotonic() >= work.view.next_s:
                with in_background():
                    await self._careful(partial(work.snapshot, "interval"))
            else:
                with in_background():
                    await self._careful(maintenance.run)

    async def _carry_out(self, order: BackupOrder) -> None:
        """Carry out an order; one to start without backups comes too late, as does any other after such a start."""
        if self._work.view.state is BackupState.WITHOUT:
            self._work.answer(order, "this run was started without backups")
        elif isinstance(order, BackUp):
            self._work.answer(order, await self._careful(partial(self._work.snapshot, "asked")))
        elif isinstance(order, Restore):
            self._work.answer(order, await self._careful(partial(restore_by_hand, self._work, order.id)))
        else:
            why = "the order to start without them came too late"
            self._work.log.record("warning", "started with backups", part="backup", why=why)

    async def _careful(self, work: Callable[[], Awaitable[None]]) -> str:
        """Run something that may fail; a failure is logged, and shown until something else succeeds.

        Return the reason if it did not succeed, else an empty text.
        """
        why = "it was broken off"
        async with self._one:
            if self._ending:
                return why
            with anyio.CancelScope() as self._current:
                try:
                    await work()
                except LostError:
                    self._lost.set()
                except BackupError as error:
                    self._work.fail(error.trouble)
                    why = error.trouble.why
                else:
                    self._work.rest()
                    why = ""
            self._current = None
        return why
