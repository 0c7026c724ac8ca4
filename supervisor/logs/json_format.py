"""The JSON format: one object per line, with an app's own fields beside the supervisor's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.logs.format import stamp
from supervisor.logs.json_record import SURELY_FITTING_BYTES, message_of
from supervisor.logs.lines import MORE, SUPERVISOR, USUAL, all_within
from supervisor.logs.sanitize import sanitize_json, sanitize_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.logs.json_record import JsonRecord, TracingRecords
    from supervisor.logs.lines import Source
    from supervisor.logs.parse import Batch

# Platforms truncate at 16 KiB.
LONGEST_JSON_BYTES = 16 * 1024 - 256
_encode = msgspec.json.Encoder().encode
_OURS = frozenset({"level", "process", "stream", "timestamp"})
_END = b'"}\n'
# Keyed by what follows the message within the fields: the object of fields is omitted if it is empty.
_AFTER_MESSAGE = {b",": b',"fields":{', b"}": b""}


class JsonFormat:
    """Renders JSON objects."""

    records = True

    def lines(self, batch: Batch, now_s: float) -> bytes:
        """Render the lines of a child; JSON objects keep their own fields."""
        heads = _Heads(batch.source, stamp(now_s))
        if batch.tracing is not None:
            return _tracing(heads, batch.tracing)
        fits = all_within(batch.text, SURELY_FITTING_BYTES)
        # Only a record that is too long becomes text.
        only_records = len(batch.records) == batch.lines
        text = batch.text[:-1] if only_records else _in_json(batch.text[:-1])
        if fits and not (batch.levels or batch.records or batch.daemon):
            head = heads[USUAL, ""]
            return head + text.replace(b"\n", _END + head) + _END
        out = []
        levels, records, daemon = batch.levels, batch.records, batch.daemon
        for place, line in enumerate(text.split(b"\n")):
            record = records.get(place)
            found = None if record is None else self._record(heads, record)
            if found is None:
                head = heads[levels.get(place, USUAL), daemon[place].topic if daemon else ""]
                escaped = _in_json(line) if only_records else line
                found = head + escaped + _END if fits else _cut(head, escaped)
            out.append(found)
        return b"".join(out)

    def event(self, level: str, event: str, fields: Mapping[str, Any], now_s: float) -> bytes:
        """Render one of the supervisor's own records."""
        record = {"timestamp": stamp(now_s), "level": level, "process": SUPERVISOR, "stream": "log", "message": event}
        own = {f"{key}_" if key in record else key: _sendable(value) for key, value in fields.items()}
        return _encode({**record, "message": _sendable(event), **own}) + b"\n"

    def _record(self, heads: _Heads, record: JsonRecord) -> bytes | None:
        """Return an app's object with our fields added; None if it is too long."""
        level, timestamp, message, rest = record
        if not _OURS.isdisjoint(rest):
            app: dict[str, Any] = {key: rest.pop(key) for key in sorted(_OURS) if key in rest}
            theirs = rest.pop("app", None)
            rest["app"] = msgspec.Raw(_encode(app if theirs is None else {**app, "app": theirs}))
        if b"\\u" in message or not message.isascii():
            message = _encode(message_of(record))
        more = _encode(rest)
        # An object without other fields is omitted.
        more = b"}" if more == b"{}" else b"," + more[1:]
        # A key that was written with an escape is encoded without it.
        if b"\x7f" in more or not more.isascii():
            more = sanitize_json(more)
        out = b'{"timestamp":%b,"level":"%b%b%b%b' % (
            timestamp or heads.timestamp,
            (level or USUAL).encode(),
            heads.source,
            message,
            more,
        )
        return out + b"\n" if len(out) < LONGEST_JSON_BYTES else None


class _Heads(dict[tuple[str, str], bytes]):
    """Text that precedes a line's message, by level and topic, created on demand."""

    def __init__(self, source: Source, time_text: str) -> None:
        super().__init__()
        self.timestamp = f'"{time_text}"'.encode()
        self.about = f'","process":"{source.process}","stream":"{source.stream}",'
        self.source = f'{self.about}"message":'.encode()

    def __missing__(self, key: tuple[str, str]) -> bytes:
        level, topic = key
        about = f'{self.about}"topic":"{topic}",' if topic else self.about
        head = self[key] = b'{"timestamp":' + self.timestamp + f',"level":"{level}{about}"message":"'.encode()
        return head


def _tracing(heads: _Heads, records: TracingRecords) -> bytes:
    """Return tracing objects with our fields added, and the message moved out of their fields."""
    about = {level: f',"level":"{level}{heads.about}"message":'.encode() for level in set(records.levels)}
    out = [b'{"timestamp":'] * (6 * len(records.levels))
    out[1::6] = records.timestamps
    out[2::6] = map(about.__getitem__, records.levels)
    out[3::6] = records.messages
    out[4::6] = map(_AFTER_MESSAGE.__getitem__, records.seps)
    out[5::6] = records.rests
    return b"".join(out)


def _in_json(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\t", b"\\t")


def _cut(head: bytes, text: bytes) -> bytes:
    """Return a line as one or more objects within the length limit."""
    pieces = []
    while len(head) + len(text) > LONGEST_JSON_BYTES:
        cut = _escape_border(text, LONGEST_JSON_BYTES - len(head) - len(MORE) - 4)
        pieces.append(head + text[:cut] + MORE + _END)
        text = text[cut:]
    return b"".join([*pieces, head, text, _END])


def _escape_border(text: bytes, cut: int) -> int:
    """Return the position of a cut, moved back so that it splits neither an escape nor a character."""
    while cut > 1 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    backslashes = len(text[:cut]) - len(text[:cut].rstrip(b"\\"))
    return cut - backslashes % 2


def _sendable(value: object) -> object:
    """Return the value of a record with everything that the encoder does not accept converted to text."""
    if isinstance(value, str):
        return sanitize_text(value)
    if isinstance(value, dict):
        return {str(_sendable(str(key))): _sendable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sendable(part) for part in value]
    return value
