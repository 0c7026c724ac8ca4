"""The start with backups: the processes wait until the state of their files is decided and restored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.backup import marker
from supervisor.backup.holder import LostError
from supervisor.backup.places import Swap
from supervisor.backup.restore import Restoration
from supervisor.backup.standby import UNCONDITIONAL, Standby
from supervisor.backup.threads import SEE, Steps, in_thread, task_group
from supervisor.backup.words import BackupError, ChoiceNeededError, Trouble
from supervisor.core.backup import (
    BackUp,
    BackupState,
    Course,
    Files,
    Restore,
    StartWithout,
    decide,
    find,
    head_of,
    missing,
)
from supervisor.runtime.loop_latency import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor.backup.marker import Kept
    from supervisor.backup.work import Work
    from supervisor.config.plan import BackupSource
    from supervisor.core.backup import BackupOrder, SnapshotView

    NextOrder = Callable[[float | None], Awaitable[BackupOrder | None]]

_AGAIN_S = 15.0
CHOICES = (
    "restore a snapshot (`backup restore ID`), keep the files that are here (`backup`), "
    "or start without backups (`start NAME --without-backup`)"
)

_OVERTAKEN = "a restore was interrupted here, and another instance has continued from the repository since"
_WRITTEN_SINCE = "a restore was interrupted here, and files have been written since, as after a start without backups"
_DAMAGED = "a restore was interrupted here, and its record is damaged: which snapshot it was is not known"
_GONE = "the repository is gone, but the holder's object beside it says that it was in use"
_DONE = "it was done, and is done once; remove it, or order `backup restore ID` to do it again"
_UNREAD = "restic cannot read snapshots, of which one may be the newest"
_BACK = (
    "bring it back: it is looked for again; `backup` begins a new one with the files that are here, as does a start "
    "after the holder's object is deleted"
)
_BACK_IN_LIST = "bring it back: it is looked for again; or, if it is lost, "


class Beginning:
    """Runs until the processes may start. ``put_back`` returns orders that came too early to ``next_order``."""

    def __init__(self, work: Work, next_order: NextOrder, put_back: Callable[[list[BackupOrder]], None]) -> None:
        self._work = work
        self._next_order = next_order
        self._put_back = put_back
        self._repository = ""
        self._saved = False
        self._standby: Standby | None = None
        self._swap_look = Steps(SEE)

    async def run(self) -> None:
        """Decide and execute, with retries on failure; then release the processes."""
        if self._work.decided:
            self._work.log.record("info", "backups go on", part="backup", why="only their own service was restarted")
            return
        self._work.show(state=BackupState.STARTING)
        try:
            await self._run()
        finally:
            await self._drop_standby()

    async def _run(self) -> None:
        work = self._work
        while True:
            try:
                if await self._try_unless_told():
                    await self._release()
                    return
                await self._start_without()
            except BackupError as error:
                if not work.plan.holds:
                    work.fail(error.trouble)
                    return
                self._hold(error)
                if await self._wait(error):
                    return
            else:
                return

    async def _try_unless_told(self) -> bool:
        """Try; cancel it and return False if a start without a backup is ordered. Other orders wait for its end.

        So does that one where it comes too late to cancel anything, as during the last write.
        """
        early: list[BackupOrder] = []
        told: list[BackupOrder] = []

        async def listen() -> None:
            while True:
                order = await self._next_order(None)
                if isinstance(order, StartWithout) and self._work.view.state is not BackupState.RESTORING:
                    told.append(order)
                    group.cancel_scope.cancel()
                elif order is not None:
                    # A start without a backup too, for the case that the restore fails.
                    early.append(order)

        done = False
        try:
            async with task_group(BackupError, LostError) as group:
                group.start_soon(listen)
                await self._try()
                done = True
                group.cancel_scope.cancel()
            if not done:
                told.clear()
        finally:
            self._put_back([*early, *told])
        return done

    async def _start_without(self) -> None:
        self._work.log.record("warning", "started without backups", part="backup", why="it was asked for")
        # The next start must not replace what this run writes.
        await self._work.places.forget_swap_soon()
        self._work.go_without()
        self._let_go()

    def _hold(self, error: BackupError) -> None:
        needs_choice = isinstance(error, ChoiceNeededError)
        self._work.hold(error.trouble, BackupState.CHOOSE if needs_choice else BackupState.HELD)

    async def _release(self) -> None:
        """Release the processes, once the object says so. Raises LostError if another instance has taken over."""
        try:
            await self._work.look_at_hold()
        except BackupError as error:
            # A holder that cannot reach the bucket continues to serve.
            self._work.tell(error.trouble)
        self._let_go()

    def _let_go(self) -> None:
        self._work.decided = True
        self._work.show(holds=False)
        self._work.engine.release()

    async def _try(self) -> None:
        work = self._work
        await work.places.make()
        await work.restic.check_version()
        await self._open()
        if work.plan.holds:
            await self._follow_table()
        else:
            await self._join()

    async def _open(self, *, force: bool = False, anew: bool = False) -> None:
        """Acquire the lease, and open the repository, or make it; one that was in use is made again only if ``anew``.

        Raises ChoiceNeededError if such a one is gone: a volume that is not mounted looks like that too.
        """
        work = self._work
        found = await work.refresh()
        if found is None:
            # restic writes key and configuration unconditionally: two that make a repository at once ruin it.
            await self._take_hold(force=force)
            found = await work.refresh()
        if found is None:
            if work.head.generation and not anew:
                raise ChoiceNeededError(Trouble(f"{_GONE}: generation {work.head.generation}", _BACK), may_pass=True)
            await work.restic.make_repository()
            work.log.record("info", "backup repository made", part="backup", repository=work.settings.repository)
        self._repository = await work.restic.repository_id()
        await self._take_hold(force=force)

    async def _take_hold(self, *, force: bool = False) -> None:
        """Acquire the lease; stand by until the previous holder has released it, or is gone."""
        work = self._work
        if work.holder is None or work.holder.holds:
            return
        await self._drop_standby()
        standby = self._standby = Standby(work, self._repository)
        kept, _ = await work.look()
        fresh = not work.view.snapshots
        before = await work.holder.acquire(kept.instance if kept else "", standby.wait, fresh=fresh, force=force)
        standby.over()
        if work.holder.conditional is False:
            what = (
                "the repository's folder has no locks" if work.settings.in_folder else "the bucket heeds no conditions"
            )
            work.log.record("warning", what, part="backup", why=UNCONDITIONAL)
        if before is not None:
            work.show(released=before.released, held_until_s=work.holder.held_until_s)
            work.head = head_of(before)
            await work.refresh()
            await self._mark_replaced()

    async def _mark_replaced(self) -> None:
        try:
            await self._work.mark_replaced()
        except BackupError as error:
            # They do not count here in any case.
            self._work.tell(error.trouble)

    async def _join(self) -> None:
        """Continue without a decision, as starts are not held: with the files' generation, or with a new one."""
        kept, _ = await self._work.look()
        if kept is not None and kept.repository == self._repository:
            self._work.keep(kept)
        else:
            await self._settle()
        self._work.decided = True

    async def _follow_table(self) -> None:
        work = self._work
        kept, files = await work.look()
        wish = work.settings.restore
        halfway = await self._halfway()
        if halfway is not None:
            await self._continue(halfway)
            return
        course, why = decide(kept.marker if kept else None, files, work.view.snapshots, self._repository, work.head)
        if wish not in {"auto", "never"}:
            if await self._was_done(wish, kept):
                work.log.record("warning", "SUPERVISOR_BACKUP_RESTORE is still set", why=_DONE)
            else:
                await self._restore(self._find(wish), has_files=files is not Files.NONE, wish=wish)
                return
        unreadable = ", ".join(work.restic.unreadable)
        if unreadable and not (course is Course.GO_ON and kept is not None and kept.generation >= work.head.generation):
            # What it decides on may not be the newest.
            raise ChoiceNeededError(
                Trouble(f"{_UNREAD}: {unreadable}", f"it is tried again; or {CHOICES}"), may_pass=True
            )
        if wish == "never" and course in {Course.RESTORE, Course.ASK, Course.MISSED}:
            await self._settle()
        elif course is Course.GO_ON and kept is not None:
            self._go_on(kept)
        elif course is Course.RESTORE and work.view.newest is not None:
            await self._restore(work.view.newest, has_files=False)
        elif course is Course.ASK:
            raise ChoiceNeededError(Trouble(why, CHOICES))
        elif course is Course.MISSED:
            raise ChoiceNeededError(Trouble(why, f"{_BACK_IN_LIST}{CHOICES}"), may_pass=True)
        else:
            await self._adopt(snapshot=course is Course.ADOPT)

    def _go_on(self, kept: Kept) -> None:
        if why := missing(self._work.view.snapshots, self._work.head):
            # Nothing is lost by that: the files here are newer.
            self._work.log.record("warning", "a snapshot is gone", part="backup", why=why)
        self._work.keep(kept)

    async def _continue(self, halfway: Swap) -> None:
        """Restore again after a kill between two renames: the files here are a mix of old and new."""
        work = self._work
        if not halfway.snapshot_id:
            raise ChoiceNeededError(Trouble(_DAMAGED, CHOICES))
        if work.last_generation > halfway.generation:
            raise ChoiceNeededError(Trouble(_OVERTAKEN, CHOICES))
        # Not a look, which has a time limit: there may be many files.
        if await run_in_thread(marker.written_since, work.plan.sources, halfway.recorded_s):
            raise ChoiceNeededError(Trouble(_WRITTEN_SINCE, CHOICES))
        sources = None if halfway.whole else work.plan.sources
        await self._restore(self._find(halfway.snapshot_id), has_files=False, sources=sources)

    async def _halfway(self) -> Swap | None:
        """Return the swap that a kill has interrupted; after a finished one, only its record may be left."""
        work = self._work
        swap, over = await self._swap_look.take(self._see_swap)
        if swap is None or not over:
            return swap
        work.log.record("info", "the last restore was over", part="backup", id=swap.snapshot_id[:8])
        await work.places.forget_swap()
        return None

    def _see_swap(self) -> tuple[Swap | None, bool]:
        """Return the swap that has a record, and whether it is over."""
        work = self._work
        swap = work.places.swapped_halfway()
        if swap is None:
            return None, True
        sources = work.plan.all_sources if swap.whole else work.plan.sources
        return swap, marker.is_over(sources, self._repository, swap.mark)

    async def _was_done(self, wish: str, kept: Kept | None) -> bool:
        """Return whether the snapshot named by the settings was restored: the marker is missing in a new container."""
        holder = self._work.holder
        if holder is None or await holder.was_restored(wish):
            return holder is not None
        if kept is None or kept.restored != wish:
            return False
        # The note failed at the time of the restore.
        await holder.note_restored(wish)
        return True

    async def _adopt(self, *, snapshot: bool) -> None:
        """Adopt the files that are here as the newest, after a snapshot of them if there are any."""
        self._work.take_generation(self._repository)
        if snapshot:
            await self._work.snapshot("adopt")
        await self._write()
        await self._work.places.forget_swap()

    async def _settle(self) -> None:
        self._work.take_generation(self._repository)
        await self._write()

    async def _write(self) -> None:
        why = await in_thread(marker.write, self._work.plan.all_sources, self._work.kept)
        if why:
            self._work.log.record(
                "warning", "cannot mark the files as backed up", part="backup", why=why, next="the next start will ask"
            )

    async def _unmark(self) -> None:
        try:
            await in_thread(marker.remove, self._work.plan.all_sources)
        except OSError as error:
            why = f"cannot take the mark off the files: {error.strerror or error}"
            raise BackupError(Trouble(why, "check the folders and the disk")) from error

    def _find(self, text: str) -> SnapshotView:
        found = find(self._work.view.snapshots, text)
        if found is None:
            raise ChoiceNeededError(Trouble(f"there is no snapshot {text}", CHOICES))
        return found

    async def _restore(
        self,
        snapshot: SnapshotView,
        *,
        has_files: bool,
        wish: str = "",
        sources: tuple[BackupSource, ...] | None = None,
    ) -> None:
        work = self._work
        restoring = await self._restoration(snapshot, sources)
        async with work.restoring(snapshot, restoring) as restoration:
            await restoration.fetch()
            if has_files:
                await self._save()
            async with work.places.swapping(Swap(snapshot.id, sources is None, work.last_generation)) as mark:
                await self._unmark()
                await restoration.place()
                work.take_generation(self._repository, restored=wish, swap=mark)
                await self._write()
        if wish and work.holder is not None:
            await work.holder.note_restored(wish)

    async def _save(self) -> None:
        """Take a snapshot of the files that are about to be replaced; once, however often the restore is tried."""
        if self._saved:
            return
        work = self._work
        work.take_generation(self._repository)
        await work.snapshot("before restore")
        work.show(state=BackupState.RESTORING)
        self._saved = True

    async def _restoration(self, snapshot: SnapshotView, sources: tuple[BackupSource, ...] | None) -> Restoration:
        """Return the restoration to use: that of the rehearsal if it was complete."""
        standby = self._standby
        if standby is None or standby.restoration is None or sources is not None:
            await self._drop_standby()
            return Restoration(self._work.restic, snapshot, sources or self._work.plan.all_sources)
        restoration, standby.restoration = standby.restoration, None
        restoration.follow(snapshot)
        return restoration

    async def _drop_standby(self) -> None:
        if self._standby is not None:
            await self._standby.drop()
            self._standby = None

    async def _wait(self, error: BackupError) -> bool:
        """Wait for an order, or until the next try; return whether the processes have been released."""
        choice = error if isinstance(error, ChoiceNeededError) else None
        until_s = time.monotonic() + _AGAIN_S if choice is None or choice.may_pass else None
        early: list[BackupOrder] = []
        try:
            while (order := await self._next_order(until_s)) is not None:
                if isinstance(order, StartWithout):
                    await self._start_without()
                    return True
                if choice is not None:
                    return await self._choose(order, choice)
                # It came while there was something to choose, and there may be again.
                early.append(order)
            return False
        finally:
            self._put_back(early)

    async def _choose(self, order: BackupOrder, choice: ChoiceNeededError) -> bool:
        """Carry out the owner's choice; if that fails, wait for another one."""
        try:
            await self._carry_out(order)
        except BackupError as failure:
            self._hold(ChoiceNeededError(failure.trouble))
            self._work.answer(order, failure.trouble.why)
            return await self._wait(choice)
        await self._release()
        self._work.answer(order, "")
        return True

    async def _carry_out(self, order: BackupOrder) -> None:
        await self._open(force=True, anew=isinstance(order, BackUp))
        self._saved = False
        # A snapshot of nothing would be the newest one until the next.
        has_files = (await self._work.look())[1] is not Files.NONE
        if isinstance(order, BackUp):
            await self._adopt(snapshot=has_files)
        elif isinstance(order, Restore):
            await self._restore(self._find(order.id), has_files=has_files)
