"""The text format of the log, `moltis │ text` with aligned names, and what both formats share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.logs.lines import SUPERVISOR
from supervisor.logs.sanitize import ESC, RESET, sanitize, sanitize_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.logs.parse import Batch

# Colours of processes and levels; the operator's commands use them too.
COLORS = ("36", "32", "35", "34", "33", "96", "92", "95")
LEVEL_COLORS = {"warning": "33", "error": "31", "critical": "1;31"}
_FAINT = "2"
# Fields that are written on lines of their own.
_LONG_FIELDS = ("last_lines", "traceback")
# The story of an incident. People read these of its fields; the container's last record shows all of it, as JSON.
_STORY, _READ, _LAST = "story", ("what", "why", "cause", "done"), "stopped"
_NO_FACTS = (*_LONG_FIELDS, _STORY)
# Platforms truncate at 16 KiB: texts of a record are shortened to the first of these lengths that makes it fit.
_SHORTER_CHARACTERS = (4000, 1000, 250, 60)
LONGEST_RECORD_BYTES = 10 * 1024
# What JSON makes of one character at most: two escapes of six, each with its backslash doubled.
_LONGEST_CHARACTER_BYTES = 14
# What a number is counted as, by that measure.
_NUMBER_CHARACTERS = 3
_QUOTED = frozenset(' "=\t')
_NOT_AS_IT_IS = _QUOTED | frozenset("\r\n")


class Format(Protocol):
    """The interface of a format. ``now_s`` is in seconds since the epoch; results end with newlines.

    ``records`` is whether the format needs JSON objects decoded.
    """

    records: bool

    def lines(self, batch: Batch, now_s: float) -> bytes:
        """Render the lines of a child."""

    def event(self, level: str, event: str, fields: Mapping[str, Any], now_s: float) -> bytes:
        """Render one of the supervisor's own records, already shortened."""


class Pretty:
    """Text with prefixes. The margin is as wide as the longest of ``names``; other names may follow."""

    records = False

    def __init__(self, names: Iterable[str], *, color: bool) -> None:
        self._color = color
        self._prefixes: dict[str, bytes] = {}
        names = list(names)
        self._width = max(map(len, names), default=0)
        for name in names:
            self._prefix(name)

    def lines(self, batch: Batch, now_s: float) -> bytes:  # noqa: ARG002 - the lines bring their own
        """Render the lines of a child."""
        if self._color and ESC in batch.colored:
            # Colours end with their line.
            return self._prefixed(batch.source.process, batch.colored, RESET + b"\n")
        return self._prefixed(batch.source.process, batch.text)

    def event(self, level: str, event: str, fields: Mapping[str, Any], now_s: float) -> bytes:
        """Render a record of the supervisor: the event, its fields, and long texts on lines of their own."""
        facts = [f"{key}={fact(value)}" for key, value in _with_story(fields).items() if key not in _NO_FACTS]
        longer = [f"    {line}" for key in _LONG_FIELDS if key in fields for line in _lines_of(fields[key])]
        if event == _LAST and _STORY in fields:
            longer.append(fact(fields[_STORY]))
        first = " ".join([stamp(now_s), level.upper(), event.replace("\n", " ⏎ "), *facts])
        text, _ = sanitize("\n".join([first, *longer]).encode(errors="backslashreplace") + b"\n")
        if self._color:
            # Coloured after sanitizing, so that quoted text cannot add colours of its own.
            painted = self._painted(level.upper(), LEVEL_COLORS.get(level, _FAINT)).encode()
            text = text.replace(level.upper().encode(), painted, 1)
        return self._prefixed(SUPERVISOR, text)

    def _prefixed(self, name: str, lines: bytes, end: bytes = b"\n") -> bytes:
        prefix = self._prefixes.get(name) or self._prefix(name)
        return prefix + lines[:-1].replace(b"\n", end + prefix) + end

    def _prefix(self, name: str) -> bytes:
        color = COLORS[len(self._prefixes) % len(COLORS)]
        self._prefixes[name] = self._painted(f"{name:<{self._width}} │", color).encode() + b" "
        return self._prefixes[name]

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


def stamp(now_s: float) -> str:
    """Return a time in seconds since the epoch as RFC 3339 in UTC with milliseconds."""
    whole = int(now_s)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((now_s - whole) * 1000):03d}Z"


def event_line(event: str, fields: Mapping[str, Any]) -> bytes:
    """Return a record as a single sanitized line, as stored in the history."""
    text = " ".join([event, *(f"{key}={fact(value)}" for key, value in _with_story(fields).items())])
    return sanitize(text.replace("\n", " ⏎ ").encode(errors="backslashreplace") + b"\n")[0]


def _with_story(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with what people read of an incident's story, if there is one, and the story last."""
    facts = {key: value for key, value in fields.items() if key != _STORY}
    story = fields.get(_STORY)
    if isinstance(story, dict):
        return facts | {name: story[name] for name in _READ if story.get(name) and name not in facts} | {_STORY: story}
    return facts


def fact(value: object) -> str:
    """Return the value of a field as text, quoted if necessary; a dictionary becomes JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) or (isinstance(value, str) and value and _NOT_AS_IT_IS.isdisjoint(value)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return ",".join(map(fact, value)) or "none"
    if isinstance(value, dict):
        # Imported here because few records need it.
        import msgspec

        return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    text = str(value).replace("\r", "").replace("\n", " ⏎ ")
    if text and _QUOTED.isdisjoint(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def shortened(event: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a record with long texts shortened in the middle, so that it stays within the limit in each format."""
    if _surely_fits(event, fields):
        return event, dict(fields)
    short_event, short = event, dict(fields)
    for most in _SHORTER_CHARACTERS:
        if _size(short_event) + sum(_size(value) + len(key) for key, value in short.items()) <= LONGEST_RECORD_BYTES:
            break
        short_event = _shorter(event, most)
        short = {key: _shorter(value, most) for key, value in fields.items()}
    return short_event, short


def _surely_fits(event: str, fields: Mapping[str, Any]) -> bool:
    """Return whether a record is so short that its size need not be measured, as most are; a cheap check."""
    return (len(event) + _most_characters(fields)) * _LONGEST_CHARACTER_BYTES <= LONGEST_RECORD_BYTES


def _most_characters(value: object) -> int:
    """Return the length of a value, counting a number, and what JSON puts around each part, as a few characters."""
    if isinstance(value, str):
        return len(value) + 1
    if isinstance(value, dict):
        return 1 + sum(_most_characters(key) + _most_characters(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return 1 + sum(map(_most_characters, value))
    return _NUMBER_CHARACTERS if value is None or isinstance(value, (bool, int, float)) else LONGEST_RECORD_BYTES


def _size(value: object) -> int:
    """Return the most bytes that a value takes: JSON doubles backslashes and tabs, and quotes each item of a list."""
    if isinstance(value, (list, tuple)):
        return sum(_size(part) + 3 for part in value)
    text = sanitize_text(fact(value))
    # Text leaves out carriage returns, which JSON spells as three characters.
    returns = 3 * value.count("\r") if isinstance(value, str) else 0
    return len(text.encode()) + text.count("\\") + text.count("\t") + returns


def _shorter(value: Any, most: int) -> Any:
    if isinstance(value, (list, tuple)):
        return [_shorter(part, most) for part in value[-20:]]
    if isinstance(value, dict):
        return {key: _shorter(part, most) for key, part in value.items()}
    if isinstance(value, str) and len(value) > most:
        return f"{value[: most // 2]} … {value[-(most // 2) :]}"
    return value


def _lines_of(value: object) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [str(part) for part in value]
    return str(value).splitlines()
