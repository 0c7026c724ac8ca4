"""The last checks of a start with backups, before any process uses the files."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from supervisor.backup import beginning as module
from supervisor.backup.beginning import Beginning
from supervisor.backup.holder import LostError
from supervisor.backup.marker import Kept
from supervisor.backup.service import Backups
from supervisor.backup.words import BackupError, ChoiceNeededError, Trouble
from supervisor.backup.work import Work
from supervisor.core.backup import BackUp, BackupState, BackupView, Head, SnapshotView, StartWithout
from supervisor.core.holding import LeaseRecord
from supervisor.core.snapshot import Snapshot
from supervisor.runtime.store import SnapshotStore

if TYPE_CHECKING:
    from supervisor.backup.holder import Lease
    from supervisor.core.backup import BackupOrder


async def no_order(_until_s: float | None) -> BackupOrder | None:
    """Return no order."""
    return None


def beginning(done: list[str], failure: Exception | None) -> Beginning:
    """Return a start whose check of the lease raises ``failure``, if given; its steps are recorded in ``done``."""

    async def look_at_hold() -> None:
        done.append("looks")
        if failure is not None:
            raise failure

    def note(name: str) -> object:
        return lambda *_, **__: done.append(name)

    engine = SimpleNamespace(release=note("starts"))
    work = SimpleNamespace(look_at_hold=look_at_hold, show=note("shows"), tell=note("tells"), engine=engine)

    async def forget() -> None:
        done.append("forgets the swap")

    work.log, work.places = SimpleNamespace(record=note("logs")), SimpleNamespace(forget_swap_soon=forget)
    work.go_without = note("goes without")
    return Beginning(cast("Work", work), no_order, lambda _orders: None)


async def test_one_that_was_replaced_during_its_restore_starts_nothing() -> None:
    """A restore may take long, and the container may have been frozen meanwhile: the lease is checked once more."""
    done: list[str] = []
    with pytest.raises(LostError):
        await beginning(done, LostError())._release()
    assert done == ["looks"]


async def test_one_that_cannot_look_starts_and_tells() -> None:
    """An unreachable bucket does not end the service."""
    done: list[str] = []
    await beginning(done, BackupError(Trouble("the bucket is away")))._release()
    assert done == ["looks", "tells", "shows", "starts"]


async def test_a_start_without_backups_keeps_what_it_writes() -> None:
    """A restore that was interrupted before is not continued at the next start."""
    done: list[str] = []
    await beginning(done, None)._start_without()
    assert done.index("forgets the swap") < done.index("starts")


class Tries:
    """A held start whose tries end as given; ``carried`` are the orders that it has carried out."""

    def __init__(self, *ends: tuple[BackupState, list[BackupOrder], BackupError]) -> None:
        self.orders: list[BackupOrder] = []
        self.carried: list[BackupOrder] = []
        self.without = False
        self._ends = list(ends)
        self._heard = anyio.Event()
        self._view = BackupView(holds=True)
        nothing = SimpleNamespace(record=self._ignore, release=self._ignore, forget_swap_soon=self._look)
        work = SimpleNamespace(log=nothing, engine=nothing, places=nothing, decided=False, show=self._ignore)
        work.plan, work.view, work.hold = SimpleNamespace(holds=True), self._view, self._ignore
        work.go_without, work.look_at_hold, work.answer = self._go_without, self._look, self._ignore
        self._work = work
        self.start = Beginning(cast("Work", work), self._next, self.orders.extend)
        self.start._try = self._try  # type: ignore[method-assign]
        self.start._carry_out = self._carry_out  # type: ignore[method-assign]

    async def _try(self) -> None:
        state, orders, error = self._ends.pop(0)
        self._work.view = self._view._replace(state=state)
        self.orders += orders
        if orders:
            await self._heard.wait()
        raise error

    async def _next(self, until_s: float | None) -> BackupOrder | None:
        while not self.orders:
            if until_s is not None and time.monotonic() >= until_s:
                return None
            await anyio.sleep(0.01)
        self._heard.set()
        return self.orders.pop(0)

    async def _carry_out(self, order: BackupOrder) -> None:
        self.carried.append(order)

    async def _look(self) -> None:
        """Find no other instance."""

    def _go_without(self) -> None:
        self.without = True

    def _ignore(self, *_: object, **__: object) -> None:
        """Ignore the call."""


AWAY = BackupError(Trouble("the bucket is away", "it is tried again"))
CHOOSE = ChoiceNeededError(Trouble("the repository is gone"), may_pass=True)


async def test_an_order_outlives_a_try_that_finds_the_bucket_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was accepted while there was a choice to make, and is carried out when there is one again."""
    monkeypatch.setattr(module, "_AGAIN_S", 0.1)
    order = BackUp("somebody")
    held, choose = BackupState.HELD, BackupState.CHOOSE
    tries = Tries((choose, [], CHOOSE), (choose, [order], AWAY), (held, [], AWAY), (choose, [], CHOOSE))
    with anyio.fail_after(10):
        await tries.start.run()
    assert tries.carried == [order]


