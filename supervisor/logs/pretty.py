"""The format for people: `moltis │ text`, the names in columns, colours where a terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.logs.clean import clean
from supervisor.logs.render import SUPERVISOR, fact, shortened, stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.logs.render import Source

# What tells processes apart, and what is bad; also in what the operator's commands show.
COLORS = ("36", "32", "35", "34", "33", "96", "92", "95")
LEVEL_COLORS = {"warning": "33", "error": "31", "critical": "1;31"}
_FAINT = "2"
# Shown on lines of their own.
_LONG_FIELDS = ("last_lines", "traceback")


class Pretty:
    """Renders prefixed text. ``names`` are those to leave room for in the margin; others may come."""

    def __init__(self, names: Iterable[str], *, color: bool) -> None:
        self.color = color
        self._prefixes: dict[str, tuple[bytes, bytes]] = {}
        names = list(names)
        self._width = max(map(len, names), default=0)
        for name in names:
            self._prefix(name)

    def lines(self, source: Source, shown: bytes, now_s: float) -> bytes:  # noqa: ARG002 - the lines bring their own
        """Render a child's lines."""
        return self._prefixed(source.process, shown)

    def own(self, level: str, event: str, fields: Mapping[str, Any], now_s: float) -> bytes:
        """Render one record of the supervisor's: what happened, the facts, and longer texts on lines of their own."""
        fields = shortened(fields)
        facts = [f"{key}={fact(value)}" for key, value in fields.items() if key not in _LONG_FIELDS]
        longer = [f"    {line}" for key in _LONG_FIELDS if key in fields for line in _lines_of(fields[key])]
        first = " ".join([stamp(now_s), level.upper(), event.replace("\n", " ⏎ "), *facts])
        text = clean("\n".join([first, *longer]).encode(errors="backslashreplace") + b"\n", colors=False)
        if self.color:
            # Painted when clean: what a record quotes must not bring colours of its own.
            painted = self._painted(level.upper(), LEVEL_COLORS.get(level, _FAINT)).encode()
            text = text.replace(level.upper().encode(), painted, 1)
        return self._prefixed(SUPERVISOR, text)

    def _prefixed(self, name: str, lines: bytes) -> bytes:
        prefix, separator = self._prefixes.get(name) or self._prefix(name)
        return prefix + lines[:-1].replace(b"\n", separator) + b"\n"

    def _prefix(self, name: str) -> tuple[bytes, bytes]:
        color = COLORS[len(self._prefixes) % len(COLORS)]
        prefix = self._painted(f"{name:<{self._width}} │", color).encode() + b" "
        self._prefixes[name] = prefix, b"\n" + prefix
        return self._prefixes[name]

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color else text


def _lines_of(value: object) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [str(part) for part in value]
    return str(value).splitlines()
