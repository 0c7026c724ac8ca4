"""Reads the pipe of a child in bounded amounts, so that other work is not delayed."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from supervisor.characters import is_utf8
from supervisor.logs.lines import TAILSCALED, LineSplitter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from supervisor.logs.lines import Source
    from supervisor.logs.redact import Redactor

_MOST_BYTES = 64 * 1024
# Also the most per turn of bytes that are not UTF-8, which cost twenty times as much as text.
_LEAST_BYTES = 16 * 1024
# For all pipes. os.read allocates all that it may read and cuts that short: the history keeps what it returns, and the
# heap grows for hours, as what lies between cannot be used for other reads.
_buffer = memoryview(bytearray(_MOST_BYTES))
# Lines per turn: many short lines cost most.
_MOST_LINES = 2048
# Longest turn of the loop for a stream: lines that are expensive to process are read in smaller chunks.
_LONG_TURN_S = 0.001
# A child that writes single lines would cause one wake-up per line, so reading waits for a few lines.
_SMALL_BYTES = 16 * 1024
_GATHER_S = 0.002
_BUSY_S = 0.02
_LISTEN_AGAIN_S = 0.25
# The capacity to assume if the kernel does not report it.
_PIPE_BYTES = 1024 * 1024


class Pipe:
    """An open pipe. ``take`` receives whole lines and their number; the log pauses and resumes it when it is full."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        source: Source,
        redactor: Redactor,
        take: Callable[[Source, bytes, int], None],
    ) -> None:
        self.source = source
        self.closed = False
        self._loop = loop
        self._fd = fd
        self._take = take
        self._splitter = LineSplitter(redactor, daemon=source.process == TAILSCALED)
        # It grows with the first reads: how expensive the lines are is not known yet.
        self._chunk_bytes = _LEAST_BYTES
        # Whole lines that were read and wait for the next turn.
        self._left = b""
        self._paused = False
        self._gathering: asyncio.TimerHandle | None = None
        self._read_at_s = 0.0
        self._listen()

    def _listen(self) -> None:
        """Watch the pipe with the event loop; if the kernel has no memory for that, try again later."""
        try:
            self._loop.add_reader(self._fd, self._on_readable)
        except OSError:
            self._gathering = self._loop.call_later(_LISTEN_AGAIN_S, self._on_gathered)

    @property
    def inode(self) -> int:
        """The inode number that /proc shows for it; valid only while it is open."""
        return os.fstat(self._fd).st_ino

    def pause(self) -> None:
        """Stop reading, so that the child blocks once its pipe is full."""
        if not self._paused and not self.closed:
            self._paused = True
            self._stop_gathering()
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Continue reading."""
        if self._paused and not self.closed:
            self._paused = False
            self._listen()
            self._go_on()

    def drain(self) -> None:
        """Read the current content despite a pause; a pipe that other processes hold open stays open.

        It reads at most the capacity of the pipe, since others may keep writing.
        """
        if self.closed:
            return
        most = capacity_of(self._fd)
        size = 1
        while (self._left or (size and most > 0)) and not self.closed:
            was_left = bool(self._left)
            taken = self._read()
            if not was_left:
                size = taken
                most -= taken
        if size and not self.closed:
            # One more read detects the end of the stream.
            self._read()
        self._go_on()

    def finish(self) -> None:
        """Take the remaining content, including an incomplete last line, and close."""
        self.drain()
        self._close()

    def _on_readable(self) -> None:
        if self._paused or self.closed or self._gathering is not None:
            return
        last_s = self._read_at_s
        size, begun_s = self._read_in_turn()
        self._go_on()
        if begun_s - last_s < _BUSY_S and 0 < size < _SMALL_BYTES and not (self.closed or self._paused or self._left):
            self._loop.remove_reader(self._fd)
            self._gathering = self._loop.call_later(_GATHER_S, self._on_gathered)

    def _on_gathered(self) -> None:
        self._gathering = None
        size, _ = self._read_in_turn()
        if self.closed or self._paused:
            return
        if 0 < size < _SMALL_BYTES and not self._left:
            self._gathering = self._loop.call_later(_GATHER_S, self._on_gathered)
        else:
            self._listen()
            self._go_on()

    def _go_on(self) -> None:
        """Schedule the processing of remaining lines, since no other event may follow."""
        if self._left:
            self._loop.call_soon(self._on_readable)

    def _read_in_turn(self) -> tuple[int, float]:
        """Read once and adapt the amount to the time it took; return the number of bytes, and the start time."""
        begun_s = self._loop.time()
        size = self._read()
        self._read_at_s = self._loop.time()
        self._adapt(size, self._read_at_s - begun_s)
        return size, begun_s

    def _adapt(self, size: int, took_s: float) -> None:
        if took_s > _LONG_TURN_S:
            while took_s > _LONG_TURN_S and self._chunk_bytes > _LEAST_BYTES:
                self._chunk_bytes //= 2
                took_s /= 2
        elif size == self._chunk_bytes < _MOST_BYTES and took_s < _LONG_TURN_S / 3:
            self._chunk_bytes *= 2

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _read(self) -> int:
        """Take remaining lines, or read once; return the number of bytes, and close at the end of the stream."""
        lines = self._left
        size = len(lines)
        if not lines:
            try:
                size = os.readv(self._fd, [_buffer[: self._chunk_bytes]])
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError:
                size = 0
            if not size:
                self._close()
                return 0
            lines = self._splitter.feed(bytes(_buffer[:size]))
        end, count = _first_turn(lines)
        lines, self._left = lines[:end], lines[end:]
        if lines:
            self._take(self.source, lines, count)
        return size

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._stop_gathering()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        rest = self._left + self._splitter.flush()
        if rest:
            self._take(self.source, rest, rest.count(b"\n"))


def capacity_of(fd: int) -> int:
    """Return how many bytes a pipe can hold."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _PIPE_BYTES


def _first_turn(lines: bytes) -> tuple[int, int]:
    """Return the size and number of the first lines, which are processed in one turn."""
    size, count = len(lines), lines.count(b"\n")
    if count > _MOST_LINES:
        size -= len(lines.split(b"\n", _MOST_LINES)[-1])
        count = _MOST_LINES
    if size > _LEAST_BYTES and not is_utf8(lines):
        end = lines.find(b"\n", _LEAST_BYTES) + 1
        if 0 < end < size:
            return end, lines.count(b"\n", 0, end)
    return size, count
