"""Output of the commands: streams, tables, durations and QR codes within the terminal's width."""

from __future__ import annotations

import io
import json
import os
import threading
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, TypeVar

from supervisor.client.control import Control
from supervisor.config.load import Account, run_dir
from supervisor.config.users import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
_CONFIG = "SUPERVISOR_CONFIG"
# How long the file of the settings may take to be read.
_READ_S = 5.0
_DEFAULT_WIDTH = 80
_MAX_WIDTH = 10_000
GOOD, BAD, DOUBTFUL, FAINT, BOLD = "32", "31", "33", "2", "1"
_GAP = "  "
_UNITS_S = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_KIB = 1024
# Narrower output is left to the terminal to wrap.
_NARROWEST = 40
_BORDER = 2
# By whether the upper and the lower of two modules are dark.
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_BLACK_ON_WHITE = "30;107"


class Console:
    """The standard streams and settings of the caller. ``width`` is that of the terminal; unlimited in a pipe."""

    def __init__(self, environ: Mapping[str, str], stdin: TextIO, out: TextIO, err: TextIO) -> None:
        self.stdin = stdin
        self.out = out
        self.err = err
        self._environ = environ
        if isinstance(out, io.TextIOWrapper):
            # Characters that the terminal's encoding lacks become question marks.
            out.reconfigure(errors="replace")
        self.on_terminal = out.isatty()
        self.color = self.on_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self.control = Control(run_folder(environ))

    @property
    def width(self) -> int:
        """The number of columns to write in."""
        if not self.on_terminal:
            return _MAX_WIDTH
        try:
            # A serial console does not know its width, and reports 0.
            return os.get_terminal_size(self.out.fileno()).columns or _DEFAULT_WIDTH
        except OSError:
            return _DEFAULT_WIDTH

    @property
    def can_ask(self) -> bool:
        """Whether a person can be prompted."""
        return self.stdin.isatty() and self.err.isatty()

    def agrees(self, question: str) -> bool:
        """Return whether a person agrees; only yes counts."""
        self.out.flush()
        self.err.write(f"{question} [y/N] ")
        self.err.flush()
        return self.stdin.readline().strip().lower() in {"y", "yes"}

    def write_line(self, text: str = "") -> None:
        """Write a line of the answer."""
        self.out.write(f"{text}\n")

    def write_lines(self, lines: Iterable[str]) -> None:
        """Write several of them."""
        self.out.writelines(f"{line}\n" for line in lines)

    def write_err(self, text: str) -> None:
        """Write a line to standard error."""
        self.out.flush()
        self.err.write(f"{text}\n")
        self.err.flush()

    def write_json(self, document: Mapping[str, Any]) -> None:
        """Write the response for programs."""
        self.out.write(json.dumps(document) + "\n")

    def paint(self, text: str, code: str) -> str:
        """Return text in a colour, if colours are enabled."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code and text else text


def run_folder(environ: Mapping[str, str]) -> str:
    """Return the run folder by the supervisor's rules; other settings may be invalid here."""
    host = Host()
    account = Account(host.uid, environ.get("HOME") or host.home)
    if _CONFIG not in environ:
        return run_dir(environ, account)
    # The disk of that file may hang, and then most of them set no folder.
    found = read_within(_READ_S, partial(run_dir, environ, account))
    others = {name: text for name, text in environ.items() if name != _CONFIG}
    return found[0] if found else run_dir(others, account)


def read_within(limit_s: float, read: Callable[[], T]) -> list[T]:
    """Return the result of reading a file or pipe that may hang, as the only item; empty if it takes too long.

    Raises what ``read`` raises.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(read())
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failed.append(error)

    reading = threading.Thread(target=run, daemon=True)
    try:
        reading.start()
    except RuntimeError:
        # At the container's limit of processes.
        return [read()]
    reading.join(limit_s)
    if failed:
        raise failed[0]
    return found


class Cell(NamedTuple):
    """A text with a colour."""

    text: str
    color: str = ""


def table(console: Console, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Yield the lines of a table; the last column is shortened to the remaining width."""
    lines = [[Cell(title, FAINT) for title in head], *(list(row) for row in rows)]
    widths = [max(len(line[column].text) for line in lines) for column in range(len(head))]
    room = _width(console) - sum(widths[:-1]) - len(_GAP) * (len(head) - 1)
    for line in lines:
        last = Cell(cut(line[-1].text, max(room, len(_GAP))), line[-1].color)
        parts = [_padded(console, cell, width) for cell, width in zip(line, widths, strict=True)]
        yield _GAP.join([*parts[:-1], console.paint(*last)]).rstrip()


def entry(console: Console, title: str, cells: Sequence[Cell], width: int) -> Iterator[str]:
    """Yield a title with its texts, one per line, wrapped at the terminal's width."""
    for number, cell in enumerate(cells):
        for turn, part in enumerate(fold(cell.text, _width(console) - width)):
            beside = title if not number and not turn else ""
            yield f"{beside:<{width}}{console.paint(part, cell.color)}"


def fold(text: str, width: int) -> list[str]:
    """Return text in lines of up to ``width`` characters, broken between words if possible."""
    lines: list[str] = []
    while len(text) > width:
        at = text.rfind(" ", 1, width + 1)
        lines.append(text[: at if at > 0 else width])
        text = text[at + 1 if at > 0 else width :]
    return [*lines, text]


def cut(text: str, width: int) -> str:
    """Return text of up to ``width`` characters, with an ellipsis if shortened."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def span(seconds: float) -> str:
    """Return a duration in its two largest units: 3 h 12 min."""
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
    """Return an amount of memory, or of disk."""
    mebibytes = count_bytes / _KIB / _KIB
    if mebibytes < 0.1:  # noqa: PLR2004 - what would be shown as none
        return f"{count_bytes / _KIB:.1f} KiB"
    return f"{mebibytes / _KIB:.1f} GiB" if mebibytes >= _KIB else f"{mebibytes:.1f} MiB"


def moment(text: str) -> datetime | None:
    """Parse a time of the API; None if it is not one."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None


def ago(text: str) -> str:
    """Return the age of a time; empty if it is not one."""
    then = moment(text)
    return "" if then is None else span(max(0.0, (datetime.now(UTC) - then).total_seconds()))


def _width(console: Console) -> int:
    return max(_NARROWEST, console.width)


def _padded(console: Console, cell: Cell, width: int) -> str:
    return console.paint(cell.text, cell.color) + " " * (width - len(cell.text))


def qr_code(console: Console, text: str) -> list[str]:
    """Return the lines of the code; empty if the terminal is too narrow."""
    # Imported for the first code, since most commands print none.
    import segno

    rows = [[bool(module) for module in row] for row in segno.make_qr(text).matrix_iter(border=_BORDER)]
    if len(rows[0]) > console.width:
        return []
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    # Without colours, assume light text on a dark background, as in most terminals: the text colour is the light one.
    ink = console.color
    return [
        console.paint("".join(_BLOCKS[a is ink, b is ink] for a, b in zip(upper, lower, strict=True)), _BLACK_ON_WHITE)
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
