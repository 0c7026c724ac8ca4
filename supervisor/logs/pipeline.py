"""Merges all output: reads children's pipes and the supervisor's records, writes one log and a history.

Each line is masked, sanitized, and given its level and number here, once; all readers use the result.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.logs.history import HISTORY_BYTES, History
from supervisor.logs.lines import SUPERVISOR, TAILSCALED, Source
from supervisor.logs.redact import MASK
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.logs.format import Format
    from supervisor.logs.parse import Batch
    from supervisor.logs.pipe import Pipe
    from supervisor.logs.redact import Redactor
    from supervisor.logs.tailscaled import NoiseLimit
    from supervisor.logs.writer import Writer

# What an exited process left in it is processed in one turn of the loop, which bounds it.
PIPE_BYTES = 256 * 1024
# How long children are blocked if the log is not read (SUPERVISOR_LOG_OVERFLOW=block).
PATIENCE_S = 60.0
STOP_PATIENCE_S = 0.5
_LOAD_AGAIN_S = 0.25
_OWN = Source(SUPERVISOR, "log")


class _Record(NamedTuple):
    """One of the supervisor's records; ``shown`` are secrets that only the log shows, not the history."""

    level: str
    event: str
    fields: Mapping[str, Any]
    shown: Mapping[str, str]
    at_s: float


