"""Runs blocking work in threads, and tasks beside each other whose failure is raised as it is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from supervisor.backup.words import BackupError, Trouble
from supervisor.runtime.loop_latency import TimedReader, run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup

T = TypeVar("T")
# How long a disk may take to show what is in the folders.
LOOK_S = 15.0


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run ``work`` in a thread and return its result, also on cancellation: half of it would be worse than waiting.

    Unlike with anyio's own, it is done on the loop's thread where no other can be started.
    """
    with anyio.CancelScope(shield=True):
        return await run_in_thread(work, *arguments)
    raise AssertionError("a shield is never cancelled")


class Look(Generic[T]):
    """Looks at folders whose disk may hang, in one thread at most; ``work`` has no effects."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._reader = TimedReader(work, LOOK_S)

    async def take(self) -> T:
        """Return the result of the work. Raises BackupError if a disk does not answer, and what the work raises."""
        try:
            return await self._reader.read()
        except TimeoutError as error:
            why = f"cannot see what is in the folders: a disk has not answered for {LOOK_S:g} s"
            raise BackupError(Trouble(why, "it is tried again; check their disks")) from error


@asynccontextmanager
async def task_group(*kinds: type[Exception]) -> AsyncIterator[TaskGroup]:
    """Open a task group for the duration of a block; an exception of these kinds is raised without its group."""
    failed: Exception | None = None
    try:
        async with anyio.create_task_group() as group:
            yield group
    except* kinds as errors:
        # Raised in here it would be wrapped again by Python before 3.11.4.
        failed = errors.exceptions[0]
    if failed is not None:
        raise failed
