"""Shared by all backup operations: the repository, the view in the store, and taking a snapshot."""

from __future__ import annotations

import os
import time
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from supervisor.backup import marker
from supervisor.backup.holder import Lease
from supervisor.backup.marker import Kept
from supervisor.backup.messages import REPLACED
from supervisor.backup.places import Places
from supervisor.backup.restic import Restic
from supervisor.backup.take import Taker
from supervisor.backup.threads import SEE, Steps
from supervisor.backup.words import BackupError, MixedError, Trouble
from supervisor.core.backup import (
    BackupOrderView,
    BackupState,
    Head,
    Restore,
    SnapshotView,
    StartWithout,
    answered,
    hold_of,
    judge,
    last_order,
)
from supervisor.core.counts import plus_one
from supervisor.core.process import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from supervisor.backup.restore import Restoration
    from supervisor.config.plan import BackupPlan, Plan
    from supervisor.config.settings import BackupSettings
    from supervisor.core.backup import BackupOrder, BackupView, Files
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import SnapshotStore

# After a failure the retry comes sooner than the next snapshot would.
RETRY_S = 30.0
# Interval of the records that tell how far a restore is.
PROGRESS_S = 10.0
# How long a take-over counts as ready before the app has answered.
READY_S = 120.0
_MIXED = Trouble(
    "the files are of two times: a restore failed half way, and its log line says where the others are",
    "restore a snapshot, such as the one taken before that restore",
)
# Reason of the last snapshot.
AT_STOP = "stop"
# These end by themselves.
_QUIET_HOLDS = frozenset({State.WAITING, State.RESTORING, State.STANDBY})
# In these, the view's reason stays until something happens.
_SETTLED = frozenset({BackupState.IDLE, BackupState.HELD, BackupState.CHOOSE, BackupState.WITHOUT})
# What stays as it is once another instance has taken over.
_LASTING = frozenset({"state", "holds", "why", "what_to_do", "next_s"})
# Number of latest orders shown.
_ORDERS = 16


