"""Work in threads that is cancelled: a swap of files is done whole, and a step that was cancelled is waited for."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from supervisor.backup.threads import in_thread

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
