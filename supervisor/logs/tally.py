"""Counts lines and their bytes by process and level: one look at a whole batch, and at single lines only as needed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.logs import levels
from supervisor.logs.clean import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVEL = rb'"level"\s*:\s*"?(\w+)'
_USUAL = "info"
_ESC = b"\x1b"


class Tally:
    """What has gone through the log since the start; ``cells`` are lines and bytes by process and level."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], list[int]] = {}

    def add(self, process: str, text: bytes, lines: int, level: str | None) -> None:
        """Take so many whole lines; ``level`` None means that each says for itself."""
        size = len(text)
        if level is None:
            level = _USUAL
            if _ESC in text:
                text = clean(text, colors=False)
                size = len(text)
            for other, line_bytes in _unusual(process, text):
                self._count(process, other, 1, line_bytes)
                lines -= 1
                size -= line_bytes
        if lines:
            self._count(process, level, lines, size)

    def _count(self, process: str, level: str, lines: int, size: int) -> None:
        cell = self.cells.get((process, level))
        if cell is None:
            cell = self.cells[process, level] = [0, 0]
        cell[0] += lines
        cell[1] += size


def _unusual(process: str, text: bytes) -> Iterator[tuple[str, int]]:
    """Yield level and size of each line whose level is not the usual one."""
    for line in _suspects(process, text):
        level = _of_object(line) if line.startswith(b"{") else None
        if level is None:
            level = levels.of_line(process, line.decode(errors="replace"))
        if level != _USUAL:
            yield level, len(line) + 1


def _suspects(process: str, text: bytes) -> Iterator[bytes]:
    if process == levels.TAILSCALED:
        yield from text[:-1].split(b"\n")
        return
    # The first line too is one after a newline.
    text = b"\n" + text
    for found in levels.suspect().finditer(text):
        begin = found.start() + 1
        yield text[begin : text.index(b"\n", begin)]


def _of_object(line: bytes) -> str | None:
    found = re.search(_LEVEL, line)
    return levels.NAMES.get(found[1].decode().lower()) if found is not None else None
