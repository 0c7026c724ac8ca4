"""Work in threads that is cancelled: a swap is done whole, and the next step waits for one that was cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.backup import threads
from supervisor.backup.threads import SecretReader, Steps, in_thread
from supervisor.backup.words import BackupError
from supervisor.config.parsers import SecretSource
from supervisor.runtime import loop_latency
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_S = 10


class Slow:
    """Work that a test lets go on; ``done`` are the names of what has ended."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._go_on = threading.Event()
        self._begun = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def named(self, name: str) -> Callable[[], str]:
        """Return the work, under a name."""

        def work() -> str:
            self._loop.call_soon_threadsafe(self._begun.set)
            assert self._go_on.wait(DEADLINE_S)
            self.done.append(name)
            return name

        return work

    async def begun(self) -> None:
        """Wait until one has begun."""
        await asyncio.wait_for(self._begun.wait(), DEADLINE_S)

    def go_on(self) -> None:
        """Let all end."""
        self._go_on.set()


async def test_asyncio_s_own_cancellation_waits_for_the_end_of_a_swap() -> None:
    """When the main loop ends by a defect it cancels this way, and then the process exits: not within a swap."""
    slow = Slow()

    async def swap() -> None:
        await in_thread(slow.named("files"))
        await in_thread(slow.named("markers"))
        await asyncio.sleep(0)
        slow.done.append("what comes after it")

    swapping = asyncio.ensure_future(swap())
    await slow.begun()
    for _ in range(2):
        swapping.cancel()
        await asyncio.sleep(0)
    assert not swapping.done()
    slow.go_on()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(swapping, DEADLINE_S)
    assert slow.done == ["files", "markers"]


async def test_an_error_of_cancelled_work_is_raised() -> None:
    """Files of two times are reported as such."""
    slow = Slow()

    def fail() -> None:
        slow.named("files")()
        raise OSError("half of them")

    async def swap() -> str:
        try:
            await in_thread(fail)
        except OSError as error:
            return str(error)
        return ""

    async def swap_and_go_on() -> None:
        slow.done.append(await swap())
        await asyncio.sleep(0)
        slow.done.append("what comes after it")

    swapping = asyncio.ensure_future(swap_and_go_on())
    await slow.begun()
    swapping.cancel()
    await asyncio.sleep(0)
    slow.go_on()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(swapping, DEADLINE_S)
    assert slow.done == ["files", "half of them"]


async def test_a_step_waits_for_one_that_was_cancelled() -> None:
    """A stop cancels the snapshot under way: the last one is not refused for that."""
    steps, slow = Steps("look"), Slow()
    first = asyncio.ensure_future(steps.take(slow.named("first")))
    await slow.begun()
    first.cancel()
    second = asyncio.ensure_future(steps.take(slow.named("second")))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    slow.go_on()
    assert await asyncio.wait_for(second, DEADLINE_S) == "second"
    assert slow.done == ["first", "second"]


async def test_a_step_is_refused_at_once_while_one_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes one that was cancelled, and had its time since."""
    monkeypatch.setattr(threads, "LOOK_S", 0.1)
    steps, slow = Steps("look"), Slow()
    first = asyncio.ensure_future(steps.take(slow.named("first")))
    await slow.begun()
    first.cancel()
    for _ in range(2):
        with pytest.raises(BackupError, match="cannot look: a disk has not answered"):
            await asyncio.wait_for(steps.take(slow.named("another")), DEADLINE_S)
    slow.go_on()
    monkeypatch.setattr(threads, "LOOK_S", DEADLINE_S)
    deadline_s = time.monotonic() + DEADLINE_S
    while steps._last is not None and steps._last.hangs:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
    assert await steps.take(slow.named("next")) == "next"
    assert slow.done == ["first", "next"]


class SlowSource(SecretSource):
    """A secret's file on a slow disk."""

    def __init__(self, slow: Slow) -> None:
        super().__init__("PASSWORD", path="/secret")
        self._work = slow.named("read")

    def read(self) -> Secret:
        """Return the secret, once the test lets it go on."""
        return Secret(self._work())


async def test_a_secret_is_read_after_a_reading_that_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk answers a moment later."""
    monkeypatch.setattr(loop_latency, "READ_S", DEADLINE_S)
    slow = Slow()
    reader = SecretReader(SlowSource(slow))
    first = asyncio.ensure_future(reader.text())
    await slow.begun()
    first.cancel()
    second = asyncio.ensure_future(reader.text())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    slow.go_on()
    assert await asyncio.wait_for(second, DEADLINE_S) == "read"
    assert slow.done == ["read", "read"]
