"""Lets the event loop have its turn while a thread of ours works on Python code."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from anyio import to_thread

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


async def load(module: str) -> ModuleType:
    """Load a module in a thread."""
    with short_turns():
        return await aside(_load, module)


async def aside(work: Callable[..., T], *words: object) -> T:
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
def short_turns() -> Iterator[None]:
    """Make turns short for the length of a block."""
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(_USUAL_S)
