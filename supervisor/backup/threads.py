"""Runs blocking work in a thread, to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from supervisor.runtime.loop_latency import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run ``work`` in a thread and return its result, also on cancellation: half of it would be worse than waiting.

    Unlike with anyio's own, it is done on the loop's thread where no other can be started.
    """
    with anyio.CancelScope(shield=True):
        return await run_in_thread(work, *arguments)
    raise AssertionError("a shield is never cancelled")
