"""Reads one child's pipe: as much at a time as there is, but never so much that others have to wait."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from supervisor.logs.levels import TAILSCALED
from supervisor.logs.lines import Splitter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from supervisor.logs.redact import Redactor
    from supervisor.logs.render import Source

MOST_BYTES = 64 * 1024
_LEAST_BYTES = 16 * 1024
# What a turn of the loop may take of a stream: lines that cost much come in smaller chunks.
_LONG_TURN_S = 0.001
# A child that writes line by line costs one wake a line, unless a few lines are left to gather.
_SMALL_BYTES = 16 * 1024
_GATHER_S = 0.002
_BUSY_S = 0.02
# fcntl(2), and what a pipe may hold where the kernel does not tell.
_F_GETPIPE_SZ = 1032
_PIPE_BYTES = 1024 * 1024


class Pipe:
    """One open pipe. ``take`` gets whole lines; ``pause`` and ``resume`` are for a full log."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        source: Source,
        redactor: Redactor,
        take: Callable[[Source, bytes], None],
        on_closed: Callable[[Pipe], None],
    ) -> None:
        self.source = source
        self.closed = False
        self._loop = loop
        self._fd = fd
        self._take = take
        self._on_closed = on_closed
        self._splitter = Splitter(redactor, daemon=source.process == TAILSCALED)
        self._chunk_bytes = MOST_BYTES
        self._paused = False
        self._gathering: asyncio.TimerHandle | None = None
        self._read_at_s = 0.0
        loop.add_reader(fd, self._on_readable)

    @property
    def inode(self) -> int:
        """Return the number by which the kernel shows it in /proc; only while it is open."""
        return os.fstat(self._fd).st_ino

    def pause(self) -> None:
        """Read no more: the child waits in its pipe."""
        if not self._paused and not self.closed:
            self._paused = True
            self._stop_gathering()
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self.closed:
            self._paused = False
            self._loop.add_reader(self._fd, self._on_readable)

    def drain(self) -> None:
        """Read what is there, in spite of a pause; what others still hold open stays open.

        No more than the pipe can hold: others may go on writing.
        """
        if self.closed:
            return
        try:
            left = fcntl.fcntl(self._fd, _F_GETPIPE_SZ)
        except OSError:
            left = _PIPE_BYTES
        size = 1
        while size and left > 0 and not self.closed:
            size = self._read()
            left -= size
        if size and not self.closed:
            # To see the end, when there is nothing more.
            self._read()

    def finish(self) -> None:
        """Take what is there, the unfinished last line too, and close."""
        self.drain()
        self._close()

    def _on_readable(self) -> None:
        begun_s = self._loop.time()
        size = self._read()
        now_s = self._loop.time()
        self._adapt(size, now_s - begun_s)
        busy = begun_s - self._read_at_s < _BUSY_S
        self._read_at_s = now_s
        if busy and 0 < size < _SMALL_BYTES and not self.closed and not self._paused:
            self._loop.remove_reader(self._fd)
            self._gathering = self._loop.call_later(_GATHER_S, self._on_gathered)

    def _on_gathered(self) -> None:
        self._gathering = None
        begun_s = self._loop.time()
        size = self._read()
        self._read_at_s = self._loop.time()
        self._adapt(size, self._read_at_s - begun_s)
        if self.closed or self._paused:
            return
        if 0 < size < _SMALL_BYTES:
            self._gathering = self._loop.call_later(_GATHER_S, self._on_gathered)
        else:
            self._loop.add_reader(self._fd, self._on_readable)

    def _adapt(self, size: int, took_s: float) -> None:
        if took_s > _LONG_TURN_S:
            self._chunk_bytes = max(_LEAST_BYTES, self._chunk_bytes // 2)
        elif size == self._chunk_bytes < MOST_BYTES and took_s < _LONG_TURN_S / 3:
            self._chunk_bytes *= 2

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _read(self) -> int:
        """Read once; return how much there was, and close at the end of the stream."""
        try:
            data = os.read(self._fd, self._chunk_bytes)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            data = b""
        if not data:
            self._close()
            return 0
        lines = self._splitter.feed(data)
        if lines:
            self._take(self.source, lines)
        return len(data)

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._stop_gathering()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        rest = self._splitter.flush()
        if rest:
            self._take(self.source, rest)
        self._on_closed(self)
