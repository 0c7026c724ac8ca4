"""Runs blocking work in threads, reads secrets, and runs tasks concurrently, whose failure is raised as it is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from supervisor.backup.words import BackupError, Trouble
from supervisor.errors import ConfigError
from supervisor.runtime.loop_latency import TimedReader, run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup

    from supervisor.config.parsers import SecretSource

T = TypeVar("T")
# How long a disk may take, such as to show what is in the folders.
LOOK_S = 15.0
SEE = "see what is in the folders"


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run ``work`` in a thread and return its result, also on cancellation: half of it would be worse than waiting.

    The cancellation is raised by what is awaited next: work that belongs together, in several threads, is done whole.
    Unlike with anyio's own, it is done on the loop's thread where no other can be started.
    """
    running = asyncio.get_running_loop().create_task(run_in_thread(work, *arguments))
    cancelled = False
    with anyio.CancelScope(shield=True):
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError:
                # asyncio's own, as when the main loop ends by a defect: it does not know anyio's shield.
                cancelled = True
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.uncancel()
        task.cancel()
    return running.result()


class Steps:
    """Runs steps on a disk that may hang, in one thread at most: while one hangs, the next one fails at once.

    ``what`` they are for is a part of the message. A step that is late goes on; its result is dropped. One that was
    cancelled has the rest of its time before it counts as hanging.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._last: TimedReader[Any] | None = None

    async def take(self, work: Callable[..., T], *arguments: object) -> T:
        """Return the result of the work. Raises BackupError if a disk does not answer, and what the work raises."""
        reader: TimedReader[T] = TimedReader(partial(work, *arguments), LOOK_S)
        try:
            if self._last is not None:
                await self._last.wait_for_earlier()
            self._last = reader
            return await reader.read()
        except TimeoutError as error:
            raise self._late() from error

    def _late(self) -> BackupError:
        why = f"cannot {self._what}: a disk has not answered for {LOOK_S:g} s"
        return BackupError(Trouble(why, "it is tried again; check the disks"))


class SecretReader:
    """Reads a secret whose file may be on a disk that hangs, in one thread at most; ``source`` is None without one."""

    def __init__(self, source: SecretSource | None) -> None:
        self._source = source
        self._file = TimedReader(source.read) if source is not None and source.path is not None else None

    async def text(self) -> str:
        """Return its text, empty if there is none. Raises BackupError if its file cannot be read, or not in time."""
        if self._source is None:
            return ""
        try:
            secret = self._source.read() if self._file is None else await self._file.read()
            return secret.reveal()
        except ConfigError as error:
            raise BackupError(Trouble("; ".join(error.problems))) from error
        except TimeoutError as error:
            why = f"cannot read {self._source.name} from {self._source.path}: it takes too long"
            raise BackupError(Trouble(why, "it is tried again; check the disk that it is on")) from error


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
