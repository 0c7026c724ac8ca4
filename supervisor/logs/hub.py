"""Where all output comes together: children's pipes and the supervisor's own records in, one log and a history out."""

from __future__ import annotations

import fcntl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.logs.history import HISTORY_BYTES, SUPERVISOR, History

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from supervisor.logs.output import Output
    from supervisor.logs.pipes import Pipe
    from supervisor.logs.redact import Redactor

PIPE_BYTES = 1024 * 1024
# fcntl(2); gVisor and old kernels may refuse it, and nothing rests on it.
_F_SETPIPE_SZ = 1031


class LogHub:
    """Light until ``start``: before that, pipes and records are only remembered.

    ``overflow`` is block or drop (SUPERVISOR_LOG_OVERFLOW); ``names`` are those to leave room for in the margin.
    """

    def __init__(
        self,
        *,
        format: str,  # noqa: A002 - the setting's own word
        color: bool,
        redactor: Redactor,
        history_lines: int,
        names: Iterable[str],
        history_bytes: int = HISTORY_BYTES,
        out_fd: int = 1,
        overflow: str = "block",
    ) -> None:
        self.redactor = redactor
        self.history = History(redactor, history_lines, history_bytes)
        self._format = format
        self._color = color
        self._names = list(names)
        self._out_fd = out_fd
        self._overflow = overflow
        self._waiting_pipes: list[tuple[str, str, int]] = []
        self._waiting_records: list[tuple[float, str, str, dict[str, Any]]] = []
        self._pipes: dict[str, list[Pipe]] = {}
        self._output: Output | None = None

    def attach(self, process: str, stream: str, fd: int) -> None:
        """Read a child's pipe from now on; ``fd`` is the hub's to close."""
        with suppress(OSError):
            fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_BYTES)
        if self._output is None:
            self._waiting_pipes.append((process, stream, fd))
            return
        pipes = [pipe for pipe in self._pipes.get(process, ()) if not pipe.closed]
        self._pipes[process] = [*pipes, self._output.read(process, stream, fd)]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read and write; everything remembered comes first, in order."""
        # Loaded now: what renders lines is no business of the first child's start.
        from supervisor.logs.output import Output
        from supervisor.logs.render import Json, Pretty

        renderer = Json(self.redactor) if self._format == "json" else Pretty(self._names, color=self._color)
        self._output = Output(loop, renderer, self.redactor, self.history, self._out_fd, self._overflow)
        records, self._waiting_records = self._waiting_records, []
        for at_s, level, event, fields in records:
            self._output.own(level, event, fields, at_s)
        pipes, self._waiting_pipes = self._waiting_pipes, []
        for process, stream, fd in pipes:
            self.attach(process, stream, fd)

    def record(self, level: str, event: str, **fields: Any) -> None:
        """Log something of our own; fields that are None are left out, ``child`` names whom it is about."""
        known = {name: value for name, value in fields.items() if value is not None}
        # The log tells the wall clock's time.
        now_s = time.time()  # noqa: TID251
        if self._output is None:
            self._waiting_records.append((now_s, level, event, known))
        else:
            self._output.own(level, event, known, now_s)

    def drain(self, process: str) -> None:
        """Take what a process that has ended left in its pipes; a pipe that others still hold stays open."""
        for pipe in self._pipes.get(process, ()):
            pipe.drain()

    def tail(self, process: str, count: int, since: int = 0) -> tuple[str, ...]:
        """Return the last lines of a process, of those numbered ``since`` or later."""
        return self.history.tail(process, count, since)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback``, at most once a turn of the loop, when the history has grown; return what ends that."""
        if self._output is None:
            raise RuntimeError("cannot subscribe before the log was started")
        return self._output.subscribe(callback)

    def close(self, timeout_s: float = 0.5) -> None:
        """Take what is still in the pipes, and write for at most so long."""
        if self._output is None:
            return
        for pipes in self._pipes.values():
            for pipe in pipes:
                pipe.finish()
        self._output.close(timeout_s)


__all__ = ["SUPERVISOR", "LogHub"]
