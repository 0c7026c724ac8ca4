"""The format for machines: one JSON object a line, an app's own fields kept beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.logs import levels
from supervisor.logs.clean import clean, clean_json, clean_text, is_clean
from supervisor.logs.lift import lift
from supervisor.logs.lines import MORE, all_within
from supervisor.logs.render import SUPERVISOR, shortened, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.logs.redact import Redactor
    from supervisor.logs.render import Source

# Platforms cut at 16 KiB.
LONGEST_JSON_BYTES = 16 * 1024 - 256
# Escaping makes a line twice as long at most: a line no longer than this needs no look at what comes out.
_SURELY_FITTING_BYTES = 7 * 1024
_OURS = frozenset({"level", "process", "stream", "timestamp"})


class JsonLines:
    """Renders objects."""

    def __init__(self, redactor: Redactor) -> None:
        self.color = False
        self._redactor = redactor
        # What a record's fields may hold beyond JSON's types is shown as text; not a number is null.
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def lines(self, source: Source, shown: bytes, now_s: float) -> bytes:
        """Render a child's lines; those that are JSON objects keep their own fields."""
        time_text = stamp(now_s)
        if self._is_uniform(source, shown):
            return self._uniform(source, shown, time_text)
        return b"".join([self._one(source, line, time_text) for line in shown[:-1].split(b"\n")])

    def own(self, level: str, event: str, fields: Mapping[str, Any], now_s: float) -> bytes:
        """Render one record of the supervisor's."""
        record = {"timestamp": stamp(now_s), "level": level, "process": SUPERVISOR, "stream": "log", "message": event}
        short = {f"{key}_" if key in record else key: _sendable(value) for key, value in shortened(fields).items()}
        return self._encode({**record, "message": _sendable(event), **short}) + b"\n"

    def _is_uniform(self, source: Source, lines: bytes) -> bool:
        """Tell, at little cost, that all lines are plain text of level info that need no second look."""
        if source.process == levels.TAILSCALED or levels.suspect().search(b"\n" + lines):
            return False
        return all_within(lines, _SURELY_FITTING_BYTES)

    def _uniform(self, source: Source, lines: bytes, time_text: str) -> bytes:
        head = self._head(source, time_text, "info")
        text = lines[:-1].replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\t", b"\\t")
        return head + text.replace(b"\n", b'"}\n' + head) + b'"}\n'

    def _head(self, source: Source, time_text: str, level: str, topic: str = "") -> bytes:
        about = f'"topic":"{topic}",' if topic else ""
        return (
            f'{{"timestamp":"{time_text}","level":"{level}","process":"{source.process}",'
            f'"stream":"{source.stream}",{about}"message":"'
        ).encode()

    def _one(self, source: Source, line: bytes, time_text: str) -> bytes:
        if line.startswith(b"{"):
            out = self._own_fields_kept(source, line, time_text)
            if out is not None:
                return out
        said = line.decode()
        level, topic = levels.of_line(source.process, said), levels.topic_of_line(source.process, said)
        text = line.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\t", b"\\t")
        head = self._head(source, time_text, level, topic)
        pieces = []
        while len(head) + len(text) > LONGEST_JSON_BYTES:
            cut = _escape_border(text, LONGEST_JSON_BYTES - len(head) - len(MORE) - 4)
            pieces.append(head + text[:cut] + MORE + b'"}\n')
            text = text[cut:]
        return b"".join([*pieces, head, text, b'"}\n'])

    def _own_fields_kept(self, source: Source, line: bytes, time_text: str) -> bytes | None:
        """Return an app's own object with what is ours beside its fields; None where it is none, or is too long."""
        lifted = lift(line)
        if lifted is None:
            return None
        rest = lifted.rest
        if not _OURS.isdisjoint(rest):
            app: dict[str, Any] = {key: rest.pop(key) for key in sorted(_OURS) if key in rest}
            theirs = rest.pop("app", None)
            rest["app"] = msgspec.Raw(self._encode(app if theirs is None else {**app, "app": theirs}))
        out: bytes = self._encode(
            {
                "timestamp": lifted.timestamp or time_text,
                "level": lifted.level or "info",
                "process": source.process,
                "stream": source.stream,
                "message": self._message(lifted.message),
                **rest,
            }
        )
        out = clean_json(out)
        return out + b"\n" if len(out) < LONGEST_JSON_BYTES else None

    def _message(self, message: msgspec.Raw) -> msgspec.Raw | str:
        """Return it without control characters in an escaped form, save those that JSON names."""
        data = bytes(message)
        if b"\\u" not in data and is_clean(data):
            return message
        text: str = msgspec.json.decode(message, type=str)
        parts = [part.encode() for part in text.split("\n")]
        return "\n".join((part if is_clean(part) else clean(part, colors=False)).decode() for part in parts)


def _escape_border(text: bytes, cut: int) -> int:
    """Return the cut, moved back so that it divides neither an escape nor a character."""
    while cut > 1 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    backslashes = len(text[:cut]) - len(text[:cut].rstrip(b"\\"))
    return cut - backslashes % 2


def _sendable(value: object) -> object:
    """Return a record's value with everything in it that no encoder takes made text."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {str(_sendable(str(key))): _sendable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sendable(part) for part in value]
    if isinstance(value, bytes):
        return clean_text(value.decode(errors="backslashreplace"))
    return value
