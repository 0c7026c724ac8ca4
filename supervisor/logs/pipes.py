"""Reads one child's pipe: as much at a time as there is, but never so much that others have to wait."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.logs.lines import Splitter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from supervisor.logs.redact import Redactor
    from supervisor.logs.render import Source

CHUNK_BYTES = 256 * 1024
# A child that writes line by line costs one wake a line, unless a few lines are left to gather.
_SMALL_BYTES = 16 * 1024
_GATHER_S = 0.002
_BUSY_S = 0.02
_MOST_DRAINED_BYTES = 16 * 1024 * 1024


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
        self._splitter = Splitter(redactor)
        self._paused = False
        self._gathering: asyncio.TimerHandle | None = None
        self._read_at_s = 0.0
        loop.add_reader(fd, self._on_readable)

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
        """Read what is there, in spite of a pause; what others still hold open stays open."""
        taken = 0
        while not self.closed and taken < _MOST_DRAINED_BYTES:
            size = self._read()
            if not size:
                return
            taken += size

    def finish(self) -> None:
        """Take what is there, the unfinished last line too, and close."""
        self.drain()
        self._close()

    def _on_readable(self) -> None:
        size = self._read()
        now_s = self._loop.time()
        busy = now_s - self._read_at_s < _BUSY_S
        self._read_at_s = now_s
        if busy and 0 < size < _SMALL_BYTES and not self.closed and not self._paused:
            self._loop.remove_reader(self._fd)
            self._gathering = self._loop.call_later(_GATHER_S, self._on_gathered)

    def _on_gathered(self) -> None:
        self._gathering = None
        size = self._read()
        self._read_at_s = self._loop.time()
        if self.closed or self._paused:
            return
        if 0 < size < _SMALL_BYTES:
            self._gathering = self._loop.call_later(_GATHER_S, self._on_gathered)
        else:
            self._loop.add_reader(self._fd, self._on_readable)

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _read(self) -> int:
        """Read once; return how much there was, and close at the end of the stream."""
        try:
            data = os.read(self._fd, CHUNK_BYTES)
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
