"""Where all output comes together: children's pipes and the supervisor's own records in, one log and a history out."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.logs.history import HISTORY_BYTES, SUPERVISOR, History

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.logs.output import Output
    from supervisor.logs.pipes import Pipe
    from supervisor.logs.redact import Redactor
    from supervisor.logs.render import Renderer
    from supervisor.logs.tally import Tally

PIPE_BYTES = 1024 * 1024
# fcntl(2); gVisor and old kernels may refuse it, and nothing rests on it.
_F_SETPIPE_SZ = 1031


class _Record(NamedTuple):
    level: str
    event: str
    fields: Mapping[str, Any]
    at_s: float
    shown: Mapping[str, str] | None = None


class LogHub:
    """Light until ``start``: before that, pipes and records are only remembered.

    ``overflow`` is block or drop (SUPERVISOR_LOG_OVERFLOW), ``noise`` limit or all (SUPERVISOR_LOG_NOISE);
    ``names`` are those to leave room for in the margin.
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
        noise: str = "limit",
    ) -> None:
        self.redactor = redactor
        self.history = History(redactor, history_lines, history_bytes)
        self._format = format
        self._color = color
        self._names = list(names)
        self._out_fd = out_fd
        self._overflow = overflow
        self._noise = noise
        self._waiting_pipes: list[tuple[str, str, int]] = []
        self._waiting_records: list[_Record] = []
        self._pipes: dict[str, list[Pipe]] = {}
        self._output: Output | None = None
        self._tally: Tally | None = None

    def attach(self, process: str, stream: str, fd: int) -> None:
        """Read a child's pipe from now on; ``fd`` is the hub's to close."""
        os.set_blocking(fd, False)
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
        from supervisor.logs.tally import Tally

        self._tally = tally = Tally()
        renderer = self._renderer()
        self._output = Output(
            loop, renderer, self.redactor, self.history, tally, self._out_fd, self._overflow, self._noise
        )
        records, self._waiting_records = self._waiting_records, []
        for record in records:
            self._output.own(*record)
        pipes, self._waiting_pipes = self._waiting_pipes, []
        for process, stream, fd in pipes:
            self.attach(process, stream, fd)

    def _renderer(self) -> Renderer:
        if self._format == "json":
            from supervisor.logs.jsonlines import JsonLines

            return JsonLines(self.redactor)
        from supervisor.logs.pretty import Pretty

        return Pretty(self._names, color=self._color)

    def record(self, level: str, event: str, /, **fields: Any) -> None:
        """Log something of our own; fields that are None are left out, ``child`` names whom it is about.

        Secrets in it are masked. To be called on the loop's thread.
        """
        self._put(level, event, fields, None)

    def reveal(self, level: str, event: str, shown: Mapping[str, str], /, **fields: Any) -> None:
        """Log something that the container's log shows and no history does: a login URL, a sign-in code."""
        self._put(level, event, fields, shown)

    def _put(self, level: str, event: str, fields: Mapping[str, Any], shown: Mapping[str, str] | None) -> None:
        known = {name: value for name, value in fields.items() if value is not None}
        # The log tells the wall clock's time.
        record = _Record(level, event, known, time.time(), shown)  # noqa: TID251
        if self._output is None:
            self._waiting_records.append(record)
        else:
            self._output.own(*record)

    def counted(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return how many lines and bytes there were so far, by process and level."""
        cells = {} if self._tally is None else self._tally.cells
        return {key: (lines, size) for key, (lines, size) in cells.items()}

    @property
    def dropped(self) -> int:
        """Return how many lines were dropped for a consumer that did not read."""
        return 0 if self._output is None else self._output.dropped

    @property
    def held_back(self) -> int:
        """Return how many lines of tailscaled's noise were held back."""
        return 0 if self._output is None else self._output.held_back

    def drain(self, process: str) -> None:
        """Take what a process that has ended left in its pipes; a pipe that others still hold stays open."""
        for pipe in self._pipes.get(process, ()):
            pipe.drain()
        if self._output is not None:
            self._output.ended(process)

    def pipes_of(self, process: str) -> list[int]:
        """Return the inodes of a process's pipes that somebody still may write to."""
        return [pipe.inode for pipe in self._pipes.get(process, ()) if not pipe.closed]

    def tail(self, process: str, count: int, since: int = 0) -> tuple[str, ...]:
        """Return the last lines of a process, of those numbered ``since`` or later."""
        return self.history.tail(process, count, since)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback``, at most once a turn of the loop, when the history has grown; return what ends that."""
        if self._output is None:
            raise RuntimeError("cannot subscribe before the log was started")
        return self._output.subscribe(callback)

    def hurry(self) -> None:
        """Say that everything is about to stop: no child is to wait for the log any more."""
        if self._output is not None:
            self._output.hurry()

    def close(self, timeout_s: float = 0.5) -> None:
        """Take what is still in the pipes, and write for at most so long."""
        if self._output is None:
            return
        for pipes in self._pipes.values():
            for pipe in pipes:
                pipe.finish()
        self._output.close(timeout_s)


__all__ = ["SUPERVISOR", "LogHub"]
