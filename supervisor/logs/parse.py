"""Determines the level, topic and text of log lines, independent of their format.

Levels are determined here once, when lines arrive; everything else uses the result.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from supervisor.logs.lines import NAMES, TAILSCALED, USUAL
from supervisor.logs.sanitize import COLOR_CODE, ESC, RESET, sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.logs.json_record import JsonRecord, TracingRecords
    from supervisor.logs.lines import Source
    from supervisor.logs.redact import Redactor
    from supervisor.logs.tailscaled import DaemonLine

# Lines with a level other than info, each after the preceding newline: a time (tracing-subscriber's, Go's, or one in
# brackets), level in capitals and text; levels in brackets; crash messages; possible JSON objects; and logfmt, with a
# time and a caller before the level.
_UNUSUAL = (
    rb"\n(?=[\d\[TDWEFCeptfl{])"
    rb"(?:(?:\[?+\d{4}[-/]\d\d[-/]\d\d[T ][\d:.,]++(?:Z|[+-]\d\d:?\d\d)?+\]?+[ \t]++)?+(?=[\[TDWEFC])\[?"
    rb"(TRACE|DEBUG|WARN(?:ING)?|ERROR|FATAL|CRITICAL)\]?[ \t\r\f\v:]"
    rb"|(?=[EeCptfT])(?:[Ee]rror:|Caused by:|panic:|fatal error:|thread '[^\n]*' panicked|Traceback \(most recent)"
    rb"|(\{)"
    rb"|(?=[tl])(?:(?:time|ts|caller)=(?:\"[^\"\n]*+\"|[^ \n]*+) ){0,2}+l(?:eve|v)?l="
    rb"(?i:\"?(trace|debug|warn(?:ing)?|err(?:or)?|fatal|critical|panic)\b))"
)
_OBJECT, _LOGFMT = 2, 3
# The first line other than tracing-subscriber's at info: a quick check for the common case.
_NOT_USUAL = rb"\n(?!\d{4}-\d\d-\d\dT[\d:.]++Z  INFO )"
# Levels by the matched word; crash messages match no word.
_WORDS: Mapping[bytes | None, str] = {name.upper().encode(): level for name, level in NAMES.items()}
_NONE: Mapping[int, str] = {}
_NO_RECORDS: Mapping[int, JsonRecord] = {}


class Batch(NamedTuple):
    """Whole lines of one stream, masked and sanitized, with their parsed properties.

    ``text`` is without colours, ``colored`` the original. By index of the line: ``levels`` other than info, and
    ``records``, the JSON objects if requested; ``tracing`` replaces them if all lines are tracing objects. ``daemon``
    has an entry for each line of tailscaled.
    """

    source: Source
    text: bytes
    colored: bytes
    lines: int
    levels: Mapping[int, str] = _NONE
    records: Mapping[int, JsonRecord] = _NO_RECORDS
    tracing: TracingRecords | None = None
    daemon: Sequence[DaemonLine] = ()

    def only(self, places: Sequence[int]) -> Batch:
        """Return a batch of the lines at these indexes, in this order."""
        texts, colored = self.text.split(b"\n"), self.colored.split(b"\n")
        return self._replace(
            text=b"".join([texts[place] + b"\n" for place in places]),
            colored=b"".join([colored[place] + b"\n" for place in places]),
            lines=len(places),
            levels={new: self.levels[old] for new, old in enumerate(places) if old in self.levels},
            daemon=[self.daemon[place] for place in places],
        )


class ParsedLine(NamedTuple):
    """A line as its reader gets it; ``colored`` is the message with its colour codes, empty if it has none."""

    topic: str
    message: str
    colored: str = ""


def parse_batch(source: Source, text: bytes, colored: bytes, lines: int, *, records: bool) -> Batch:
    """Determine the levels of so many lines, and decode the JSON objects among them if ``records`` is set."""
    batch = Batch(source, text, colored, lines)
    if source.process == TAILSCALED:
        # Imported only if there is a tailscaled.
        from supervisor.logs.tailscaled import parse

        daemon = [parse(line) for line in text[:-1].decode().split("\n")]
        unusual = {place: line.level for place, line in enumerate(daemon) if line.level != USUAL}
        return batch._replace(levels=unusual, daemon=daemon)
    levels: dict[int, str] = {}
    places = None if text.startswith(b"{") else _unusual(text, levels)
    if places is None or places:
        return _with_objects(batch, places, levels, records=records)
    return batch._replace(levels=levels) if levels else batch


def _with_objects(batch: Batch, places: Sequence[int] | None, levels: dict[int, str], *, records: bool) -> Batch:
    """Add the JSON objects at these indexes, and the levels of other lines, to a batch.

    ``places`` is None if all lines may be objects.
    """
    # Imported at the first object, so that an app that crashes early is not delayed.
    from supervisor.logs import json_record

    text = batch.text
    lines = text[:-1].split(b"\n")
    if places is None:
        tracing = json_record.tracing_records(text, lines) if records else None
        if tracing is not None:
            usual = tracing.levels.count(USUAL) == batch.lines
            levels = {} if usual else {place: level for place, level in enumerate(tracing.levels) if level != USUAL}
            return batch._replace(levels=levels, tracing=tracing)
        all_objects = text.count(b"\n{") == batch.lines - 1
        places = range(batch.lines) if all_objects else _unusual(text, levels)
    if not records:
        return batch._replace(levels=levels | json_record.levels(lines, places))
    decoded = json_record.decode(lines, places)
    levels |= {place: record.level for place, record in decoded.items() if record.level not in {None, USUAL}}
    return batch._replace(levels=levels, records=decoded)


def parse_line(process: str, line: bytes, redactor: Redactor) -> ParsedLine:
    """Parse a line of the history; Moltis' setup code is masked."""
    if ESC in line:
        plain = COLOR_CODE.sub(b"", line)
        if ESC in plain:
            # Nested codes: the remaining escapes are made visible.
            plain, line = (lines[:-1] for lines in sanitize(line + b"\n"))
        parsed = parse_line(process, plain, redactor)
        # Masked text, and text assembled from JSON, is shown without colours.
        if parsed.message.encode() != plain:
            return parsed
        return parsed._replace(colored=(line if line.endswith((RESET, b"\x1b[m")) else line + RESET).decode())
    if line.startswith(b"{"):
        from supervisor.logs import json_record

        record = json_record.decode([line], (0,)).get(0)
        if record is not None:
            text = redactor.mask_setup_code(json_record.text_of(record).encode())
            return ParsedLine("", text.decode())
    text = redactor.mask_setup_code(line)
    if process != TAILSCALED:
        return ParsedLine("", text.decode(errors="backslashreplace"))
    from supervisor.logs.tailscaled import parse

    message = text.decode(errors="backslashreplace")
    return ParsedLine(parse(message).topic, message)


def _unusual(text: bytes, levels: dict[int, str]) -> list[int]:
    """Add the levels of text lines to ``levels``; return the indexes of possible objects."""
    # The pattern expects a newline before each line, also the first.
    text = b"\n" + text
    if _pattern(_NOT_USUAL).search(text, 0, len(text) - 1) is None:
        return []
    objects = []
    place = at = 0
    for found in _pattern(_UNUSUAL).finditer(text):
        place += text.count(b"\n", at, found.start())
        at = found.start()
        if found.lastindex == _OBJECT:
            objects.append(place)
        else:
            word = found[_LOGFMT].upper() if found.lastindex == _LOGFMT else found[1]
            levels[place] = _WORDS.get(word, "error")
    return objects


@cache
def _pattern(pattern: bytes) -> re.Pattern[bytes]:
    # Compiled on first use: it would add milliseconds to the start.
    return re.compile(pattern)
