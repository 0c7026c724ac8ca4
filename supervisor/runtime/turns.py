"""Lets the event loop have its turn while a thread of ours works on Python code."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from anyio import to_thread

from supervisor.system import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

# While a thread loads, the loop has its turn after so long, and not only after Python's 5 ms.
_TURN_S = 0.001
_USUAL_S = sys.getswitchinterval()


async def load(module: str) -> ModuleType:
    """Load a module in a thread."""
    with short_turns():
        return await to_thread.run_sync(_load, module)


def _load(module: str) -> ModuleType:
    found = import_module(module)
    # What reading a module's code took is not needed any more.
    kernel.give_back_memory()
    return found


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Make turns short for the length of a block."""
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(_USUAL_S)
