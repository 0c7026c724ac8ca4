"""Periodic maintenance of a repository: forgetting old snapshots once a day, a check once a week."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.backoff import random_jitter
from supervisor.backup.words import BackupError, Trouble
from supervisor.core.backup import BackupState, to_forget

if TYPE_CHECKING:
    from supervisor.backup.work import Work

DAY_S = 24 * 3600.0
WEEK_S = 7 * DAY_S
# Not in the first minutes of a run: a crash loop would do nothing else.
NOT_BEFORE_S = 600.0
_HOUR_S = 3600.0
# They are words of a command line; the rest is removed a day later.
_MOST_AT_ONCE = 5000


def first_due_s(now_s: float, period_s: float, jitter: float) -> float:
    """Return when a periodic task is first due: at a random time within its first period, but not at once.

    ``jitter`` is uniformly distributed over [0, 1).
    """
    return now_s + NOT_BEFORE_S + jitter * (period_s - NOT_BEFORE_S)


class Maintenance:
    """Schedules and runs the maintenance."""

    def __init__(self, work: Work, now_s: float) -> None:
        self._work = work
        self._forget_s = first_due_s(now_s, DAY_S, random_jitter())
        self._check_s = first_due_s(now_s, WEEK_S, random_jitter())
        self._prunes = False

    @property
    def due_s(self) -> float:
        """Return when the next task is due."""
        return min(self._forget_s, self._check_s)

    async def run(self) -> None:
        """Run the tasks that are due; a failed one is tried again in an hour.

        Raises BackupError, and LostError if another instance has taken over.
        """
        work, now_s = self._work, time.monotonic()
        forgets, checks = now_s >= self._forget_s, now_s >= self._check_s
        # Put off first, whatever fails: what stays due would be tried again at once.
        self._forget_s = now_s + _HOUR_S if forgets else self._forget_s
        self._check_s = now_s + _HOUR_S if checks else self._check_s
        work.show(state=BackupState.MAINTENANCE)
        await work.look_at_hold()
        if forgets:
            try:
                await self._forget()
            except BackupError as error:
                if error.trouble.may_pass:
                    raise
                # Shown although snapshots succeed: the repository only grows.
                work.unkept = Trouble(f"old snapshots cannot be removed: {error.trouble.why}", error.trouble.what_to_do)
            else:
                work.unkept = None
                self._forget_s = now_s + DAY_S
        if checks:
            work.damage = await work.restic.check()
            if work.damage is None:
                self._check_s = now_s + WEEK_S
                work.log.record("info", "backup repository checked", part="backup", result="no errors")

    async def _forget(self) -> None:
        work = self._work
        found = await work.refresh() or ()
        ids = to_forget(found, work.settings.keep)[:_MOST_AT_ONCE]
        if ids:
            self._prunes = True
            why_left = await work.restic.forget(ids)
            left = await work.refresh() or ()
            if not {each.id for each in left}.isdisjoint(ids):
                # Pruning counts them as removed: a key that may delete data, but no snapshots, would ruin them.
                raise BackupError(why_left)
        if self._prunes:
            # Removing snapshots takes a while, and what is pruned is gone.
            await work.look_at_hold()
            await work.restic.prune()
            self._prunes = False
        work.log.record("info", "old snapshots forgotten", part="backup", count=len(ids), left=len(found) - len(ids))
