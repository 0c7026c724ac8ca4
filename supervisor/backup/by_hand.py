"""A restore on request: of the app's folders only, after a snapshot of the current files."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import msgspec

from supervisor.backup import marker
from supervisor.backup.holder import LostError
from supervisor.backup.places import Swap
from supervisor.backup.restore import Restoration
from supervisor.backup.threads import in_thread
from supervisor.backup.words import BackupError, MixedError, Trouble
from supervisor.core.backup import BackupState, find
from supervisor.core.process import Event, EventKind, State
from supervisor.runtime.store import Watch

if TYPE_CHECKING:
    from supervisor.backup.work import Work
    from supervisor.runtime.engine import Engine

_LONGEST_STOP_S = 120.0


async def restore_by_hand(work: Work, wanted: str) -> None:
    """Restore a snapshot; on a failure the app is started again.

    Raises BackupError, in which case no file was replaced, except for MixedError: then the app stays held.
    """
    snapshot = find(work.view.snapshots, wanted)
    if snapshot is None:
        raise BackupError(Trouble(f"there is no snapshot {wanted}", "`backup list` shows the existing ones"))
    async with work.restoring(snapshot, Restoration(work.restic, snapshot, work.plan.sources)) as restoration:
        await restoration.fetch()
        await _replace(work, restoration)


async def _replace(work: Work, restoration: Restoration) -> None:
    """Stop the users of the files, take a snapshot of them, swap in the restored ones, and start again."""
    engine = work.engine
    names = _users(work)
    running = [name for name in names if not engine.all_at_rest([name])]
    engine.hold(names, State.RESTORING)
    stays = False
    try:
        for name in reversed(running):
            # Started again at once, and held then: a stop or start that somebody orders meanwhile counts.
            engine.dispatch(name, Event(EventKind.STOP))
            engine.dispatch(name, Event(EventKind.START))
        await _wait_until_down(engine, running)
        if not work.places.mixed:
            await work.snapshot("before restore")
        work.show(state=BackupState.RESTORING)
        async with work.places.swapping(Swap(restoration.id, whole=False, generation=work.last_generation)) as mark:
            await restoration.place()
            await in_thread(marker.write, work.plan.sources, msgspec.structs.replace(work.kept, swap=mark))
    except (LostError, MixedError):
        stays = True
        raise
    finally:
        # After a take-over by another instance nothing may work on these files, nor on files of two times.
        if not stays and work.view.state is not BackupState.REPLACED:
            engine.release()


def _users(work: Work) -> list[str]:
    """Return the processes that may work on the files: the app, and those that run as a folder's owner."""
    owners = {source.owner for source in work.plan.sources}
    return [
        name
        for name, child in work.engine.children.items()
        if name == work.app or (child.spec.user in owners and child.spec.quit_before_kill is False)
    ]


async def _wait_until_down(engine: Engine, names: list[str]) -> None:
    watch = Watch(engine.store, lambda _snapshot: engine.all_down(names))
    with closing(watch), anyio.move_on_after(_LONGEST_STOP_S) as scope:
        await watch.until_true()
    if scope.cancelled_caught:
        raise BackupError(Trouble("the app does not stop", "stop it, and restore again"))
