"""What both formats share: whose lines these are, and how the supervisor's own records are put into words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from supervisor.logs.clean import clean
from supervisor.logs.history import SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Mapping

# A record is for people in a hurry, and for platforms that cut at 16 KiB: its texts are shortened to the first of
# these lengths that lets it fit.
_SHORTER_CHARACTERS = (4000, 1000, 250, 60)
LONGEST_RECORD_BYTES = 15 * 1024


__all__ = ["SUPERVISOR", "Renderer", "Source", "fact", "plain_line", "shortened", "stamp", "words"]


class Source(NamedTuple):
    """Whose lines these are."""

    process: str
    stream: str


class Renderer(Protocol):
    """What both formats can do; ``now_s`` is seconds since the epoch, lines end with newlines."""

    color: bool

    def lines(self, source: Source, shown: bytes, now_s: float) -> bytes:
        """Render a child's whole, masked, clean lines."""

    def own(self, level: str, event: str, fields: Mapping[str, Any], now_s: float) -> bytes:
        """Render one record of the supervisor's."""


def stamp(now_s: float) -> str:
    """Return RFC 3339 time in UTC, to the millisecond."""
    whole = int(now_s)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((now_s - whole) * 1000):03d}Z"


def words(event: str, fields: Mapping[str, Any]) -> str:
    """Return a record as one line of text, as the history keeps it."""
    return " ".join([event, *(f"{key}={fact(value)}" for key, value in fields.items())])


def fact(value: object) -> str:
    """Return a field's value as text, quoted where it has to be."""
    if isinstance(value, (list, tuple)):
        return ",".join(fact(part) for part in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).replace("\r", "").replace("\n", " ⏎ ")
    if text and not any(character in text for character in ' "=\t'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def plain_line(text: str) -> bytes:
    """Return text as one clean line."""
    return clean(text.replace("\n", " ⏎ ").encode(errors="backslashreplace") + b"\n", colors=False)


def shortened(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with long texts shortened in the middle, so that a record of them is no longer than it may."""
    short = dict(fields)
    for most in _SHORTER_CHARACTERS:
        if sum(len(fact(value).encode(errors="replace")) + len(key) for key, value in short.items()) <= (
            LONGEST_RECORD_BYTES * 2 // 3
        ):
            break
        short = {key: _shorter(value, most) for key, value in fields.items()}
    return short


def _shorter(value: object, most: int) -> object:
    if isinstance(value, (list, tuple)):
        return [_shorter(part, most) for part in value[-20:]]
    if isinstance(value, str) and len(value) > most:
        return f"{value[: most // 2]} … {value[-(most // 2) :]}"
    return value
