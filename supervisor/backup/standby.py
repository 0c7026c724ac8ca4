"""What an instance does while another one holds the repository: it rehearses the take-over, and waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.backup import marker
from supervisor.backup.restore import Restoration
from supervisor.backup.words import BackupError
from supervisor.core.backup import BackupState, Files

if TYPE_CHECKING:
    from supervisor.backup.work import Work
    from supervisor.core.holding import LeaseRecord

UNCONDITIONAL = "two instances that take over within the same five seconds may both start for a moment"
LONG_S = 600.0
# So long a take-over counts as ready though the app has not answered yet.
READY_S = 120.0


class Standby:
    """One time of waiting."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._since_s = time.monotonic()
        self._begun = False
        self._warned = False

    async def wait(self, holder: LeaseRecord) -> None:
        """Say that another one holds it, and see once that everything is there for a take-over."""
        work = self._work
        if not self._begun:
            self._begun = True
            work.log.record("info", "standing by", part="backup", why=f"generation {holder.generation} is at work")
            work.show(state=BackupState.STANDBY, why="another instance holds the repository", what_to_do="")
            await self._rehearse()
        if time.monotonic() - self._since_s >= LONG_S and not self._warned:
            self._warned = True
            remedy = "end one of two instances, or the one that hangs"
            work.log.record("warning", "standing by for long", part="backup", what_to_do=remedy)
            work.show(what_to_do=remedy)

    async def _rehearse(self) -> None:
        """Fetch what would be restored, and drop it: the repository opens, the newest snapshot reads, there is room."""
        work = self._work
        _, files = marker.look(work.sources)
        try:
            if files is Files.NONE and work.newest is not None:
                with Restoration(work.restic, work.newest, work.sources) as restoration:
                    await restoration.fetch()
        except BackupError as error:
            work.log.record("error", "take-over cannot be rehearsed", part="backup", why=error.trouble.why)
            return
        work.log.record("info", "take-over rehearsed", part="backup")
        work.show(rehearsed=True, state=BackupState.STANDBY, why="another instance holds the repository")

    def over(self) -> None:
        """Go on: the repository is this instance's now."""
        if self._begun:
            waited_s = round(time.monotonic() - self._since_s, 1)
            self._work.log.record("info", "taking over", part="backup", waited_s=waited_s)
            self._work.show(state=BackupState.STARTING, why="", ready_until_s=time.monotonic() + READY_S)
