"""Runs a program to its end as a child process, and passes its output on."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import anyio

from supervisor.logs.pipe import capacity_of
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.system.spawn import NOT_EXECUTABLE, SpawnError, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.core.process import ExitStatus, ProcessSpec
    from supervisor.system.reaper import Exit, Reaper

    # Gets a line without its newline, and whether it came from standard error.
    Take = Callable[[bytes, bool], None]

_CHUNK_BYTES = 64 * 1024
# Lines per turn of the loop: many short ones cost most.
_MOST_LINES = 1024
# A list of snapshots is one line; a longer line is not parsed.
_LONGEST_LINE_BYTES = 8 * 1024 * 1024
_TERM_GRACE_S = 5.0
_LEAST_PRIORITY = 19
_FIRST_TO_KILL = 1000
_IN_BACKGROUND = ContextVar("in background", default=False)
_UNTIL_S = ContextVar("until", default=math.inf)


class ProgramParent(Protocol):
    """The parent of the programs: the engine, or another reaper in its place."""

    @property
    def launcher(self) -> tuple[str, ...]:
        """Return the command prefix that makes a child die with its parent."""

    @property
    def reaper(self) -> Reaper:
        """Return the reaper."""


@contextmanager
def in_background() -> Iterator[None]:
    """Give what is started in this block the lowest priority: nothing waits for it, and the app runs meanwhile.

    Where a start or a stop waits for a program, that would starve it on a crowded machine.
    """
    token = _IN_BACKGROUND.set(True)
    try:
        yield
    finally:
        _IN_BACKGROUND.reset(token)


@contextmanager
def ended_by(until_s: float) -> Iterator[None]:
    """Give what is started in this block until then to end after a cancellation; it is killed at that time."""
    token = _UNTIL_S.set(until_s)
    try:
        yield
    finally:
        _UNTIL_S.reset(token)


async def run(engine: ProgramParent, spec: ProcessSpec, take: Take, fds: tuple[int, ...] = ()) -> ExitStatus:
    """Run it and return its exit status; it is ended on cancellation. ``fds`` are inherited by it.

    Raises SpawnError if it cannot be started, or its output not followed.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[ExitStatus] = loop.create_future()

    def on_exit(exit_: Exit) -> None:
        if not ended.done():
            ended.set_result(exit_.exit_status)

    spawned = DESCRIPTORS.start(lambda: spawn(spec, engine.launcher, fds=fds))
    engine.reaper.own(spawned.pid, on_exit)
    if _IN_BACKGROUND.get():
        _set_priority(spawned.pid, _LEAST_PRIORITY)
    _let_kill_first(spawned.pid)
    outputs = [_Output(loop, spawned.stdout_fd, take, False), _Output(loop, spawned.stderr_fd, take, True)]
    try:
        for output in outputs:
            output.open()
        return await asyncio.shield(ended)
    except OSError as error:
        why = f"cannot follow the output of {spec.name}: {error.strerror or error}"
        raise SpawnError(NOT_EXECUTABLE, why) from error
    finally:
        try:
            # Also on cancellation: wait for the end of what was started.
            with anyio.CancelScope(shield=True):
                if not ended.done():
                    await _end(spawned.pid, ended)
                for output in outputs:
                    await output.drain()
        finally:
            for output in outputs:
                output.close()


def _set_priority(pid: int, priority: int) -> None:
    """Set the priority of a program and of what it has started; only root can raise it."""
    # A process's priority is that of one of its threads; that of a group reaches all of them, though not in gVisor.
    for which in (os.PRIO_PROCESS, os.PRIO_PGRP):
        with suppress(OSError):
            os.setpriority(which, pid, priority)


def _let_kill_first(pid: int) -> None:
    """Have the kernel kill this process before others when memory runs short."""
    with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write(f"{_FIRST_TO_KILL}\n")


async def _end(pid: int, ended: asyncio.Future[ExitStatus]) -> None:
    """Terminate it, so that restic can remove its lock; kill it if it does not end in time."""
    # Its end is waited for.
    _set_priority(pid, os.getpriority(os.PRIO_PROCESS, 0))
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(OSError):
            os.killpg(pid, number)
        left_s = max(0.0, _UNTIL_S.get() - time.monotonic())
        await asyncio.wait({ended}, timeout=min(_TERM_GRACE_S, left_s))
        if ended.done():
            return


class _Output:
    """One pipe of a child: whole lines, a bounded amount in each turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, take: Take, is_error: bool) -> None:  # noqa: FBT001
        self._loop = loop
        self._fd = fd
        self._take = take
        self._is_error = is_error
        # Lines that were read and wait for the next turn, and the beginning of one that is not whole yet.
        self._left = b""
        self._rest = bytearray()
        self._open = True

    def open(self) -> None:
        """Follow it. Raises OSError if the kernel has no memory to watch the pipe."""
        self._loop.add_reader(self._fd, self._read)

    def _read(self) -> int:
        """Read a chunk once the lines of the one before are taken; return the number of bytes."""
        if self._left:
            return 0
        try:
            data = os.read(self._fd, _CHUNK_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._fd)
            self._open = False
            return 0
        self._left = data
        self._take_lines()
        return len(data)

    def _take_lines(self) -> None:
        """Take a bounded number of lines, and the others in the next turn of the loop."""
        *ends, rest = self._left.split(b"\n", _MOST_LINES)
        self._left = b""
        if len(ends) == _MOST_LINES:
            self._left, rest = rest, b""
        if self._left:
            self._loop.call_soon(self._take_lines)
        # A list of snapshots is one line of up to megabytes, which is joined once, at its end.
        for end in ends:
            self._hand_on(bytes(self._rest + end))
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._rest.clear()

    def _hand_on(self, line: bytes) -> None:
        if line.strip():
            self._take(line, self._is_error)

    async def drain(self) -> None:
        """Read the rest: at most what the pipe holds, since others may keep writing."""
        self._loop.remove_reader(self._fd)
        most_bytes = capacity_of(self._fd)
        size = 1
        while self._left or (size and most_bytes > 0 and self._open):
            if not self._left:
                size = self._read()
                most_bytes -= size
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close the pipe; a last line may lack its end."""
        self._left = b""
        self._hand_on(bytes(self._rest))
        if self._open:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
