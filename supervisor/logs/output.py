"""The running half of the hub: lines are masked, rendered, remembered and handed to the writer, once each."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.logs.clean import clean, is_clean
from supervisor.logs.levels import TAILSCALED
from supervisor.logs.lines import LONGEST_BYTES, all_within, wrapped
from supervisor.logs.pipes import Pipe
from supervisor.logs.redact import MASK
from supervisor.logs.render import SUPERVISOR, Renderer, Source, plain_line, shortened, words
from supervisor.logs.writer import Writer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from supervisor.logs.history import History
    from supervisor.logs.noise import NoiseLimit
    from supervisor.logs.redact import Redactor
    from supervisor.logs.tally import Tally

# How long children wait for a consumer that does not read (SUPERVISOR_LOG_OVERFLOW=block).
PATIENCE_S = 60.0
STOP_PATIENCE_S = 0.5
_OWN = Source(SUPERVISOR, "log")


class Output:
    """Lives on the loop's thread; only the writer has another."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        renderer: Renderer,
        redactor: Redactor,
        history: History,
        tally: Tally,
        out_fd: int,
        overflow: str,
        noise: str,
    ) -> None:
        self._loop = loop
        self._renderer = renderer
        self._redactor = redactor
        self._history = history
        self._tally = tally
        self._blocks = overflow == "block"
        self._patience_s = PATIENCE_S
        self._limits_noise = noise == "limit"
        self._noise: NoiseLimit | None = None
        self._noise_told: asyncio.TimerHandle | None = None
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

    def own(
        self, level: str, event: str, fields: Mapping[str, Any], at_s: float, shown: Mapping[str, str] | None = None
    ) -> None:
        """Log a record of the supervisor's; ``shown`` are secrets that the log shows and the history does not."""
        event = self._redactor.mask_text(event)
        fields = {key: self._masked(value) for key, value in fields.items()}
        hidden = dict.fromkeys(shown or {}, MASK.decode())
        plain = plain_line(words(event, {**shortened(fields), **hidden}))
        out = self._renderer.own(level, event, {**fields, **(shown or {})}, at_s)
        self._emit(_OWN, out, plain, at_s, level)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when there is something new."""
        self._subscribers.append(callback)

        def end() -> None:
            with suppress(ValueError):
                self._subscribers.remove(callback)

        return end

    @property
    def dropped(self) -> int:
        """Return how many lines were dropped for a consumer that did not read."""
        return self._writer.dropped

    @property
    def held_back(self) -> int:
        """Return how many lines of tailscaled's noise were held back."""
        return 0 if self._noise is None else self._noise.total

    def hurry(self) -> None:
        """Have children that end wait no longer for a consumer that does not read."""
        self._patience_s = STOP_PATIENCE_S
        if self._patience is not None:
            self._patience.cancel()
            self._lose_patience()

    def ended(self, process: str) -> None:
        """Take note that a process has ended, and all it said was read."""
        if process == TAILSCALED:
            self._tell_noise()

    def close(self, timeout_s: float) -> None:
        """Write what is left."""
        self._tell_noise()
        self._writer.close(timeout_s)

    def _masked(self, value: object) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._masked(part) for part in value]
        if isinstance(value, dict):
            return {str(key): self._masked(part) for key, part in value.items()}
        text = str(value)
        return self._redactor.mask(text.encode(errors="backslashreplace")).decode(errors="backslashreplace")

    def _take(self, source: Source, lines: bytes) -> None:
        daemon = source.process == TAILSCALED
        lines = self._redactor.mask(lines, daemon=daemon)
        shown = kept = lines
        if not is_clean(lines):
            shown, kept = self._cleaned(lines)
        # The log tells the wall clock's time.
        now_s = time.time()  # noqa: TID251
        passing = self._without_noise(shown) if daemon and shown is kept else shown
        out = self._renderer.lines(source, passing, now_s) if passing else b""
        self._emit(source, out, kept, now_s, None)

    def _without_noise(self, lines: bytes) -> bytes:
        """Return the lines that the log shows; the history has them all."""
        if not self._limits_noise:
            return lines
        if self._noise is None:
            # Loaded where there is a tailscaled.
            from supervisor.logs.noise import NoiseLimit

            self._noise = NoiseLimit()
        passing = self._noise.take(lines, self._loop.time())
        if self._noise_told is None and self._noise.due_s is not None:
            self._noise_told = self._loop.call_at(self._noise.due_s, self._tell_noise)
        return passing

    def _tell_noise(self) -> None:
        if self._noise_told is not None:
            self._noise_told.cancel()
            self._noise_told = None
        held = None if self._noise is None else self._noise.report()
        if held is not None:
            kinds = [f"{kind}:{count}" for kind, count in held.kinds.items()]
            where = f"moltis-supervisor logs --process {TAILSCALED}"
            # The log tells the wall clock's time.
            now_s = time.time()  # noqa: TID251
            fields = {"child": TAILSCALED, "count": held.lines, "kinds": kinds, "shown_by": where}
            self.own("info", "log lines held back", fields, now_s)

    def _cleaned(self, lines: bytes) -> tuple[bytes, bytes]:
        """Return the lines as the log shows them, and as the history keeps them."""
        colored = clean(lines, colors=True)
        plain = wrapped(clean(lines, colors=False))
        # In the history no code is cut in two.
        kept = colored if all_within(colored, LONGEST_BYTES) else plain
        return wrapped(colored) if self._renderer.color else plain, kept

    def _emit(self, source: Source, out: bytes, kept: bytes, at_s: float, level: str | None) -> None:
        before = self._history.next
        self._history.add(source, kept, at_s, level)
        self._tally.add(source.process, kept, self._history.next - before, level)
        if out and self._writer.put(out):
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
        writer = self._writer
        if not self._blocks or self._impatient_since_s is not None or writer.unread or writer.overfull:
            self._writer.drop_oldest()
            return
        if self._held_since_s is None:
            self._held_since_s = time.monotonic()
            for pipe in tuple(self._pipes):
                pipe.pause()
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
        """Resume, from the writer's thread."""
        # The loop may have ended before the thread.
        with suppress(RuntimeError):
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
        return self._renderer.own("warning", "log lines lost", {"count": count, "why": "the log was not read"}, now_s)
