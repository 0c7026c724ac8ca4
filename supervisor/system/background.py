"""Work that may wait for a disk, as the event loop must not: done on threads, and before the process ends."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_under_way: set[threading.Thread] = set()


def run(work: Callable[[], None]) -> None:
    """Have something done: on a thread where an event loop runs on this one; else here, as where there is no thread."""
    thread = threading.Thread(target=_work, args=(work,), name="background", daemon=True)
    try:
        asyncio.get_running_loop()
        _under_way.add(thread)
        thread.start()
    except RuntimeError:
        _under_way.discard(thread)
        work()


def settle(limit_s: float) -> None:
    """Wait until all of it is done, for at most so long."""
    deadline_s = time.monotonic() + limit_s
    for thread in tuple(_under_way):
        thread.join(max(0.0, deadline_s - time.monotonic()))


async def settled(limit_s: float) -> None:
    """Wait for the same, and let the loop go on meanwhile."""
    if _under_way:
        await asyncio.get_running_loop().run_in_executor(None, settle, limit_s)


def _work(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        _under_way.discard(threading.current_thread())
