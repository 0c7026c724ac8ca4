"""The loop around the engine, and the services that it runs."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING

from supervisor.backoff import Backoff
from supervisor.core.snapshot import Snapshot
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime import main_loop as module
from supervisor.runtime.engine import Engine
from supervisor.runtime.main_loop import MainLoop
from supervisor.runtime.stop import Stop, StopPlan
from supervisor.runtime.store import SnapshotStore
from supervisor.system.reaper import Reaper
from supervisor.system.signals import Inbox
from tests.logs.rig import until

if TYPE_CHECKING:
    import pytest

BACKOFF = Backoff(initial_s=0.01, max_s=0.08, reset_s=0.1)


async def test_a_part_that_worked_long_enough_begins_its_waits_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails once a day does not end up waiting for a minute."""
    monkeypatch.setattr(module, "SERVICE_BACKOFF", BACKOFF)
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=())
    loop = MainLoop(Engine((), SnapshotStore(Snapshot()), log, Reaper(), ()), Inbox(), None, StopPlan, {})
    stays_s, clock = iter([0.0, 0.0, 0.0, BACKOFF.reset_s, 0.0]), [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    async def part() -> None:
        stay_s = next(stays_s, None)
        if stay_s is not None:
            clock[0] += stay_s
            raise RuntimeError("a defect")

    await loop._keep("part", part)
    waits_s = [record.fields["again_in_s"] for record in log._waiting_records]
    assert waits_s == [0.01, 0.02, 0.04, 0.01, 0.02]


async def test_a_wall_clock_that_is_set_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """NTP does it soon after the boot of a machine without its own clock; a small difference is ignored."""
    monkeypatch.setattr(module, "LOOK_FOR_SIGNALS_S", 0.01)
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=())
    store = SnapshotStore(Snapshot(wall_offset_s=1e9))
    loop = MainLoop(Engine((), store, log, Reaper(), ()), Inbox(), None, StopPlan, {})
    clock = [1e9 + 0.5]
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock[0], monotonic=lambda: 0.0))
    loop._look_for_signals()
    assert store.snapshot.number == 0
    clock[0] = 1e9 + 3600
    await until(lambda: store.snapshot.wall_offset_s == 1e9 + 3600)
    assert (store.snapshot.began_s, store.snapshot.number) == (1e9, 1)


async def test_a_signal_whose_wake_was_lost_is_seen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short of memory, the kernel refuses the write that wakes the loop; TERM then waited for another signal."""
    monkeypatch.setattr(module, "LOOK_FOR_SIGNALS_S", 0.05)
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=())
    inbox = Inbox()
    loop = MainLoop(Engine((), SnapshotStore(Snapshot()), log, Reaper(), ()), inbox, None, StopPlan, {})
    loop._look_for_signals()
    before = signal.signal(signal.SIGTERM, inbox._take)
    try:
        # Nothing wakes the loop: the inbox was never set up to do so.
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(loop._stop_asked.wait(), 10)
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_part_that_is_cancelled_by_what_it_awaits_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked it to end, so this is logged and it is run again; before, it was silently gone for good."""
    monkeypatch.setattr(module, "SERVICE_BACKOFF", BACKOFF)
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=())
    loop = MainLoop(Engine((), SnapshotStore(Snapshot()), log, Reaper(), ()), Inbox(), None, StopPlan, {})
    begun = 0

    async def part() -> None:
        nonlocal begun
        begun += 1
        awaited = asyncio.get_running_loop().create_future()
        if begun < 3:
            awaited.cancel()
        await awaited

    task = asyncio.create_task(loop._keep("part", part))
    await until(lambda: begun == 3)
    assert [record.event for record in log._waiting_records] == ["service crashed"] * 2
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_step_that_is_cancelled_by_what_it_awaits_does_not_end_the_stop() -> None:
    """The rest of the stop follows, and then the exit."""
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=())
    engine = Engine((), SnapshotStore(Snapshot()), log, Reaper(), ())

    async def close() -> None:
        awaited = asyncio.get_running_loop().create_future()
        awaited.cancel()
        await awaited

    await Stop(engine, StopPlan())._attempt("closing", close(), asyncio.get_running_loop().time() + 10)
    assert [record.event for record in log._waiting_records] == ["closing failed"]
