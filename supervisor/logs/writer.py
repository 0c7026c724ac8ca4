"""Writes the merged log in its own thread, so that a consumer that does not read delays only the log."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUFFER_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
# The capacity of a pipe: a write of this size returns, and counts as progress, once that much was read.
_WRITE_BYTES = 64 * 1024
_WAIT_FOR_ROOM_S = 0.5
_RETRY_S = 1.0
# Limit of lines kept for the next reader of a pipe without one.
UNREAD_BYTES = 1024 * 1024
_LOOK_FOR_READER_S = 0.25
_PUMP_AGAIN_S = 0.05
_GONE = frozenset({errno.EPIPE, errno.EBADF, errno.EINVAL, errno.ENXIO})


class Writer:
    """Writes whole lines in order; never blocks the caller, even if no thread can be started.

    ``notice`` renders the line that reports the number of dropped lines. ``on_room`` is called on the thread when a
    full buffer is half empty. ``dropped`` counts lines since the start; ``unread`` is whether the log is a pipe without
    a reader.
    """

    def __init__(self, fd: int, notice: Callable[[int], bytes], on_room: Callable[[], None]) -> None:
        self._fd = fd
        self._notice = notice
        self._on_room = on_room
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._dropped_lines = 0
        self.dropped = 0
        self._full = False
        self._gone = False
        self.unread = False
        # How often the search for a reader failed.
        self.tries = 0
        self._is_pipe = _is_pipe(fd)
        self._closing = False
        self._condition = threading.Condition()
        self.progressed_s = time.monotonic()
        self._rest = memoryview(b"")
        self._pumping: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="log-writer", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            # At the limit of processes no thread can be started.
            self._thread = None

    def put(self, lines: bytes) -> bool:
        """Add lines; return whether the buffer is full."""
        with self._condition:
            if self._gone:
                self.dropped += lines.count(b"\n")
                return False
            self._queue.append(lines)
            self._bytes += len(lines)
            full = self._bytes >= self._most_bytes
            self._full = self._full or full
            self._condition.notify()
        if self._thread is None:
            self._pump()
        return full

    @property
    def _most_bytes(self) -> int:
        return UNREAD_BYTES if self.unread else BUFFER_BYTES

    @property
    def overfull(self) -> bool:
        """Whether the buffer has twice its size, due to lines that cannot wait, such as the last ones of a child."""
        return self._bytes >= 2 * BUFFER_BYTES

    def drop_oldest(self) -> None:
        """Drop and count the oldest lines until the buffer has room."""
        with self._condition:
            while self._queue and self._bytes >= self._most_bytes:
                gone = self._queue.popleft()
                self._bytes -= len(gone)
                lines = gone.count(b"\n")
                self._dropped_lines += lines
                self.dropped += lines

    def close(self, timeout_s: float) -> None:
        """Write what is buffered, for up to ``timeout_s``."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return
        deadline_s = time.monotonic() + timeout_s
        while self._pump() and time.monotonic() < deadline_s:
            select.select([], [self._fd], [], _PUMP_AGAIN_S)

    def _pump(self) -> bool:
        """Replace the thread: write what is accepted immediately, and try again soon; return whether more is left."""
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        while self._rest or self._queue or self._dropped_lines:
            self._rest = self._rest or memoryview(self._next() or b"")
            try:
                # A pipe that is writable accepts this much without blocking (pipe(7)).
                if not select.select([], [self._fd], [], 0)[1]:
                    break
                self._rest = self._rest[os.write(self._fd, self._rest[: select.PIPE_BUF]) :]
                self.progressed_s = time.monotonic()
                self.unread = False
            except OSError as error:
                if error.errno in _GONE and not (error.errno == errno.EPIPE and self._is_pipe):
                    rest, self._rest = self._rest, memoryview(b"")
                    self._give_up(rest)
                break
        more = bool(self._rest or self._queue or self._dropped_lines)
        if more and not self._closing:
            self._pumping = asyncio.get_running_loop().call_later(_PUMP_AGAIN_S, self._pump)
        return more

    def _run(self) -> None:
        while True:
            piece = self._next()
            if piece is None:
                return
            self._write(piece)

    def _next(self) -> bytes | None:
        with self._condition:
            while not self._queue and not self._dropped_lines:
                if self._closing:
                    return None
                self._condition.wait()
            if self._dropped_lines:
                dropped, self._dropped_lines = self._dropped_lines, 0
                return self._notice(dropped)
            taken = [self._queue.popleft()]
            size = len(taken[0])
            while self._queue and size + len(self._queue[0]) <= _PIECE_BYTES:
                taken.append(self._queue.popleft())
                size += len(taken[-1])
            self._bytes -= size
            room = self._full and self._bytes <= BUFFER_BYTES // 2
            self._full = self._full and not room
        if room:
            self._on_room()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _write(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            try:
                view = view[os.write(self._fd, view[:_WRITE_BYTES]) :]
                self.progressed_s = time.monotonic()
                self.unread = False
            except BlockingIOError:
                # Another process made the shared descriptor non-blocking.
                select.select([], [self._fd], [], _WAIT_FOR_ROOM_S)
            except OSError as error:
                if error.errno == errno.EPIPE and self._is_pipe:
                    # The content is for the next reader, which continues where the last one stopped.
                    if not self._wait_for_reader():
                        return
                    continue
                if error.errno in _GONE:
                    self._give_up(view)
                    return
                if self._closing:
                    return
                # The disk may be full, and have room later.
                time.sleep(_RETRY_S)

    def _wait_for_reader(self) -> bool:
        """Wait a moment, during which no caller is blocked; return whether to try again."""
        with self._condition:
            was_full, self._full, self.unread = self._full, False, True
            self.tries += 1
        if was_full:
            self._on_room()
        with self._condition:
            return not (self._closing or self._condition.wait_for(lambda: self._closing, _LOOK_FOR_READER_S))

    def _give_up(self, rest: memoryview) -> None:
        """Discard and count everything from now on, ``rest`` first: the log will never be read."""
        with self._condition:
            self._gone = True
            self.dropped += sum(lines.count(b"\n") for lines in (bytes(rest), *self._queue))
            self._queue.clear()
            self._bytes = 0
            self._dropped_lines = 0
            was_full, self._full = self._full, False
        if was_full:
            self._on_room()


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
