"""The running half of the hub: lines are masked, rendered, remembered and handed to the writer, once each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from supervisor.logs.history import SUPERVISOR
from supervisor.logs.pipes import Pipe
from supervisor.logs.render import Renderer, Source
from supervisor.logs.writer import Writer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from supervisor.logs.history import History
    from supervisor.logs.redact import Redactor

# How long children wait for a consumer that does not read (SUPERVISOR_LOG_OVERFLOW=block).
PATIENCE_S = 60.0
_OWN = Source(SUPERVISOR, "log")


class Output:
    """Lives on the loop's thread; only the writer has another."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        renderer: Renderer,
        redactor: Redactor,
        history: History,
        out_fd: int,
        overflow: str,
    ) -> None:
        self._loop = loop
        self._renderer = renderer
        self._redactor = redactor
        self._history = history
        self._blocks = overflow == "block"
        self._writer = Writer(out_fd, self._lost, self._resume_soon)
        self._pipes: set[Pipe] = set()
        self._held_since_s: float | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._impatient_since_s: float | None = None
        self._subscribers: list[Callable[[], None]] = []
        self._telling = False

    def read(self, process: str, stream: str, fd: int) -> Pipe:
        """Begin to read a pipe."""
        pipe = Pipe(self._loop, fd, Source(process, stream), self._redactor, self._take, self._pipes.discard)
        self._pipes.add(pipe)
        if self._held_since_s is not None:
            pipe.pause()
        return pipe

    def own(self, level: str, event: str, fields: dict[str, Any], at_s: float) -> None:
        """Log a record of the supervisor's."""
        out, plain = self._renderer.own(level, event, fields, at_s)
        self._emit(_OWN, self._redactor.mask(out), self._redactor.mask(plain), at_s, level)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when there is something new."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def close(self, timeout_s: float) -> None:
        """Write what is left."""
        self._writer.close(timeout_s)

    def _take(self, source: Source, lines: bytes) -> None:
        if self._redactor.touches(lines):
            lines = self._redactor.mask(lines)
        # The log tells the wall clock's time.
        now_s = time.time()  # noqa: TID251
        out, plain = self._renderer.lines(source, lines, now_s)
        self._emit(source, out, plain, now_s, None)

    def _emit(self, source: Source, out: bytes, plain: bytes, at_s: float, level: str | None) -> None:
        self._history.add(source, plain, at_s, level)
        if self._writer.put(out):
            self._overflow()
        if self._subscribers and not self._telling:
            self._telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        for subscriber in tuple(self._subscribers):
            subscriber()

    def _overflow(self) -> None:
        """The buffer is full: let the children wait, or forget the oldest lines."""
        if self._impatient_since_s is not None and self._writer.progressed_s > self._impatient_since_s:
            self._impatient_since_s = None
        if not self._blocks or self._impatient_since_s is not None or self._writer.overfull:
            self._writer.drop_oldest()
            return
        if self._held_since_s is None:
            self._held_since_s = time.monotonic()
            for pipe in tuple(self._pipes):
                pipe.pause()
            self._patience = self._loop.call_later(PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        held_since_s = self._held_since_s
        if held_since_s is None:
            return
        quiet_s = time.monotonic() - max(held_since_s, self._writer.progressed_s)
        if quiet_s < PATIENCE_S:
            self._patience = self._loop.call_later(PATIENCE_S - quiet_s, self._lose_patience)
            return
        self._impatient_since_s = time.monotonic()
        self._writer.drop_oldest()
        self._resume()

    def _resume_soon(self) -> None:
        """Resume, from the writer's thread."""
        self._loop.call_soon_threadsafe(self._resume)

    def _resume(self) -> None:
        self._held_since_s = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        for pipe in tuple(self._pipes):
            pipe.resume()

    def _lost(self, count: int) -> bytes:
        # The log tells the wall clock's time.
        now_s = time.time()  # noqa: TID251
        return self._renderer.own(
            "warning", "log lines lost", {"count": count, "why": "the log was not read"}, now_s
        ).out
