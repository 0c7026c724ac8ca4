"""The last log lines, numbered, in bounded memory; readers learn how many lines they have missed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.logs.lines import Source
    from supervisor.logs.redact import Redactor

HISTORY_BYTES = 4 * 1024 * 1024
# Kept for each process in addition, for the record of its exit.
LAST_LINES = 20
_LAST_BYTES = 96 * 1024


class Line(NamedTuple):
    """A log line: its number, time in seconds since the epoch, process, stream, level, text, and topic if known.

    ``colored`` is the text with its original colour codes; empty if it has none.
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
    """A page of the history: ``lost`` lines before it are no longer kept, ``after`` is the number to continue with."""

    lines: tuple[Line, ...]
    lost: int
    after: int


class _Block(NamedTuple):
    """Lines that arrived together; ``skipped`` leading lines were removed, but keys of ``levels`` still count them."""

    first: int
    lines: int
    at_s: float
    source: Source
    levels: Mapping[int, str]
    text: bytes
    skipped: int = 0


class History:
    """Keeps up to ``most_lines`` lines and ``most_bytes`` bytes; lines are parsed only when they are read."""

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
        """The number of the oldest line that is kept, or of the next line if there is none."""
        return max(self._blocks[0].first if self._blocks else self.next, self.next - self._most_lines)

    def add(self, source: Source, text: bytes, lines: int, at_s: float, levels: Mapping[int, str]) -> None:
        """Append whole, masked lines, sanitized except for colours.

        ``levels`` has the levels other than info by the index of the line.
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

    def read(self, after: int = 0, limit: int = 1000, process: str | None = None, since: int = 0) -> Page:
        """Return up to ``limit`` lines with numbers above ``after``, or the last ``-after`` if it is negative.

        Of the last ones, those with numbers from ``since``.
        """
        oldest = self.oldest
        if after < 0:
            wanted = list(self._backwards(max(oldest, since), process, min(-after, limit)))[::-1]
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
        """Return the last lines of a process with numbers from ``since``, however much other processes have written."""
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
        """Return the lines of a block from number ``begin``."""
        # Imported at the first read.
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
    """Return the last lines of a block with at most ``most_bytes``, at least one line."""
    text = block.text
    begin = text.find(b"\n", len(text) - most_bytes - 1, len(text) - 1) + 1
    if not begin:
        begin = text.rfind(b"\n", 0, len(text) - 1) + 1
    text = text[begin:]
    lines = text.count(b"\n")
    gone = block.lines - lines
    return block._replace(first=block.first + gone, lines=lines, text=text, skipped=block.skipped + gone)
