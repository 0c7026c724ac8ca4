"""The state of the tailnet while the backups hold every start, or the disk with the owner's choice does not answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from supervisor.core.backup import hold_of
from supervisor.core.process import State
from supervisor.core.tailnet_states import TailnetState
from supervisor.runtime.loop_latency import TimedReader
from supervisor.runtime.store import Watch
from supervisor.tailnet.state_file import DesiredStateStore
from supervisor.tailnet.view import Meaning

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.backup import BackupView
    from supervisor.runtime.store import SnapshotStore

_AGAIN_S = 2.0
_HANGS = "your choice cannot be read: the disk of the state folder (TS_STATE_DIR) does not answer"
_STATES = {
    State.RESTORING: TailnetState.RESTORING,
    State.STANDBY: TailnetState.STANDBY,
    State.HELD: TailnetState.HELD,
    State.CHOOSE: TailnetState.CHOOSE,
}


def of_backups(view: BackupView) -> Meaning:
    """Return the tailnet's state while the start is held: the same as that of the processes."""
    state = _STATES.get(hold_of(view.state), TailnetState.STARTING)
    return Meaning(state, why=view.progressing, what_to_do=view.what_to_do)


async def wait_until_let_go(store: SnapshotStore, publish: Callable[[Meaning], None]) -> None:
    """Publish the reason of the hold at each change, until the hold ends."""
    watch = Watch(store, lambda snapshot: snapshot.backup if snapshot.backup.holds else None)
    try:
        while watch.value is not None:
            publish(of_backups(watch.value))
            await watch.changed()
    finally:
        watch.close()


async def read_choice(state_dir: str, publish: Callable[[Meaning], None]) -> DesiredStateStore:
    """Return the owner's choice; as long as its disk does not answer, publish that."""
    reader = TimedReader(partial(DesiredStateStore.read, state_dir))
    while True:
        try:
            return await reader.read()
        except TimeoutError:
            publish(Meaning(TailnetState.STARTING, why=_HANGS, what_to_do="check that disk"))
            await anyio.sleep(_AGAIN_S)
