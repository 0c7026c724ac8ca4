"""Work that the event loop does not wait for."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.runtime import loop_latency
from supervisor.runtime.loop_latency import (
    EventLoop,
    SoonReader,
    TimedReader,
    background_done,
    can_start_threads,
    run_in_background,
    run_in_thread,
)
from tests.logs.rig import until
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_S = 10


@pytest.fixture(params=["threads", "no threads"])
def main_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether all work has to be done on the main thread, since no other can be started."""
    monkeypatch.setattr(loop_latency, "_workers", loop_latency._Workers())
    if request.param == "threads":
        return False
    refuse_threads(monkeypatch)
    return True


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread start, as at the container's limit of processes."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


async def test_work_is_done_once_with_and_without_threads(*, main_only: bool) -> None:
    """Its result is returned, and at the container's limit of processes the loop does it itself."""
    ran_in: list[bool] = []

    def work(number: int) -> int:
        ran_in.append(threading.current_thread() is threading.main_thread())
        return number + 1

    assert await asyncio.wait_for(run_in_thread(work, 1), DEADLINE_S) == 2
    run_in_background(lambda: ran_in.append(threading.current_thread() is threading.main_thread()))
    await background_done(DEADLINE_S)
    assert ran_in == [main_only, main_only]
    assert can_start_threads() is not main_only


async def test_at_the_limit_of_processes_work_waits_for_the_thread_that_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that hangs would otherwise block the loop: it blocked health for half a second."""
    monkeypatch.setattr(loop_latency, "_workers", loop_latency._Workers())
    main = threading.get_ident()
    assert await asyncio.wait_for(run_in_thread(threading.get_ident), DEADLINE_S) != main
    refuse_threads(monkeypatch)
    go_on = threading.Event()
    slow = asyncio.ensure_future(run_in_thread(go_on.wait, DEADLINE_S))
    ran_in: list[int] = []
    await asyncio.sleep(0)
    run_in_background(lambda: ran_in.append(threading.get_ident()))
    next_one = asyncio.ensure_future(run_in_thread(threading.get_ident))
    await asyncio.sleep(0)
    assert not slow.done()
    go_on.set()
    assert await asyncio.wait_for(slow, DEADLINE_S)
    ran_in.append(await asyncio.wait_for(next_one, DEADLINE_S))
    assert len(set(ran_in)) == 1
    assert main not in ran_in


async def test_a_job_that_fails_does_not_take_the_thread_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is reported like that of a thread, and the next job gets the thread."""
    monkeypatch.setattr(loop_latency, "_workers", loop_latency._Workers())
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda error: reported.append(error.exc_type))
    assert await asyncio.wait_for(run_in_thread(lambda: 1), DEADLINE_S) == 1
    refuse_threads(monkeypatch)

    def fail() -> None:
        raise ZeroDivisionError

    run_in_background(fail)
    await asyncio.wait_for(background_done(DEADLINE_S), DEADLINE_S)
    assert await asyncio.wait_for(run_in_thread(threading.get_ident), DEADLINE_S) != threading.get_ident()
    assert reported == [ZeroDivisionError]


@pytest.mark.usefixtures("main_only")
def test_names_are_looked_up_with_and_without_threads() -> None:
    """Without a thread, asyncio's own loop fails to do so, and fails again when it is closed."""
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        found = runner.run(asyncio.wait_for(runner.get_loop().getaddrinfo("localhost", 80), DEADLINE_S))
    assert {address[0] for *_, address in found} & {"127.0.0.1", "::1"}


@pytest.mark.usefixtures("main_only")
async def test_what_the_work_raises_is_raised_where_it_is_awaited() -> None:
    """This holds with threads and without."""

    def work() -> None:
        raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk"):
        await asyncio.wait_for(run_in_thread(work), DEADLINE_S)


async def test_whoever_is_cancelled_does_not_wait_for_a_disk() -> None:
    """The thread continues on its own, and its result is dropped."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(DEADLINE_S)

    waiting = asyncio.ensure_future(run_in_thread(work))
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, DEADLINE_S / 2)
    assert not go_on.is_set()
    go_on.set()


async def test_no_more_threads_run_at_once_than_a_container_bears(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts towards its limit of processes: a crowd of requests has to wait."""
    # Waiting for a slot binds the semaphore to the event loop, and each test has its own loop.
    monkeypatch.setattr(loop_latency, "_slots", asyncio.Semaphore(loop_latency._MOST_THREADS))
    workers = loop_latency._Workers()
    monkeypatch.setattr(loop_latency, "_workers", workers)
    at_once, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == loop_latency._MOST_THREADS:
                full.set()
        full.wait(DEADLINE_S)
        with lock:
            at_once -= 1

    crowd = [run_in_thread(work) for _ in range(2 * loop_latency._MOST_THREADS)]
    await asyncio.wait_for(asyncio.gather(*crowd), DEADLINE_S)
    assert most == loop_latency._MOST_THREADS
    # All threads but one end.
    deadline_s = time.monotonic() + DEADLINE_S
    while workers._count > 1:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
    assert workers._count == 1


