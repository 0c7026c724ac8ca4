"""Runs blocking work in a thread to its end, and tasks beside each other whose failure is raised as it is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio

from supervisor.runtime.loop_latency import run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run ``work`` in a thread and return its result, also on cancellation: half of it would be worse than waiting.

    Unlike with anyio's own, it is done on the loop's thread where no other can be started.
    """
    with anyio.CancelScope(shield=True):
        return await run_in_thread(work, *arguments)
    raise AssertionError("a shield is never cancelled")


@asynccontextmanager
async def task_group(*kinds: type[Exception]) -> AsyncIterator[TaskGroup]:
    """Open a task group for the duration of a block; an exception of these kinds is raised without its group."""
    failed: Exception | None = None
    try:
        async with anyio.create_task_group() as group:
            yield group
    except* kinds as errors:
        # Raised in here it would be wrapped anew by Python before 3.11.4.
        failed = errors.exceptions[0]
    if failed is not None:
        raise failed
