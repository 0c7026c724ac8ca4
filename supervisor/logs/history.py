"""The last lines, numbered, in bounded memory: whoever reads later knows what came and how much is gone."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.logs.redact import Redactor
    from supervisor.logs.render import Source

HISTORY_BYTES = 4 * 1024 * 1024
LAST_LINES = 20
SUPERVISOR = "supervisor"


class Line(NamedTuple):
    """One line: its number, seconds since the epoch, whose it is, how bad it is, and its text."""

    number: int
    at_s: float
    process: str
    stream: str
    level: str
    message: str


class Page(NamedTuple):
    """What was asked for: ``lost`` lines before the first one are gone, ``after`` is what to ask for next."""

    lines: tuple[Line, ...]
    lost: int
    after: int


class _Block(NamedTuple):
    first: int
    lines: int
    at_s: float
    source: Source
    level: str | None
    text: bytes


class History:
    """Keeps at most ``most_lines`` and ``most_bytes``; nothing is done per line until someone reads."""

    def __init__(self, redactor: Redactor, most_lines: int, most_bytes: int = HISTORY_BYTES) -> None:
        self._redactor = redactor
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._blocks: deque[_Block] = deque()
        self._last: dict[str, deque[_Block]] = {}
        self._lines = 0
        self._bytes = 0
        self.next = 1

    def add(self, source: Source, text: bytes, at_s: float, level: str | None = None) -> None:
        """Add whole, masked, clean lines; ``level`` None means that each says for itself."""
        block = _Block(self.next, text.count(b"\n"), at_s, source, level, text)
        self.next += block.lines
        self._blocks.append(block)
        self._lines += block.lines
        self._bytes += len(text)
        last = self._last.setdefault(source.process, deque())
        last.append(block)
        while len(last) > 1 and (
            len(last) > LAST_LINES or sum(old.lines for old in last) - last[0].lines >= LAST_LINES
        ):
            last.popleft()
        while self._blocks and (
            self._lines - self._blocks[0].lines >= self._most_lines or self._bytes > self._most_bytes
        ):
            gone = self._blocks.popleft()
            self._lines -= gone.lines
            self._bytes -= len(gone.text)

    def read(self, after: int = 0, limit: int = 1000, process: str | None = None) -> Page:
        """Return at most ``limit`` lines with numbers above ``after``; with ``after`` negative, that many last ones."""
        oldest = max(self._blocks[0].first if self._blocks else self.next, self.next - self._most_lines)
        if after < 0:
            wanted = list(self._backwards(oldest, process, -after))[::-1]
            return Page(tuple(wanted), 0, self.next - 1)
        lost = max(0, oldest - after - 1)
        lines: list[Line] = []
        for block in self._blocks:
            if block.first + block.lines <= after + 1 or (process is not None and block.source.process != process):
                continue
            lines += (line for line in self._unfold(block) if line.number > after and line.number >= oldest)
            if len(lines) >= limit:
                del lines[limit:]
                return Page(tuple(lines), lost, lines[-1].number)
        return Page(tuple(lines), lost, self.next - 1)

    def tail(self, process: str, count: int, since: int = 0) -> tuple[str, ...]:
        """Return the last lines of one process, however much the others wrote; none numbered below ``since``."""
        texts: list[str] = []
        for block in reversed(self._last.get(process, ())):
            texts[:0] = [line.message for line in self._unfold(block, most=count) if line.number >= since]
            if len(texts) >= count:
                break
        return tuple(texts[-count:]) if count > 0 else ()

    def _backwards(self, oldest: int, process: str | None, count: int) -> Iterator[Line]:
        for block in reversed(self._blocks):
            if process is None or block.source.process == process:
                for line in reversed(self._unfold(block)):
                    if count <= 0 or line.number < oldest:
                        return
                    count -= 1
                    yield line

    def _unfold(self, block: _Block, most: int | None = None) -> list[Line]:
        from supervisor.logs import levels

        text = self._redactor.mask_setup_code(block.text).decode(errors="backslashreplace")
        messages = text[:-1].split("\n")
        skipped = 0 if most is None else max(0, len(messages) - most)
        process, stream = block.source
        return [
            Line(
                block.first + skipped + number,
                block.at_s,
                process,
                stream,
                block.level or levels.of_line(process, text),
                text,
            )
            for number, text in enumerate(messages[skipped:])
        ]
