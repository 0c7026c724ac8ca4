"""Reads the JSON objects that apps log: finds level, time and message in them and keeps the rest byte by byte."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from supervisor.logs import levels

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_NOT_OURS = (msgspec.MsgspecError, UnicodeError, RecursionError)
_EMPTY = msgspec.Raw(b'""')
# Moltis and most of its kind; after them what other writers call it.
_MESSAGE_NAMES = ("message", "msg", "event")
_UTC = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"').fullmatch
_LEVELS = {
    form.encode(): level
    for name, level in levels.NAMES.items()
    for form in ((name,) if name.isdigit() else (f'"{name}"', f'"{name.upper()}"', f'"{name.capitalize()}"'))
}


class Lifted(NamedTuple):
    """One object: ``level`` is one of ours or None, ``timestamp`` RFC 3339 in UTC or None; ``rest`` what remains."""

    level: str | None
    timestamp: msgspec.Raw | None
    message: msgspec.Raw
    rest: dict[str, msgspec.Raw]


def lift(line: bytes) -> Lifted | None:
    """Return what a line of JSON says; None where it is none."""
    if not line.startswith(b"{"):
        return None
    try:
        if b"\\u" in line or b"\\/" in line:
            # Escapes hide what is to be masked: write them as everyone does.
            line = _encode(_decode_any(line))
        rest = _decode_fields(line)
        message = _lift_message(rest)
    except _NOT_OURS:
        return None
    timestamp = rest.get("timestamp")
    if timestamp is not None and _UTC(timestamp):
        del rest["timestamp"]
    else:
        timestamp = None
    level = rest.get("level")
    known = None if level is None else _LEVELS.get(bytes(level))
    if known is not None:
        del rest["level"]
    return Lifted(known, timestamp, message, rest)


def message_of(lifted: Lifted) -> str:
    """Return it as one line of text: the message, then the other fields."""
    facts = []
    for key, value in lifted.rest.items():
        if key == "fields":
            try:
                facts += [f"{name}={_plain(part)}" for name, part in _decode_fields(value).items()]
                continue
            except _NOT_OURS:
                pass
        facts.append(f"{key}={_plain(value)}")
    text: str = _decode_text(lifted.message)
    return " ".join([text, *facts] if text else facts)


def _lift_message(rest: dict[str, msgspec.Raw]) -> msgspec.Raw:
    fields = rest.get("fields")
    if fields is not None and "message" not in rest and bytes(fields).startswith(b"{"):
        inner = _decode_fields(fields)
        message = inner.get("message")
        if message is not None and _is_text(message):
            del inner["message"]
            if inner:
                rest["fields"] = msgspec.Raw(_encode(inner))
            else:
                del rest["fields"]
            return message
    for name in _MESSAGE_NAMES:
        value = rest.get(name)
        if value is not None and _is_text(value):
            return rest.pop(name)
        if value is not None and name == "message":
            # Ours is text: theirs stays readable as such.
            return msgspec.Raw(_encode(bytes(rest.pop(name)).decode()))
    return _EMPTY


def _is_text(value: msgspec.Raw) -> bool:
    return bytes(value).startswith(b'"')


def _plain(value: msgspec.Raw) -> str:
    decoded: Any = _decode_any(value)
    if isinstance(decoded, str) and decoded and not any(character in decoded for character in ' "='):
        return decoded
    return bytes(value).decode(errors="backslashreplace")
