"""Reads the JSON objects that apps log: finds level, time and message in them and keeps the rest byte by byte."""

from __future__ import annotations

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
_TIME_CHARACTERS = len('"2026-08-21T10:00:00Z"')


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
    if timestamp is not None and _is_utc(bytes(timestamp)):
        del rest["timestamp"]
    else:
        timestamp = None
    level = rest.get("level")
    known = None if level is None else levels.NAMES.get(bytes(level).strip(b'"').lower().decode(errors="replace"))
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
    if "message" not in rest and fields is not None and bytes(fields).startswith(b"{"):
        inner = _decode_fields(fields)
        if _is_text(inner.get("message")):
            message = inner.pop("message")
            if inner:
                rest["fields"] = msgspec.Raw(_encode(inner))
            else:
                del rest["fields"]
            return message
    for name in _MESSAGE_NAMES:
        if _is_text(rest.get(name)):
            return rest.pop(name)
        if name == "message" and name in rest:
            # Ours is text: theirs stays readable as such.
            return msgspec.Raw(_encode(bytes(rest.pop(name)).decode()))
    return _EMPTY


def _is_text(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value).startswith(b'"')


def _is_utc(value: bytes) -> bool:
    return (
        len(value) >= _TIME_CHARACTERS
        and value.endswith(b'Z"')
        and value[11:12] == b"T"
        and value[1:20].translate(None, b"-:T").isdigit()
        and not value[20:-2].strip(b".0123456789")
    )


def _plain(value: msgspec.Raw) -> str:
    decoded: Any = _decode_any(value)
    if isinstance(decoded, str) and decoded and not any(character in decoded for character in ' "='):
        return decoded
    return bytes(value).decode(errors="backslashreplace")