class LogPipeline:
    """The merged log. Before ``start`` pipes and records are queued. Used on the loop's thread only.

    ``overflow`` is block or drop (SUPERVISOR_LOG_OVERFLOW), ``noise`` limit or all (SUPERVISOR_LOG_NOISE); the margin
    is as wide as the longest of ``names``.
    """

    # Created by ``start``, because they import what the first child must not wait for.
    _loop: asyncio.AbstractEventLoop
    _format: Format
    _writer: Writer

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
        self.counter = LineCounter()
        self._make_format: Callable[[], Format] = _json if format == "json" else lambda: _pretty(names, color=color)
        self._out_fd = out_fd
        self._blocks = overflow == "block"
        self._patience_s = PATIENCE_S
        self._limits_noise = noise == "limit"
        self._noise: NoiseLimit | None = None
        self._noise_timer: asyncio.TimerHandle | None = None
        self._started = False
        self._waiting_records: list[_Record] = []
        self._waiting_pipes: list[tuple[Source, int]] = []
        self._pipes: dict[str, list[Pipe]] = {}
        self._held_since_s: float | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._impatient_since_s: float | None = None
        self._subscribers: list[Callable[[], None]] = []
        self._notifying = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start reading and writing, with what is queued first."""
        # Imported late to keep it out of the first child's start.
        from supervisor.logs.writer import Writer

        self._loop = loop
        self._format = self._make_format()
        self._writer = Writer(self._out_fd, self._lost, self._resume_soon)
        self._started = True
        records, self._waiting_records = self._waiting_records, []
        pipes, self._waiting_pipes = self._waiting_pipes, []
        for record in records:
            self._put(record)
        for source, pipe_fd in pipes:
            self._read(source, pipe_fd)
        # Before the loop reads anything, but after all that the start itself needs.
        loop.call_soon(self._load)

    def _load(self) -> None:
        """Load what lines need: when they come there may be no descriptor left to load it with."""
        from importlib import import_module

        try:
            for name in ("sanitize", "parse", "json_record"):
                import_module(f"supervisor.logs.{name}")
        except OSError:
            self._loop.call_later(_LOAD_AGAIN_S, self._load)

    def attach(self, process: str, stream: str, fd: int) -> None:
        """Read a child's pipe from now on; takes ownership of ``fd``."""
        os.set_blocking(fd, False)
        # gVisor and old kernels may refuse it, which is harmless.
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        if self._started:
            self._read(Source(process, stream), fd)
        else:
            self._waiting_pipes.append((Source(process, stream), fd))

    def record(self, level: str, event: str, /, **fields: Any) -> None:
        """Log a record of the supervisor; fields that are None are omitted, ``child`` is the process it is about.

        Secrets are masked. Call it on the loop's thread.
        """
        self._record(level, event, fields, {})

    def log_unredacted(self, level: str, event: str, shown: Mapping[str, str], /, **fields: Any) -> None:
        """Log a record with values that only the container's log shows: a login URL, a sign-in code."""
        self._record(level, event, fields, shown)

    def _record(self, level: str, event: str, fields: Mapping[str, Any], shown: Mapping[str, str]) -> None:
        known = {name: value for name, value in fields.items() if value is not None}
        # Log records have wall-clock times.
        record = _Record(level, event, known, shown, time.time())  # noqa: TID251
        if self._started:
            self._put(record)
        else:
            self._waiting_records.append(record)

    def counted(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return the number of lines and bytes since the start, by process and level."""
        return {key: (lines, size) for key, (lines, size) in self.counter.cells.items()}

    @property
    def dropped(self) -> int:
        """The number of lines dropped because the log was not read."""
        return self._writer.dropped

    @property
    def held_back(self) -> int:
        """The number of tailscaled's noise lines that were held back."""
        return 0 if self._noise is None else self._noise.total

    def drain(self, process: str) -> None:
        """Take what an exited process left in its pipes; a pipe that other processes hold open stays open."""
        for pipe in self._pipes.get(process, ()):
            pipe.drain()
        if process == TAILSCALED:
            self._tell_noise()

    def pipes_of(self, process: str) -> list[int]:
        """Return the inodes of a process's pipes that are still open for writing."""
        return [pipe.inode for pipe in self._pipes.get(process, ()) if not pipe.closed]

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when the history has grown, at most once per turn of the loop; return its unsubscriber."""
        self._subscribers.append(callback)

        def end() -> None:
            with suppress(ValueError):
                self._subscribers.remove(callback)

        return end

    def stop_waiting(self) -> None:
        """Stop blocking children for the log: the supervisor is stopping."""
        self._patience_s = STOP_PATIENCE_S
        if self._patience is not None:
            self._patience.cancel()
            self._lose_patience()

    def close(self, timeout_s: float = 0.5) -> bool:
        """Take what is left in the pipes, and write for up to ``timeout_s``; False where it never began to write."""
        if not self._started:
            return False
        for pipes in self._pipes.values():
            for pipe in pipes:
                pipe.finish()
        self._tell_noise()
        self._writer.close(timeout_s)
        return True

    def _read(self, source: Source, fd: int) -> None:
        from supervisor.logs.pipe import Pipe

        pipe = Pipe(self._loop, fd, source, self.redactor, self._take)
        self._pipes[source.process] = [*(pipe for pipe in self._pipes.get(source.process, ()) if not pipe.closed), pipe]
        if self._held_since_s is not None:
            pipe.pause()

    def _take(self, source: Source, lines: bytes, count: int) -> None:
        """Process ``count`` whole lines of a child: mask, sanitize, determine levels, number, and distribute them."""
        # Imported with the first lines.
        from supervisor.logs.parse import parse_batch
        from supervisor.logs.sanitize import sanitize, without_colors

        daemon = source.process == TAILSCALED
        if b"\r" in lines:
            lines = lines.replace(b"\r\n", b"\n")
        text = without_colors(lines)
        if text is None or self.redactor.touches(text, daemon=daemon):
            text, lines = sanitize(self.redactor.mask(lines, daemon=daemon))
            # What got too long is several lines now.
            count = text.count(b"\n")
        batch = parse_batch(source, text, lines, count, records=self._format.records)
        # Log records have wall-clock times.
        now_s = time.time()  # noqa: TID251
        self.history.add(source, lines, batch.lines, now_s, batch.levels)
        self.counter.add(source.process, text, batch.lines, batch.levels)
        shown = self._without_noise(batch) if batch.daemon and self._limits_noise else batch
        self._hand_out(self._format.lines(shown, now_s) if shown.lines else b"")

    def _put(self, record: _Record) -> None:
        """Process a record of the supervisor."""
        from supervisor.logs.format import event_line, shortened

        level, event, fields, shown, at_s = record
        event, fields = shortened(*self._masked(event, fields))
        text = event_line(event, {**fields, **dict.fromkeys(shown, MASK.decode())})
        # More than one if it has very many fields.
        lines = text.count(b"\n")
        levels = {} if level == "info" else dict.fromkeys(range(lines), level)
        self.history.add(_OWN, text, lines, at_s, levels)
        self.counter.add(SUPERVISOR, text, lines, levels)
        self._hand_out(self._format.event(level, event, {**fields, **shown}, at_s))

    def _masked(self, event: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return a record as JSON has it, with secrets masked."""
        texts = [event.encode(errors="surrogateescape")]

        def collect(text: bytes) -> bytes:
            texts.append(text)
            return text

        plain = {key: _plain(value, collect) for key, value in fields.items()}
        # Most records have no secret, and each search has its price.
        if self.redactor.is_free_of_secrets(texts):
            return event, plain
        return self.redactor.mask_text(event), {key: _plain(value, self.redactor.mask) for key, value in fields.items()}

    def _without_noise(self, batch: Batch) -> Batch:
        """Return the lines that the log shows; the history has all of them."""
        if self._noise is None:
            # Imported only if there is a tailscaled.
            from supervisor.logs.tailscaled import NoiseLimit

            self._noise = NoiseLimit()
        passing = self._noise.passing(batch.daemon, self._loop.time())
        if self._noise_timer is None and self._noise.due_s is not None:
            self._noise_timer = self._loop.call_at(self._noise.due_s, self._tell_noise)
        return batch if len(passing) == batch.lines else batch.only(passing)

    def _tell_noise(self) -> None:
        if self._noise_timer is not None:
            self._noise_timer.cancel()
            self._noise_timer = None
        held = None if self._noise is None else self._noise.report()
        if held is not None:
            kinds = [f"{kind}:{count}" for kind, count in held.kinds.items()]
            where = f"moltis-supervisor logs --process {TAILSCALED}"
            self.record("info", "log lines held back", child=TAILSCALED, count=held.lines, kinds=kinds, shown_by=where)

    def _hand_out(self, out: bytes) -> None:
        if out and self._writer.put(out):
            self._overflow()
        if self._subscribers and not self._notifying:
            self._notifying = True
            self._loop.call_soon(self._notify)

    def _notify(self) -> None:
        self._notifying = False
        for subscriber in tuple(self._subscribers):
            subscriber()

    def _overflow(self) -> None:
        """Block the children because the buffer is full, or drop the oldest lines."""
        writer = self._writer
        if self._impatient_since_s is not None and writer.progressed_s > self._impatient_since_s:
            self._impatient_since_s = None
        if not self._blocks or self._impatient_since_s is not None or writer.unread or writer.overfull:
            writer.drop_oldest()
            return
        if self._held_since_s is None:
            self._held_since_s = time.monotonic()
            self._each_pipe(lambda pipe: pipe.pause())
            self._patience = self._loop.call_later(self._patience_s, self._lose_patience)

    def _lose_patience(self) -> None:
        held_since_s = self._held_since_s
        if held_since_s is None:
            return
        quiet_s = time.monotonic() - max(held_since_s, self._writer.progressed_s)
        if quiet_s < self._patience_s:
            self._patience = self._loop.call_later(self._patience_s - quiet_s, self._lose_patience)
            return
        self._impatient_since_s = time.monotonic()
        self._writer.drop_oldest()
        self._resume()

    def _resume_soon(self) -> None:
        """Resume reading; called on the writer's thread."""
        # The loop may have closed before the thread ended.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resume)

    def _resume(self) -> None:
        self._held_since_s = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._each_pipe(lambda pipe: pipe.resume())

    def _each_pipe(self, do: Callable[[Pipe], None]) -> None:
        for pipes in tuple(self._pipes.values()):
            for pipe in pipes:
                do(pipe)

    def _lost(self, count: int) -> bytes:
        # Log records have wall-clock times.
        now_s = time.time()  # noqa: TID251
        return self._format.event("warning", "log lines lost", {"count": count, "why": "the log was not read"}, now_s)


class LineCounter:
    """Counts log lines; ``cells`` has the number of lines and bytes by process and level."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], list[int]] = {}

    def add(self, process: str, text: bytes, lines: int, levels: Mapping[int, str]) -> None:
        """Count whole lines; ``levels`` has the levels other than info by the index of the line."""
        size = len(text)
        texts = text.split(b"\n") if levels else []
        for place, level in levels.items():
            line_bytes = len(texts[place]) + 1
            self._count(process, level, 1, line_bytes)
            lines -= 1
            size -= line_bytes
        if lines:
            self._count(process, "info", lines, size)

    def _count(self, process: str, level: str, lines: int, size: int) -> None:
        cell = self.cells.get((process, level))
        if cell is None:
            cell = self.cells[process, level] = [0, 0]
        cell[0] += lines
        cell[1] += size


def _plain(value: object, mask: Callable[[bytes], bytes]) -> object:
    """Return the value of a field as JSON has it, with its texts passed through ``mask``."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part, mask) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part, mask) for key, part in value.items()}
    return mask(str(value).encode(errors="backslashreplace")).decode(errors="backslashreplace")


def _json() -> Format:
    from supervisor.logs.json_format import JsonFormat

    return JsonFormat()


def _pretty(names: Iterable[str], *, color: bool) -> Format:
    from supervisor.logs.format import Pretty

    return Pretty(names, color=color)
