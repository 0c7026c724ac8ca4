"""Tables and measures for people: as wide as the terminal, and no wider than they have to be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from supervisor.commands.operator import Operator

GOOD, BAD, DOUBTFUL, FAINT, BOLD = "32", "31", "33", "2", "1"
_GAP = "  "
_UNITS_S = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_KIB = 1024
# Below this it is the terminal that folds.
_NARROWEST = 40


class Cell(NamedTuple):
    """A text and its colour."""

    text: str
    color: str = ""


def table(operator: Operator, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Yield the lines of a table; the last column takes what room there is, and is cut where that is too little."""
    lines = [[Cell(title, FAINT) for title in head], *(list(row) for row in rows)]
    widths = [max(len(line[column].text) for line in lines) for column in range(len(head))]
    room = _width(operator) - sum(widths[:-1]) - len(_GAP) * (len(head) - 1)
    for line in lines:
        last = Cell(cut(line[-1].text, max(room, len(_GAP))), line[-1].color)
        parts = [_padded(operator, cell, width) for cell, width in zip(line, widths, strict=True)]
        yield _GAP.join([*parts[:-1], operator.paint(*last)]).rstrip()


def entry(operator: Operator, title: str, cells: Sequence[Cell], width: int) -> Iterator[str]:
    """Yield a title and beside it its texts, one a line and folded where the terminal ends."""
    for number, cell in enumerate(cells):
        for turn, part in enumerate(fold(cell.text, _width(operator) - width)):
            beside = title if not number and not turn else ""
            yield f"{beside:<{width}}{operator.paint(part, cell.color)}"


def fold(text: str, width: int) -> list[str]:
    """Return text in lines of at most ``width`` characters, broken between words where that can be."""
    lines: list[str] = []
    while len(text) > width:
        at = text.rfind(" ", 1, width + 1)
        lines.append(text[: at if at > 0 else width])
        text = text[at + 1 if at > 0 else width :]
    return [*lines, text]


def cut(text: str, width: int) -> str:
    """Return text of at most ``width`` characters, with a sign where something is missing."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: 3 h 12 min."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size_s in _UNITS_S:
        count, left = divmod(left, size_s)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def size(count_bytes: float) -> str:
    """Return an amount of memory."""
    mebibytes = count_bytes / _KIB / _KIB
    return f"{mebibytes / _KIB:.1f} GiB" if mebibytes >= _KIB else f"{mebibytes:.1f} MiB"


def moment(text: str) -> datetime | None:
    """Return a time that the API wrote; None where it is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None


def ago(text: str) -> str:
    """Return how long ago a time is; nothing where it is none."""
    then = moment(text)
    return "" if then is None else span(max(0.0, (datetime.now(UTC) - then).total_seconds()))


def _width(operator: Operator) -> int:
    return max(_NARROWEST, operator.width)


def _padded(operator: Operator, cell: Cell, width: int) -> str:
    return operator.paint(cell.text, cell.color) + " " * (width - len(cell.text))
