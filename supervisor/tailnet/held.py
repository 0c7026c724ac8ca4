"""The state of the tailnet while the backups hold every start."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from supervisor.core.backup import hold_of
from supervisor.core.process import HELD_STATES
from supervisor.core.tailnet_states import TailnetState
from supervisor.runtime.store import Watch
from supervisor.tailnet.view import Meaning

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.backup import BackupView
    from supervisor.runtime.store import SnapshotStore


def of_backups(view: BackupView) -> Meaning:
    """Return the tailnet's state while the start is held: the same as that of the processes."""
    hold = hold_of(view.state)
    state = TailnetState(hold.value) if hold in HELD_STATES else TailnetState.STARTING
    return Meaning(state, why=view.progressing, what_to_do=view.what_to_do)


async def wait_until_let_go(store: SnapshotStore, publish: Callable[[Meaning], None]) -> None:
    """Publish the reason of the hold at each change, until the hold ends."""
    with closing(Watch(store, lambda snapshot: snapshot.backup if snapshot.backup.holds else None)) as watch:
        while watch.value is not None:
            publish(of_backups(watch.value))
            await watch.changed()
