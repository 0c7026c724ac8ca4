"""The engine and the ordered stop when something goes wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.core.process import Event, EventKind, ExitStatus, ProcessSpec, Restart, SetTimer, State, TcpProbe
from supervisor.core.snapshot import Snapshot
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime import probes
from supervisor.runtime.engine import Engine
from supervisor.runtime.health_monitor import HealthMonitor
from supervisor.runtime.stop import Stop, StopPlan
from supervisor.runtime.store import SnapshotStore
from supervisor.system import procfs, sweeper
from supervisor.system.reaper import Reaper
from supervisor.system.spawn import MARK, mark
from tests.support.crowded import Stopwatch
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("first", "last")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine with two processes that sleep; the tests' own children are not swept."""
    monkeypatch.setattr(procfs, "everything_else", list)
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=NAMES)
    specs = [ProcessSpec(name, ("sleep", "300"), {"PATH": os.environ["PATH"]}) for name in NAMES]
    made = Engine(specs, SnapshotStore(Snapshot()), log, Reaper(), ())
    made.start_all()
    pids = list(made.reaper.owned)
    yield made
    for pid in pids:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for _, fd in log._waiting_pipes:
        os.close(fd)


def said(engine: Engine) -> list[str]:
    """Return what was logged so far."""
    return [record.event for record in engine.log._waiting_records]


async def test_what_cannot_be_ended_does_not_hold_the_stop_up(engine: Engine) -> None:
    """A process that waits for a broken disk survives KILL. Here nothing reaps, so none of them ever ends."""
    watch = Stopwatch()
    await asyncio.wait_for(Stop(engine, StopPlan(timeout_s=0.2, last="last")).run(), 30)
    assert watch.net_s < 5
    assert said(engine).count("cannot be ended") == 2


@pytest.fixture
def remains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that the first one has left behind, and that no signal ends."""
    monkeypatch.setattr(sweeper, "send", lambda _pid, _number: None)
    pid = os.posix_spawn("/bin/sleep", ["sleep", "300"], {MARK: mark("first")})
    yield
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.usefixtures("remains")
async def test_remains_hold_up_nothing_that_comes_after_them(engine: Engine) -> None:
    """What is left of the app, and is ended by no signal, does not take time from the logout and tailscaled."""
    watch = Stopwatch()
    asked: list[float] = []

    async def farewell(until_s: float) -> None:
        asked.append(until_s - time.monotonic() + watch.waited_s)

    stop = Stop(engine, StopPlan(timeout_s=3, last="last", close_tailnet=farewell))
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, engine.reap)
    try:
        await asyncio.wait_for(stop.run(), 30)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    assert asked[0] > 0.8
    # It had time to end by itself; on a crowded machine none may be left to look for its remains.
    assert engine.children["last"].machine.exit_status == ExitStatus(signal=signal.SIGTERM)
    assert watch.net_s < 3.5 + 1
    assert "cannot be ended" not in said(engine)


async def test_the_loop_goes_on_while_the_last_process_takes_its_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health is answered meanwhile, and its end is seen: the wait took all processor time, and the end as a timeout."""
    last = engine.children["last"]
    pid = last.view.pid
    assert pid is not None
    monkeypatch.setattr(last, "signal", lambda *_, **__: None)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, engine.reap)
    gaps: list[float] = []

    async def turn() -> None:
        while True:
            watch = Stopwatch()
            await asyncio.sleep(0.01)
            gaps.append(watch.net_s)

    turning = asyncio.create_task(turn())
    loop.call_later(1.0, os.kill, pid, signal.SIGKILL)
    begun_s, watch = loop.time(), Stopwatch()
    try:
        await asyncio.wait_for(Stop(engine, StopPlan(timeout_s=20, last="last")).run(), 40)
    finally:
        turning.cancel()
        loop.remove_signal_handler(signal.SIGCHLD)
    assert max(gaps) < 0.5
    assert loop.time() - begun_s > 0.9
    assert watch.net_s < 10
    assert "killed" not in said(engine)


async def test_what_others_fail_to_do_does_not_keep_the_last_one_alive(engine: Engine) -> None:
    """The tailnet is responsible for the log-out, HTTP for the last event; the stop continues without them."""

    async def farewell(_until_s: float) -> None:
        raise RuntimeError("no control server")

    async def part() -> None:
        await asyncio.Event().wait()

    stop = Stop(engine, StopPlan(timeout_s=5, last="last", close_tailnet=farewell, close_web=part))
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, engine.reap)
    try:
        await asyncio.wait_for(stop.run(), 30)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    assert said(engine)[-1] == "closing the web server failed"
    assert "leaving the tailnet failed" in said(engine)
    assert engine.all_at_rest(NAMES)


