"""Reads JSON objects in apps' logs: extracts level, time and message, and keeps the rest byte for byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from supervisor.logs.lines import NAMES, USUAL, all_within
from supervisor.logs.sanitize import COLOR_CODE, sanitize_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Escaping at most doubles a line, so the output of a line up to this length need not be checked.
SURELY_FITTING_BYTES = 7 * 1024
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_NOT_OURS = (msgspec.MsgspecError, UnicodeError, RecursionError)
_EMPTY = b'""'
_NO_LEVEL = msgspec.Raw(_EMPTY)
# Names used by Moltis and most others first, then those of other writers.
_MESSAGE_NAMES = ("message", "msg", "event")
_UTC = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"').fullmatch
_LEVELS = {
    form.encode(): level
    for name, level in NAMES.items()
    for form in ((name,) if name.isdigit() else (f'"{name}"', f'"{name.upper()}"', f'"{name.capitalize()}"'))
}


class JsonRecord(NamedTuple):
    """A JSON object: ``level`` is one of ours or None, ``timestamp`` RFC 3339 in UTC or None; ``rest`` is what remains.

    Time and message are JSON strings, the rest is raw JSON; ``fields`` is the raw object without its message.
    """

    level: str | None
    timestamp: bytes | None
    message: bytes
    rest: dict[str, Any]


# Moltis' objects: the format of tracing-subscriber with a string as message.
_TRACING = re.compile(
    rb'\{"timestamp":("\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"),"level":("[A-Z]+"),'
    rb'"fields":\{"message":("[^"\\]*+(?:\\.[^"\\]*+)*+")([,}])([^\n]*\n)'
)
# What a match adds to a list: the text before it, and its groups.
_STEP = _TRACING.groups + 1


class TracingRecords(NamedTuple):
    """A batch that consists of tracing objects, as lists of their parts.

    ``seps`` tell whether there are fields besides the message, ``rests`` are the remaining text.
    """

    timestamps: list[bytes]
    levels: list[str]
    messages: list[bytes]
    seps: list[bytes]
    rests: list[bytes]


class _Tracing(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """All keys that they may have; objects with others are parsed one by one."""

    timestamp: msgspec.Raw
    level: msgspec.Raw
    fields: msgspec.Raw
    target: msgspec.Raw = _NO_LEVEL
    filename: msgspec.Raw = _NO_LEVEL
    line_number: msgspec.Raw = _NO_LEVEL
    span: msgspec.Raw = _NO_LEVEL
    spans: msgspec.Raw = _NO_LEVEL
    threadName: msgspec.Raw = _NO_LEVEL  # noqa: N815 - tracing-subscriber's name
    threadId: msgspec.Raw = _NO_LEVEL  # noqa: N815


_decode_tracing = msgspec.json.Decoder(_Tracing).decode


class _Level(msgspec.Struct, gc=False):
    level: msgspec.Raw = _NO_LEVEL


_decode_level = msgspec.json.Decoder(_Level).decode


def tracing_records(text: bytes, lines: Sequence[bytes]) -> TracingRecords | None:
    """Parse whole lines as objects of tracing-subscriber; None if a line is not one, or needs full parsing."""
    if not all_within(text, SURELY_FITTING_BYTES):
        return None
    parts = _TRACING.split(text)
    if len(parts) != _STEP * len(lines) + 1 or (b"\\" in text and b"\\u" in text) or any(parts[::_STEP]):
        return None
    try:
        levels = list(map(_LEVELS.__getitem__, parts[2::_STEP]))
        for line in lines:
            _decode_tracing(line)
    except (KeyError, *_NOT_OURS):
        return None
    return TracingRecords(parts[1::_STEP], levels, parts[3::_STEP], parts[4::_STEP], parts[5::_STEP])


def levels(lines: Sequence[bytes], places: Sequence[int]) -> dict[int, str]:
    """Return the levels other than info of the objects among these lines, by index."""
    found = {}
    for place in places:
        line = lines[place]
        try:
            level = _LEVELS.get(bytes(_decode_level(line).level), USUAL)
        except _NOT_OURS:
            continue
        if level != USUAL:
            found[place] = level
    return found


def decode(lines: Sequence[bytes], places: Iterable[int]) -> dict[int, JsonRecord]:
    """Return the objects among these lines, by index."""
    records = {}
    for place in places:
        line = lines[place]
        try:
            # An object without fields says nothing but itself, and stays text.
            if fields := _decode_fields(line):
                records[place] = _record(fields)
        except _NOT_OURS:
            continue
    return records


def text_of(record: JsonRecord) -> str:
    """Return an object as one line of text: the message, then the other fields."""
    facts = []
    for key, value in record.rest.items():
        fields = _object(value) if key == "fields" else None
        if fields is None:
            facts.append(f"{key}={_plain(value)}")
        else:
            facts += [f"{name}={_plain(part)}" for name, part in fields.items()]
    text = " ".join(facts if record.message == _EMPTY else [message_of(record), *facts])
    return " ⏎ ".join(sanitize_text(text).split("\n"))


def message_of(record: JsonRecord) -> str:
    """Return the message without colours and control characters except newlines and tabs."""
    text: str = _decode_text(record.message)
    if "\x1b" in text or "\r" in text:
        text = COLOR_CODE.sub(b"", text.replace("\r\n", "\n").encode()).decode()
    return sanitize_text(text)


def _record(rest: dict[str, Any]) -> JsonRecord:
    message = _take_message(rest)
    raw = rest.get("timestamp")
    timestamp = None if raw is None else bytes(raw)
    if timestamp is not None:
        if _UTC(timestamp):
            del rest["timestamp"]
        else:
            timestamp = None
    raw = rest.get("level")
    level = None if raw is None else _LEVELS.get(bytes(raw))
    if level is not None:
        del rest["level"]
    return JsonRecord(level, timestamp, message, rest)


def _take_message(rest: dict[str, Any]) -> bytes:
    fields = rest.get("fields")
    if fields is not None and "message" not in rest:
        inner = _object(fields)
        message = bytes(inner.pop("message", b"")) if inner else b""
        if message[:1] == b'"':
            if inner:
                rest["fields"] = inner
            else:
                del rest["fields"]
            return message
    for name in _MESSAGE_NAMES:
        value = rest.get(name)
        text = b"" if value is None else bytes(value)
        if text[:1] == b'"':
            del rest[name]
            return text
        if text and name == "message":
            # Our value is text, and theirs stays readable as such.
            del rest[name]
            return _encode(text.decode())
    return _EMPTY


def _object(value: Any) -> dict[str, Any] | None:
    """Return the fields of an object; None if the value is not an object."""
    if isinstance(value, dict):
        return value
    try:
        return _decode_fields(value)
    except msgspec.ValidationError:
        return None


def _plain(value: msgspec.Raw) -> str:
    raw = bytes(value)
    # Kept as text: a number may be too long to decode.
    decoded = _decode_text(raw) if raw.startswith(b'"') else ""
    if decoded and not any(character in decoded for character in ' "='):
        return decoded
    return raw.decode(errors="backslashreplace")
