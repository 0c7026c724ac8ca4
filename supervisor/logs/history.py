"""The last lines, numbered, in bounded memory: whoever reads later knows what came and how much is gone."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.logs.lines import Source
    from supervisor.logs.redact import Redactor

HISTORY_BYTES = 4 * 1024 * 1024
# Kept of each process in any case, to be told when it ends.
LAST_LINES = 20
_LAST_BYTES = 96 * 1024


class Line(NamedTuple):
    """One line: its number, seconds since the epoch, whose it is, how bad it is, its text, and perhaps its topic.

    ``colored`` is the text with the colour codes that it came with; empty where it has none.
    """

    number: int
    at_s: float
    process: str
    stream: str
    level: str
    message: str
    topic: str = ""
    colored: str = ""


class Page(NamedTuple):
    """What was asked for: ``lost`` lines before the first one are gone, ``after`` is what to ask for next."""

    lines: tuple[Line, ...]
    lost: int
    after: int


class _Block(NamedTuple):
    """Lines that came together; ``skipped`` are those before its first one that are gone, which ``levels`` count."""

    first: int
    lines: int
    at_s: float
    source: Source
    levels: Mapping[int, str]
    text: bytes
    skipped: int = 0


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

    @property
    def oldest(self) -> int:
        """Return the number of the oldest line that can be read; that of the next one when there is none."""
        return max(self._blocks[0].first if self._blocks else self.next, self.next - self._most_lines)

    def add(self, source: Source, text: bytes, lines: int, at_s: float, levels: Mapping[int, str]) -> None:
        """Number and add so many whole, masked lines, sanitized but for colours.

        ``levels`` are, by their places, those of lines that are not of level info.
        """
        block = _Block(self.next, lines, at_s, source, levels, text)
        self.next += block.lines
        self._blocks.append(block)
        self._lines += block.lines
        self._bytes += len(text)
        self._remember_last(block)
        blocks = self._blocks
        while len(blocks) > 1 and (self._lines - blocks[0].lines >= self._most_lines or self._bytes > self._most_bytes):
            gone = blocks.popleft()
            self._lines -= gone.lines
            self._bytes -= len(gone.text)
        if self._bytes > self._most_bytes:
            self._bytes -= len(blocks[0].text)
            blocks[0] = _end_of(blocks[0], self._most_bytes)
            self._lines = blocks[0].lines
            self._bytes += len(blocks[0].text)

    def _remember_last(self, block: _Block) -> None:
        last = self._last.setdefault(block.source.process, deque(maxlen=LAST_LINES))
        last.append(block if len(block.text) <= _LAST_BYTES else _end_of(block, _LAST_BYTES))
        while (
            len(last) > 1
            and last[-1].first - (last[0].first + last[0].lines) + last[-1].lines >= LAST_LINES
            and (sum(block.lines for block in last) - last[0].lines >= LAST_LINES)
        ):
            last.popleft()

    def read(self, after: int = 0, limit: int = 1000, process: str | None = None) -> Page:
        """Return at most ``limit`` lines with numbers above ``after``; with ``after`` negative, that many last ones."""
        oldest = self.oldest
        if after < 0:
            wanted = list(self._backwards(oldest, process, min(-after, limit)))[::-1]
            return Page(tuple(wanted), 0, self.next - 1)
        begin = max(oldest, after + 1)
        lines: list[Line] = []
        for block in self._blocks:
            if block.first + block.lines <= begin or (process is not None and block.source.process != process):
                continue
            lines += self._unfold(block, begin, limit - len(lines))
            if len(lines) >= limit:
                return Page(tuple(lines), begin - after - 1, lines[-1].number if lines else after)
        return Page(tuple(lines), begin - after - 1, max(after, self.next - 1))

    def tail(self, process: str, count: int, since: int = 0) -> tuple[str, ...]:
        """Return the last lines of one process, however much the others wrote; none numbered below ``since``."""
        texts: list[str] = []
        for block in reversed(self._last.get(process, ())):
            if len(texts) >= count or block.first + block.lines <= since:
                break
            begin = max(since, block.first + block.lines - (count - len(texts)))
            texts[:0] = [line.message for line in self._unfold(block, begin, count)]
        return tuple(texts)

    def _backwards(self, oldest: int, process: str | None, count: int) -> Iterator[Line]:
        for block in reversed(self._blocks):
            if process is None or block.source.process == process:
                begin = max(oldest, block.first + block.lines - count)
                unfolded = self._unfold(block, begin, count)
                count -= len(unfolded)
                yield from reversed(unfolded)
                if count <= 0 or block.first <= oldest:
                    return

    def _unfold(self, block: _Block, begin: int, most: int) -> list[Line]:
        """Return lines of a block, from number ``begin`` on."""
        # Loaded for the first reader.
        from supervisor.logs.parse import parse_line

        skipped = max(0, begin - block.first)
        texts = block.text[:-1].split(b"\n")[skipped : skipped + max(0, most)]
        process, stream = block.source
        lines = []
        for number, text in enumerate(texts, block.first + skipped):
            said = parse_line(process, text, self._redactor)
            level = block.levels.get(number - block.first + block.skipped, "info")
            lines.append(Line(number, block.at_s, process, stream, level, said.message, said.topic, said.colored))
        return lines


def _end_of(block: _Block, most_bytes: int) -> _Block:
    """Return a block's last lines, at most so many bytes of them but one line at least."""
    text = block.text
    begin = text.find(b"\n", len(text) - most_bytes - 1, len(text) - 1) + 1
    if not begin:
        begin = text.rfind(b"\n", 0, len(text) - 1) + 1
    text = text[begin:]
    lines = text.count(b"\n")
    gone = block.lines - lines
    return block._replace(first=block.first + gone, lines=lines, text=text, skipped=block.skipped + gone)
