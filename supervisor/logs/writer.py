"""Writes the merged log from a thread of its own: a consumer that does not read holds up nothing but the log."""

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
# What a pipe takes at once: a write returns, and counts as progress, when so much was read.
_WRITE_BYTES = 64 * 1024
_WAIT_FOR_ROOM_S = 0.5
_RETRY_S = 1.0
# While a pipe has no reader its newest lines wait, no more than this, for one to come.
UNREAD_BYTES = 1024 * 1024
_LOOK_FOR_READER_S = 0.25
_PUMP_AGAIN_S = 0.05
_GONE = frozenset({errno.EPIPE, errno.EBADF, errno.EINVAL, errno.ENXIO})


class Writer:
    """Takes whole lines and writes them in order; never blocks whoever hands them over, also where it has no thread.

    ``notice`` renders the line that says how many were dropped. ``on_room`` is called from the thread when a full
    buffer has emptied to half. ``dropped`` counts lines since the start; ``unread`` is a pipe that nobody reads.
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
        # How often a reader was looked for in vain.
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
            # At the limit of processes there is no thread to be had.
            self._thread = None

    def put(self, lines: bytes) -> bool:
        """Take lines; tell whether the buffer is full now."""
        with self._condition:
            if self._gone:
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
        """Whether what may not wait, such as a dead child's last lines, has filled the buffer twice over."""
        return self._bytes >= 2 * BUFFER_BYTES

    def drop_oldest(self) -> None:
        """Forget the oldest lines until the buffer has room; they are counted."""
        with self._condition:
            while self._queue and self._bytes >= self._most_bytes:
                gone = self._queue.popleft()
                self._bytes -= len(gone)
                lines = gone.count(b"\n")
                self._dropped_lines += lines
                self.dropped += lines

    def close(self, timeout_s: float) -> None:
        """Write what is there, for at most so long."""
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
        """Stand in for a thread: write what is taken at once, and look again soon; tell whether there is more."""
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        while self._rest or self._queue or self._dropped_lines:
            self._rest = self._rest or memoryview(self._next() or b"")
            try:
                # So much a pipe takes without a wait where it takes anything (pipe(7)).
                if not select.select([], [self._fd], [], 0)[1]:
                    break
                self._rest = self._rest[os.write(self._fd, self._rest[: select.PIPE_BUF]) :]
                self.progressed_s = time.monotonic()
                self.unread = False
            except OSError as error:
                if error.errno in _GONE and not (error.errno == errno.EPIPE and self._is_pipe):
                    self._rest = memoryview(b"")
                    self._give_up()
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
                # Someone made the shared descriptor non-blocking.
                select.select([], [self._fd], [], _WAIT_FOR_ROOM_S)
            except OSError as error:
                if error.errno == errno.EPIPE and self._is_pipe:
                    # What it holds is its next reader's, who goes on where the last one left.
                    if not self._wait_for_reader():
                        return
                    continue
                if error.errno in _GONE:
                    self._give_up()
                    return
                if self._closing:
                    return
                # A full disk, perhaps: it may have room again.
                time.sleep(_RETRY_S)

    def _wait_for_reader(self) -> bool:
        """Let a moment pass in which nobody has to wait; tell whether to try again."""
        with self._condition:
            was_full, self._full, self.unread = self._full, False, True
            self.tries += 1
        if was_full:
            self._on_room()
        with self._condition:
            return not (self._closing or self._condition.wait_for(lambda: self._closing, _LOOK_FOR_READER_S))

    def _give_up(self) -> None:
        """Nobody will ever read it: take everything and keep nothing."""
        with self._condition:
            self._gone = True
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