def test_a_spawn_without_descriptors_is_an_event_like_a_crash(engine: Engine) -> None:
    """At the limit of open files a start fails without a leak, and is tried again later."""
    import resource

    engine.dispatch("first", Event(EventKind.FORCE_STOP))
    os.waitid(os.P_PID, int(engine.children["first"].view.pid or 0), os.WEXITED | os.WNOWAIT)
    before = set(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest free descriptor is the limit: none can be opened.
    free = next(number for number in range(soft) if str(number) not in before)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        engine.dispatch("first", Event(EventKind.START))
        engine.reap()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert engine.children["first"].machine.state is State.BACKOFF
    assert "at its limit of processes, memory or files" in engine.children["first"].last_reason
    assert set(os.listdir("/proc/self/fd")) == before


def test_that_a_process_has_answered_outlives_its_run(engine: Engine) -> None:
    """Its next run has not answered yet; after a take-over only a process that never answered is waited for."""
    child = engine.children["first"]
    child.spec = child.spec._replace(probe=TcpProbe("127.0.0.1", 1))
    child._show(ready=False, ever_ready=False, answered=False)
    engine.update_readiness("first", ready=True, why="")
    pids = {*engine.reaper.owned}
    child._spawn()
    for pid in {*engine.reaper.owned} - pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert (child.view.ready, child.view.ever_ready, child.view.answered) == (False, False, True)


async def test_an_answer_of_an_earlier_life_says_nothing_about_this_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was restarted while its probe was under way has not answered yet."""
    child = engine.children["first"]
    child.spec = child.spec._replace(probe=TcpProbe("127.0.0.1", 1))
    asked: list[float | None] = []
    found: list[bool] = []
    again = asyncio.Event()

    async def ask(_probe: object) -> None:
        asked.append(child.view.started_s)
        if len(asked) == 2:
            again.set()
            await asyncio.Event().wait()
        engine.store.update_process(child.view._replace(started_s=-1.0))

    monkeypatch.setattr(probes, "ask", ask)
    monkeypatch.setattr(engine, "update_readiness", lambda _name, *, ready, **_: found.append(ready))
    task = asyncio.get_running_loop().create_task(probes.Probes(engine).run())
    await asyncio.wait_for(again.wait(), 10)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert found == []


def test_health_is_logged_when_it_changes(engine: Engine) -> None:
    """It is not logged with each check."""
    engine.store.update_process(engine.children["first"].view._replace(critical=True, state=State.FAILED))
    monitor = HealthMonitor(engine.store, engine.log)
    for _ in range(3):
        monitor._look()
    assert said(engine).count("health is fail") == 1


@pytest.mark.parametrize("kind", [EventKind.START, EventKind.RESTART])
def test_nothing_begins_once_the_stop_has_begun(engine: Engine, kind: EventKind) -> None:
    """An order that comes then, by the API or a signal, would make the stop wait for one more process."""
    engine.close()
    engine.dispatch("first", Event(EventKind.FORCE_STOP))
    wait_until(lambda: engine.reap() or engine.all_at_rest(("first",)), what="its end")
    engine.dispatch("first", Event(kind))
    engine.dispatch("last", Event(EventKind.RESTART))
    assert [child.machine.state for child in engine.children.values()] == [State.INACTIVE, State.RUNNING]


def test_a_start_by_order_after_an_end_for_good_counts_as_asked(engine: Engine) -> None:
    """This holds however its last run ended."""
    child = engine.children["first"]
    child.spec = child.spec._replace(restart=Restart.NEVER)
    assert child.view.pid is not None
    os.kill(child.view.pid, signal.SIGKILL)
    wait_until(lambda: engine.reap() or child.machine.state is State.ENDED, what="its end")
    engine.dispatch("first", Event(EventKind.START))
    pid = child.view.pid
    assert pid is not None
    assert child.view.restarts_by == (("asked", 1),)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_crash_loop_leaves_no_timers(engine: Engine) -> None:
    """Each run sets one for the time after which its failures are forgiven, which may be days away."""
    child = engine.children["first"]
    for _ in range(5000):
        child.generation += 1
        engine.set_timer("first", SetTimer(EventKind.PROVEN, 1e6), child.generation)
    assert len(engine._timers) < 300
    due_s = engine.next_due_s()
    assert due_s is not None
    # The timer of the other process, which still runs, is kept.
    assert due_s < time.monotonic() + 1000
