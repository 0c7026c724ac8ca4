"""The store: waiting for a change, and orders to parts that do not exist yet."""

from __future__ import annotations

import asyncio

from supervisor.core.snapshot import HealthView, ProcessView, Snapshot
from supervisor.runtime.store import CommandChannel, SnapshotStore, Watch

DEADLINE_S = 10


async def test_a_watch_waits_for_a_change_of_its_own_part_alone() -> None:
    """A change before the wait is not missed; one of another part does not wake it."""
    store = SnapshotStore(Snapshot())
    watch = Watch(store, lambda snapshot: snapshot.stopping)
    store.update_health(HealthView("pass"))
    assert not await watch.changed(0.01)
    store.update_stopping("SIGTERM received")
    assert await watch.changed(DEADLINE_S)
    assert watch.value
    assert not await watch.changed(0.01)
    await asyncio.wait_for(watch.until_true(), DEADLINE_S)


async def test_a_closed_watch_is_not_told() -> None:
    """A closed watch costs nothing."""
    store = SnapshotStore(Snapshot())
    watch = Watch(store, lambda snapshot: len(snapshot.processes))
    watch.close()
    store.update_process(ProcessView("app"))
    assert watch.value == 0


def test_a_channel_keeps_the_last_orders_until_there_is_a_handler() -> None:
    """They are handled in order, and so are those sent after a handler has left."""
    channel: CommandChannel[int] = CommandChannel()
    got: list[int] = []
    for order in range(20):
        channel.send(order)
    leave = channel.set_handler(got.append)
    assert got == list(range(4, 20))
    leave()
    channel.send(20)
    assert got[-1] == 19
    channel.set_handler(got.append)
    assert got[-1] == 20


def test_when_the_run_began_stays_the_same_number_when_the_clock_is_set() -> None:
    """It identifies the run, even if the clock jumps from 1970 to today, which no sum of floats survives."""
    store = SnapshotStore(Snapshot(started_s=844.42, wall_offset_s=37.9))
    began_s = store.snapshot.began_s
    for offset_s in (1764489600.25, 1764486000.5):
        store.update_wall_offset(offset_s)
        assert (store.snapshot.began_s, store.snapshot.wall_offset_s) == (began_s, offset_s)
