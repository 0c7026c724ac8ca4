"""Lets the event loop have its turn while a thread of ours works on Python code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from anyio import to_thread

from supervisor.core.counts import Durations
from supervisor.system import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

# While a thread loads, the loop has its turn after so long, and not only after Python's 5 ms.
_TURN_S = 0.001
# What Python says where the kernel gives it none.
_NO_THREAD = "can't start new thread"
_USUAL_S = sys.getswitchinterval()

T = TypeVar("T")


async def load_module(module: str) -> ModuleType:
    """Load a module in a thread."""
    with short_switch_interval():
        return await run_in_thread(_load, module)


async def run_in_thread(work: Callable[..., T], *words: object) -> T:
    """Do something in a thread; where there is none to be had, the loop has to wait for it."""
    try:
        return await to_thread.run_sync(partial(work, *words))
    except RuntimeError as error:
        if str(error) != _NO_THREAD:
            raise
        return work(*words)


def has_threads() -> bool:
    """Tell whether a thread is to be had: each counts as a process at the container's limit."""
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


def _load(module: str) -> ModuleType:
    found = import_module(module)
    # What reading a module's code took is not needed any more.
    kernel.give_back_memory()
    # It stays: a collection that looks through it holds the loop up for 15 ms, a stop included.
    gc.freeze()
    return found


@contextlib.contextmanager
def short_switch_interval() -> Iterator[None]:
    """Make turns short for the length of a block."""
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(_USUAL_S)


EVERY_S = 1.0


class LoopLatency:
    """Looks once a second from ``start`` on: nobody who does not ask for it pays for it."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.seen = Durations()
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, if that has not been done."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._timer is None:
            return
        loop = asyncio.get_running_loop()
        self.seen = self.seen.plus(max(0.0, loop.time() - self._timer.when()))
        self._timer = loop.call_later(self._every_s, self._look)


_under_way: set[threading.Thread] = set()


def run_in_background(work: Callable[[], None]) -> None:
    """Have something done: on a thread where an event loop runs on this one; else here, as where there is no thread."""
    thread = threading.Thread(target=_work, args=(work,), name="background", daemon=True)
    try:
        asyncio.get_running_loop()
        _under_way.add(thread)
        thread.start()
    except RuntimeError:
        _under_way.discard(thread)
        work()


def join_background(limit_s: float) -> None:
    """Wait until all of it is done, for at most so long."""
    deadline_s = time.monotonic() + limit_s
    for thread in tuple(_under_way):
        thread.join(max(0.0, deadline_s - time.monotonic()))


async def background_done(limit_s: float) -> None:
    """Wait for the same, and let the loop go on meanwhile."""
    if _under_way:
        await asyncio.get_running_loop().run_in_executor(None, join_background, limit_s)


def _work(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        _under_way.discard(threading.current_thread())