class Work:
    """``kept`` is the content of this run's marker, empty before the start is decided.

    ``damage`` is the damage that the last check found in the repository, ``unkept`` why old snapshots could not be
    removed: shown until a later check finds none, or they can be.
    ``decided`` is whether the processes were released. ``head`` is what the last known holder's object says of the
    snapshots; once the start is decided, what this instance's own says.
    """

    def __init__(self, plan: Plan, store: SnapshotStore, engine: Engine, environ: Mapping[str, str]) -> None:
        if plan.backup is None or plan.settings.backup is None:
            raise ValueError("cannot work: this plan has no backups")
        self.plan: BackupPlan = plan.backup
        self.settings: BackupSettings = plan.settings.backup
        self.app = plan.app_name
        self.engine = engine
        self.log = engine.log
        self.kept = Kept()
        self.decided = False
        self.head = Head()
        # The order of the last snapshot that was begun.
        self._given: tuple[int, int] | None = None
        # Not marked as replaced yet.
        self._late: list[str] = []
        self.restic = Restic(self.plan, self.settings, engine, environ)
        self.restic.on_progress = self._take_progress
        self.restic.on_trouble = self._take_trouble
        self.places = Places(self.plan, self._tell_stuck)
        # Nothing to hold back if starts are not held: a panel beside a sidecar starts no app.
        self.holder = Lease(self.settings) if self.plan.holds else None
        self._taker = Taker(plan, engine, self.restic, self.places, environ)
        self._look = Steps(SEE)
        self._store = store
        self.damage: Trouble | None = None
        self.unkept: Trouble | None = None
        self._failure: Trouble | None = None
        self._hold_failure: Trouble | None = None
        self._said = ""
        self._told_s = 0.0

    @property
    def view(self) -> BackupView:
        """Return the current view."""
        return self._store.snapshot.backup

    async def look(self) -> tuple[Kept | None, Files]:
        """Return the folders' marker, and the state of their content. Raises BackupError if that is impossible."""
        return await self._look.take(marker.look, self.plan.all_sources)

    def show(self, **changes: object) -> None:
        """Change the view, and the state of the processes that are held."""
        before = self.view
        if before.state is BackupState.REPLACED:
            # Work that could not be cancelled any more must not hide that, and its reason.
            changes = {name: value for name, value in changes.items() if name not in _LASTING}
        if changes.get("state", before.state) is not before.state:
            changes.setdefault("since_s", time.monotonic())
            changes.setdefault("progress", None)
        self._store.update_backup(before._replace(**changes))  # type: ignore[arg-type]
        hold = hold_of(self.view.state)
        if self.view.holds and (hold is not hold_of(before.state) or not before.holds):
            self.engine.hold(self.engine.children, hold)
            level = "info" if hold in _QUIET_HOLDS else "warning"
            self.log.record(level, "nothing is started", part="backup", state=hold.value, why=self.view.holding)

    def take_order(self, order: BackupOrder) -> None:
        """Show an order in the view."""
        if not isinstance(order, StartWithout):
            snapshot = order.id if isinstance(order, Restore) else ""
            shown = BackupOrderView(time.monotonic(), snapshot, order.by, order.order)
            self.show(orders=(*self.view.orders, shown)[-_ORDERS:])

    def answer(self, order: BackupOrder, why: str) -> None:
        """Show the result of an order; ``why`` is the reason if it failed, else empty."""
        if not isinstance(order, StartWithout):
            self.show(orders=answered(self.view.orders, {order.order}, why))

    def abandon_orders(self, why: str, but: Collection[str] = ()) -> None:
        """Show that no order is carried out any more, but those of these ids."""
        ids = {each.id for each in self.view.orders}.difference(but)
        self.show(orders=answered(self.view.orders, ids, why))

    def rest(self) -> None:
        """Show that the service is idle without problems except those of the repository's care.

        The next snapshot is due in an interval; maintenance does not change when it is due.
        """
        self._failure = self.damage or self.unkept
        lasting = self._failure or Trouble("")
        if lasting.why:
            self.tell(lasting)
        self._said = lasting.why
        next_s = time.monotonic() + self.settings.interval_s
        if self.view.state is BackupState.MAINTENANCE:
            next_s = self.view.next_s or next_s
        self.show(state=BackupState.IDLE, why=lasting.why, what_to_do=lasting.what_to_do, next_s=next_s)

    def fail(self, trouble: Trouble) -> None:
        """Report a failure; it is retried soon."""
        next_s = time.monotonic() + min(self.settings.interval_s, RETRY_S)
        self._show_failure(trouble, BackupState.IDLE, next_s)

    def hold(self, trouble: Trouble, state: BackupState) -> None:
        """Report why the processes cannot be released; ``state`` is HELD or CHOOSE."""
        if self.view.rehearsed and self.view.ready_until_s is None:
            # There may be no take-over: as long as after one.
            self.show(ready_until_s=time.monotonic() + READY_S)
        self._show_failure(trouble, state, None)

    def go_without(self) -> None:
        """Show that this run goes on without backups."""
        self._failure = None
        ready_until_s = time.monotonic() + READY_S
        self.show(state=BackupState.WITHOUT, why="", what_to_do="", next_s=None, ready_until_s=ready_until_s)

    def _show_failure(self, trouble: Trouble, state: BackupState, next_s: float | None) -> None:
        self._failure = trouble
        self.tell(trouble)
        self.show(state=state, why=trouble.why, what_to_do=trouble.what_to_do, next_s=next_s)

    def _take_progress(self, share: float) -> None:
        share, now_s = min(1.0, max(0.0, share)), time.monotonic()
        self.show(progress=share)
        if self.view.state is BackupState.RESTORING and now_s - max(self._told_s, self.view.since_s) >= PROGRESS_S:
            self._told_s = now_s
            self.log.record("info", "still restoring", part="backup", done=f"{share:.0%}")

    def _take_trouble(self, trouble: Trouble | None) -> None:
        """Show the problem of the current call; once it has passed, the earlier one if it still exists."""
        now = trouble or self._failure
        if trouble is not None:
            self.tell(trouble)
        state = self.view.state
        if self.view.holds and state in {BackupState.STARTING, BackupState.HELD}:
            state = BackupState.HELD if now else BackupState.STARTING
        self.show(state=state, why=now.why if now else "", what_to_do=now.what_to_do if now else "")

    def take_hold_trouble(self, trouble: Trouble | None) -> None:
        """Show that the lease cannot be renewed, until it can."""
        if trouble is not None:
            self._hold_failure = trouble
            self.tell(trouble)
            self.show(why=trouble.why, what_to_do=trouble.what_to_do)
        elif self._hold_failure is not None and self.view.state in _SETTLED:
            # A failed snapshot has not been retried yet, and a choice not been made.
            self._hold_failure, rest = None, self._failure
            self._said = "" if rest is None else rest.why
            self.show(why=self._said, what_to_do="" if rest is None else rest.what_to_do)

    def tell(self, trouble: Trouble) -> None:
        """Log a problem, once."""
        if trouble.why != self._said:
            self._said = trouble.why
            self.log.record("warning", "backups: trouble", why=trouble.why, what_to_do=trouble.what_to_do or None)

    async def refresh(self) -> tuple[SnapshotView, ...] | None:
        """Read the list of snapshots and show it; return None if there is no repository. Raises BackupError."""
        found = await self.restic.snapshots()
        judged = judge(found or (), self.head)
        self._late = [new.id for old, new in zip(found or (), judged, strict=True) if new != old]
        self.show(snapshots=judged)
        return None if found is None else self.view.snapshots

    async def mark_replaced(self) -> None:
        """Mark the snapshots of instances that were replaced, so that this is known permanently. Raises BackupError."""
        for snapshot_id in self._late:
            self.log.record("warning", "snapshot of a replaced instance", part="backup", id=snapshot_id[:8])
        if self._late:
            await self.restic.mark(self._late, REPLACED)

    async def snapshot(self, reason: str) -> None:
        """Take one. Raises BackupError, and LostError if another instance has taken over."""
        self.show(state=BackupState.SNAPSHOT, since_s=time.monotonic())
        begin_s = time.monotonic()
        try:
            self._refuse_mix()
            seen = await self._taker.look()
            await self.look_at_hold()
            taken, missing, marked_anew = await self._taker.take(self._next(reason, seen.programs), seen.absent)
        except BackupError as error:
            trouble = error.trouble
            # At a stop it is retried each second, and the same message is not repeated.
            if reason != AT_STOP or trouble.why != self._said:
                self.log.record("error", "backup failed", why=trouble.why, what_to_do=trouble.what_to_do or None)
            self.count_failure(trouble)
            self._said = trouble.why
            raise
        self.head = self.head._replace(last=taken.order)
        self.show(snapshots=(*self.view.snapshots, taken))
        if marked_anew:
            # For its new id. It was taken, also if the list cannot be read now.
            with suppress(BackupError):
                await self.refresh()
        self._tell_taken(taken, missing, round(time.monotonic() - begin_s, 3))

    def _next(self, reason: str, programs: str) -> SnapshotView:
        """Return the view of the snapshot to take."""
        found = self.view.snapshots
        own = [each for each in found if each.generation == self.kept.generation and not each.replaced]
        last = max(own, key=lambda each: each.sequence, default=SnapshotView(""))
        # Also after one that the repository lacks at the moment, and one that failed: it may have been stored.
        before = [order for order in (self.head.last, self._given) if order and order[0] == self.kept.generation]
        sequence = max([last.sequence, *(number for _, number in before)]) + 1
        self._given = self.kept.generation, sequence
        return SnapshotView(
            id="",
            generation=self.kept.generation,
            sequence=sequence,
            # What could not be read last time is likely to be unreadable again.
            whole=last.whole,
            reason=reason,
            programs=programs,
            instance=self.kept.instance,
        )

    def _refuse_mix(self) -> None:
        """Raise BackupError while files are of two times: the next container would restore that."""
        if self.places.mixed and self.decided:
            raise BackupError(_MIXED)

    @asynccontextmanager
    async def restoring(self, snapshot: SnapshotView, restoration: Restoration) -> AsyncIterator[Restoration]:
        """Show and log a restore for the duration of a block, and count its result."""
        self.show(state=BackupState.RESTORING)
        begin_s = time.monotonic()
        said = {"part": "backup", "id": snapshot.id[:8]}
        self.log.record("info", "restoring", taken_at=snapshot.at, **said)
        try:
            async with aclosing(restoration):
                yield restoration
        except BackupError as error:
            trouble = error.trouble
            self.show(restores=plus_one(self.view.restores, "failed"), why=trouble.why, what_to_do=trouble.what_to_do)
            replaced = "a part" if isinstance(error, MixedError) else "nothing"
            self.log.record("error", "restore failed", part="backup", why=trouble.why, replaced=replaced)
            raise
        missing, took_s = restoration.missing, round(time.monotonic() - begin_s, 3)
        self.show(restores=plus_one(self.view.restores, "partial" if missing else "ok"))
        self.log.record("info", "restored", took_s=took_s, not_in_it=missing or None, **said)

    def _tell_stuck(self, why: str) -> None:
        what_to_do = "remove it: the next start may take that restore for an interrupted one"
        self.log.record("warning", "a restore's record is left", part="backup", why=why, what_to_do=what_to_do)

    async def look_at_hold(self) -> None:
        """Check that this instance still holds the repository: what it does then counts.

        Raises BackupError, and LostError if another instance has taken over.
        """
        if self.holder is not None and self.holder.holds:
            await self.holder.renew(*self.own_head)

    def count_failure(self, trouble: Trouble) -> None:
        """Count a failed snapshot, and show the reason."""
        taken = plus_one(self.view.taken, "failed")
        self.show(taken=taken, why=trouble.why, what_to_do=trouble.what_to_do)

    def _tell_taken(self, taken: SnapshotView, missing: str, took_s: float) -> None:
        said = {"part": "backup", "order": taken.reason, "added_bytes": taken.added_bytes, "took_s": took_s}
        if missing:
            self.log.record("warning", "snapshot taken, but not whole", why=missing, **said)
            self.show(warning=missing, taken=plus_one(self.view.taken, "partial"))
        else:
            self.log.record("info", "snapshot taken", id=taken.id[:8], **said)
            self.show(warning="", taken=plus_one(self.view.taken, "ok"), last_good_s=time.monotonic())

    def take_generation(self, repository: str, restored: str = "", swap: str = "") -> None:
        """Begin a generation newer than all others; ``kept`` is then what to write into the folders."""
        last = max(self.last_generation, self.head.generation)
        if self.holder is not None and self.holder.record is not None:
            last = max(last, self.holder.record.generation)
        # What the repository lacks is given up.
        self.head = Head()
        self.keep(Kept(repository, last + 1, os.urandom(8).hex(), restored or self.kept.restored, swap))

    def keep(self, kept: Kept) -> None:
        """Go on as what this marker says."""
        last = max(self.head.last or (0, 0), last_order(self.view.snapshots))
        self.kept, self.head = kept, Head(kept.generation, kept.instance)
        if self.holder is not None:
            self.head = self.head._replace(last=last)
        self.show(generation=kept.generation)

    @property
    def own_head(self) -> Head:
        """Return what to write into the lease's object; empty before the start is decided."""
        return self.head if self.kept.instance else Head()

    @property
    def last_generation(self) -> int:
        """Return the highest generation among the snapshots."""
        return max((each.generation for each in self.view.snapshots), default=0)
