"""The standby of an instance while another one holds the repository: it rehearses the take-over, and waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.backup.restore import Restoration
from supervisor.backup.words import BackupError, Trouble
from supervisor.backup.work import READY_S
from supervisor.core.backup import BackupState, Course, decide, find, head_of
from supervisor.core.holding import LeaseRecord

if TYPE_CHECKING:
    from supervisor.backup.marker import Kept
    from supervisor.backup.work import Work
    from supervisor.core.backup import SnapshotView
    from supervisor.core.holding import Seen

UNCONDITIONAL = "two instances that take over within the same five seconds may both start for a moment"
LONG_S = 600.0
# Retry interval of a failed rehearsal.
AGAIN_S = 15.0
_REMEDY = "end one of two instances, or the one that hangs"
_HELD = Trouble("another instance holds the repository")
_GONE = Trouble("the object that says who holds the repository is gone", "its holder writes it again")


class Standby:
    """One standby. ``restoration`` is what was fetched meanwhile, None if nothing had to be.

    ``repository`` is its id, empty if it did not exist yet.
    """

    def __init__(self, work: Work, repository: str) -> None:
        self.restoration: Restoration | None = None
        self._work = work
        self._repository = repository
        self._since_s = time.monotonic()
        self._again_s = 0.0
        self._begun = False
        self._warned = False

    async def wait(self, holder: Seen, trouble: Trouble | None) -> None:
        """Report what is waited for, and check that everything is ready for a take-over."""
        work = self._work
        if isinstance(holder, LeaseRecord):
            work.head = head_of(holder)
        if not self._begun:
            self._begun = True
            why = _GONE.why if holder is None else _HELD.why
            if isinstance(holder, LeaseRecord):
                why = f"generation {holder.generation} is at work"
            work.log.record("info", "standing by", part="backup", why=why)
        self._show(trouble or (_GONE if holder is None else _HELD))
        if trouble is None and not work.view.rehearsed and time.monotonic() >= self._again_s:
            await self._rehearse()
            self._again_s = time.monotonic() + AGAIN_S
        if time.monotonic() - self._since_s >= LONG_S and not self._warned:
            self._warned = True
            work.log.record("warning", "standing by for long", part="backup", what_to_do=_REMEDY)

    def _show(self, trouble: Trouble) -> None:
        what_to_do = _REMEDY if self._warned and not trouble.what_to_do else trouble.what_to_do
        if trouble not in {_HELD, _GONE}:
            self._work.tell(trouble)
        state, why = BackupState.STANDBY, trouble.why
        self._work.show(state=state, why=why, what_to_do=what_to_do, progress=None, ready_until_s=None)

    async def _rehearse(self) -> None:
        """Do all that a take-over does, up to the last step of each part."""
        work = self._work
        try:
            if work.holder is not None:
                await work.holder.probe()
            if await work.refresh() is None:
                # Its holder is about to make the repository.
                return
            self._repository = self._repository or await work.restic.repository_id()
            snapshot = await self._to_restore()
            if snapshot is not None:
                if self.restoration is None:
                    self.restoration = Restoration(work.restic, snapshot, work.plan.all_sources)
                self.restoration.follow(snapshot)
                await self.restoration.rehearse()
        except BackupError as error:
            await self.drop()
            work.log.record("error", "take-over cannot be rehearsed", part="backup", why=error.trouble.why)
            self._show(error.trouble)
            return
        work.log.record("info", "take-over rehearsed", part="backup")
        work.show(rehearsed=True)
        self._show(_HELD)

    async def _to_restore(self) -> SnapshotView | None:
        """Return what a take-over would restore now. Raises BackupError if it would be held instead."""
        work = self._work
        kept, files = await work.look()
        wish = work.settings.restore
        if wish == "never":
            return None
        if wish != "auto" and not await self._was_done(wish, kept):
            found = find(work.view.snapshots, wish)
            if found is None:
                raise BackupError(Trouble(f"there is no snapshot {wish}", "remove SUPERVISOR_BACKUP_RESTORE"))
            return found
        course, why = decide(kept.marker if kept else None, files, work.view.snapshots, self._repository, work.head)
        if course in {Course.ASK, Course.MISSED}:
            raise BackupError(Trouble(why, "the owner has to choose once the other instance has ended"))
        return work.view.newest if course is Course.RESTORE else None

    async def _was_done(self, wish: str, kept: Kept | None) -> bool:
        holder = self._work.holder
        return (kept is not None and kept.restored == wish) or (holder is not None and await holder.was_restored(wish))

    async def drop(self) -> None:
        """Remove what was fetched."""
        if self.restoration is not None:
            restoration, self.restoration = self.restoration, None
            await restoration.aclose()

    def over(self) -> None:
        """End the standby: this instance now holds the repository."""
        if self._begun:
            waited_s = round(time.monotonic() - self._since_s, 1)
            self._work.log.record("info", "taking over", part="backup", waited_s=waited_s)
            self._work.show(state=BackupState.STARTING, why="", ready_until_s=time.monotonic() + READY_S)