async def test_a_start_without_backups_that_is_ordered_during_a_restore_comes_after_one_that_fails() -> None:
    """The restore is not interrupted, so that no files are left half replaced; but the order is not forgotten."""
    tries = Tries((BackupState.RESTORING, [StartWithout()], AWAY))
    with anyio.fail_after(10):
        await tries.start.run()
    assert tries.without


class LastWrite(Tries):
    """One to which the order to start without backups comes during its last write, which is not cancelled any more."""

    async def _try(self) -> None:
        self.orders.append(StartWithout())
        with anyio.CancelScope(shield=True):
            await self._heard.wait()
            await anyio.sleep(0.01)
        if self._ends:
            raise self._ends.pop(0)[2]


async def test_a_start_without_backups_that_is_ordered_too_late_is_logged() -> None:
    """The start with backups goes on, as that write has decided it."""
    late = LastWrite()
    with anyio.fail_after(10):
        await late.start.run()
    assert not late.without
    assert late.orders == [StartWithout()]
    logged: list[str] = []
    log = SimpleNamespace(record=lambda _level, event, **more: logged.append(f"{event}: {more['why']}"))
    backups = Backups.__new__(Backups)
    backups._work = cast("Work", SimpleNamespace(view=BackupView(BackupState.IDLE), log=log))
    await backups._carry_out(late.orders[0])
    assert logged == ["started with backups: the order to start without them came too late"]


async def test_a_start_without_backups_that_is_ordered_in_a_last_write_that_fails_is_obeyed() -> None:
    """It was forgotten, and the start was held."""
    late = LastWrite((BackupState.STARTING, [], AWAY))
    with anyio.fail_after(10):
        await late.start.run()
    assert late.without


async def test_a_start_without_backups_takes_no_snapshot_that_was_ordered_before() -> None:
    """A run without backups takes no snapshots."""
    backups = Backups.__new__(Backups)
    answers: list[str] = []
    work = SimpleNamespace(view=BackupView(BackupState.WITHOUT), answer=lambda _order, why: answers.append(why))
    backups._work = cast("Work", work)
    await backups._carry_out(BackUp("somebody"))
    assert answers == ["this run was started without backups"]


def test_a_new_generation_is_newer_than_the_last_holder_s() -> None:
    """This also holds if that holder has taken no snapshot yet: one that still arrives from it is older."""
    work = Work.__new__(Work)
    record = LeaseRecord("last", generation=7)
    work.holder = cast("Lease", SimpleNamespace(record=record))
    work._store = SnapshotStore(Snapshot(backup=BackupView(snapshots=(SnapshotView("a", generation=3),))))
    work.kept, work.head = Kept(), Head()
    work.take_generation("repository")
    assert (work.kept.generation, work.head) == (8, (8, work.kept.instance, (3, 0)))