def test_without_a_loop_background_work_is_done_at_once() -> None:
    """This happens before the loop has started, and after it has ended."""
    done: list[Callable[[], object]] = []
    run_in_background(lambda: done.append(threading.current_thread))
    assert done


def test_what_hangs_holds_its_caller_up_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that cannot await gets the result, the error of the work, or a timeout."""
    hangs, calls = threading.Event(), 0

    def hang() -> bool:
        nonlocal calls
        calls += 1
        return hangs.wait(DEADLINE_S)

    monkeypatch.setattr(loop_latency, "SOON_S", DEADLINE_S)
    assert SoonReader(lambda: 7).read() == 7
    with pytest.raises(ZeroDivisionError):
        SoonReader(lambda: 1 // 0).read()
    monkeypatch.setattr(loop_latency, "SOON_S", 0.1)
    reader = SoonReader(hang)
    try:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                reader.read()
        # The others did not wait, and took no thread; on a crowded machine that of the first begins late.
        wait_until(lambda: calls)
        assert calls == 1
    finally:
        hangs.set()
    monkeypatch.setattr(loop_latency, "SOON_S", DEADLINE_S)

    def read() -> bool:
        # It is refused as long as the former one hangs.
        with contextlib.suppress(TimeoutError):
            return reader.read()
        return False

    wait_until(read)
    assert calls == 2


async def test_who_no_longer_waits_for_a_disk_hears_nothing_of_its_error() -> None:
    """A closed panel's request is cancelled; the error of its file was logged as an internal one."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context))

    def fail() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(DEADLINE_S)
        raise OSError("no such disk")

    reader = TimedReader(fail)
    reading = asyncio.ensure_future(reader.read())
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(TimeoutError):
        await reader.read()
    go_on.set()
    deadline_s = time.monotonic() + DEADLINE_S
    while reader.hangs:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
    del reader, reading
    gc.collect()
    assert not reported


async def test_a_thread_for_which_nobody_waits_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place was given to the next one: a disk that hangs could get a thread for each request."""
    monkeypatch.setattr(loop_latency, "_slots", asyncio.Semaphore(1))
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(DEADLINE_S)

    first = asyncio.ensure_future(run_in_thread(hang))
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(run_in_thread(lambda: 7))
    await asyncio.sleep(0)
    assert loop_latency._slots.locked()
    assert not second.done()
    go_on.set()
    assert await asyncio.wait_for(second, DEADLINE_S) == 7


def test_a_name_that_hangs_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe gives up each time while DNS hangs, and asks again: that took the threads of files and of other names."""
    monkeypatch.setattr(loop_latency, "_slots", asyncio.Semaphore(1))
    monkeypatch.setattr(loop_latency, "_lookup_slots", asyncio.Semaphore(2))
    go_on, looked_up = threading.Event(), []

    def look_up(name: str, *_: object) -> list[str]:
        looked_up.append(name)
        if name == "hangs.example":
            go_on.wait(DEADLINE_S)
        return [name]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def ask() -> None:
        loop: Any = asyncio.get_running_loop()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.getaddrinfo("hangs.example", 80), 0.05)
        await until(lambda: looked_up)
        assert await asyncio.wait_for(loop.getaddrinfo("other.example", 80), DEADLINE_S) == ["other.example"]
        assert await asyncio.wait_for(run_in_thread(lambda: 7), DEADLINE_S) == 7
        assert looked_up == ["hangs.example", "other.example"]
        waiting = [asyncio.ensure_future(loop.getaddrinfo("hangs.example", 80)) for _ in range(2)]
        await asyncio.sleep(0)
        go_on.set()
        assert await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE_S) == [["hangs.example"]] * 2
        # Looked up again once the other has ended.
        assert await loop.getaddrinfo("hangs.example", 80) == ["hangs.example"]
        assert looked_up.count("hangs.example") == 2

    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(ask())
    finally:
        go_on.set()
