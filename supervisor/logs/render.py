"""Turns lines into what leaves the process: prefixed text for people, or one JSON object a line."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from supervisor.logs import levels
from supervisor.logs.clean import clean, is_clean
from supervisor.logs.lines import LONGEST_BYTES, MORE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.logs.redact import Redactor

SUPERVISOR = "supervisor"
# Platforms cut at 16 KiB; the rest is for what JSON adds.
LONGEST_JSON_BYTES = 16 * 1024 - 256
_COLORS = ("36", "32", "35", "34", "33", "96", "92", "95")
_LEVEL_COLORS = {"warning": "33", "error": "31", "critical": "1;31"}
# Shown on lines of their own.
_LONG_FIELDS = ("last_lines", "traceback")


class Source(NamedTuple):
    """Whose lines these are."""

    process: str
    stream: str


class Rendered(NamedTuple):
    """The same lines for the outside, and as plain text for the history."""

    out: bytes
    plain: bytes


class Renderer(Protocol):
    """What both formats can do. ``lines`` are whole and masked; ``now_s`` is seconds since the epoch."""

    def lines(self, source: Source, lines: bytes, now_s: float) -> Rendered:
        """Render a child's lines."""

    def own(self, level: str, event: str, fields: dict[str, Any], now_s: float) -> Rendered:
        """Render one record of the supervisor's."""


def stamp(now_s: float) -> str:
    """Return RFC 3339 time in UTC, to the millisecond."""
    whole = int(now_s)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((now_s - whole) * 1000):03d}Z"


class Pretty:
    """`moltis │ text`, the names in columns; colours where a terminal shows them."""

    def __init__(self, names: Iterable[str], *, color: bool) -> None:
        names = list(names)
        width = max(map(len, names), default=0)
        self._color = color
        self._prefixes = {
            name: self._painted(f"{name:<{width}} │", _COLORS[number % len(_COLORS)]).encode() + b" "
            for number, name in enumerate(names)
        }
        self._separators = {name: b"\n" + prefix for name, prefix in self._prefixes.items()}

    def lines(self, source: Source, lines: bytes, now_s: float) -> Rendered:  # noqa: ARG002 - the lines bring their own
        """Render a child's lines."""
        shown = plain = lines
        if not is_clean(lines):
            plain = clean(lines, colors=False)
            shown = clean(lines, colors=True) if self._color else plain
        return Rendered(self._prefixed(source.process, shown), plain)

    def own(self, level: str, event: str, fields: dict[str, Any], now_s: float) -> Rendered:
        """Render one record of the supervisor's: what happened, the facts, and longer texts on lines of their own."""
        facts = [f"{key}={_fact(value)}" for key, value in fields.items() if key not in _LONG_FIELDS]
        word = self._painted(level.upper(), _LEVEL_COLORS.get(level, "2"))
        first = " ".join([stamp(now_s), word, event, *facts])
        longer = [line for key in _LONG_FIELDS if key in fields for line in _lines_of(fields[key])]
        plain = "\n".join([" ".join([event, *facts]), *(f"    {line}" for line in longer)])
        shown = "\n".join([first, *(f"    {line}" for line in longer)])
        return Rendered(
            self._prefixed(SUPERVISOR, clean(shown.encode(errors="backslashreplace") + b"\n", colors=self._color)),
            clean(plain.replace("\n", " ⏎ ").encode(errors="backslashreplace") + b"\n", colors=False),
        )

    def _prefixed(self, name: str, lines: bytes) -> bytes:
        return self._prefixes[name] + lines[:-1].replace(b"\n", self._separators[name]) + b"\n"

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


class Json:
    """One object a line, for machines."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._decode = msgspec.json.Decoder().decode
        self._encode = msgspec.json.Encoder().encode

    def lines(self, source: Source, lines: bytes, now_s: float) -> Rendered:
        """Render a child's lines; those that are JSON objects keep their own fields."""
        plain = lines if is_clean(lines) else clean(lines, colors=False)
        time_text = stamp(now_s)
        if self._is_uniform(source, plain):
            return Rendered(self._uniform(source, plain, time_text), plain)
        texts = plain[:-1].decode(errors="backslashreplace").split("\n")
        done = [self._one(source, text, time_text) for text in texts]
        messages = "".join(f"{message}\n" for _, message in done).encode(errors="backslashreplace")
        # What a JSON string spells out may be a control character again.
        return Rendered(b"".join(out for out, _ in done), clean(messages, colors=False))

    def own(self, level: str, event: str, fields: dict[str, Any], now_s: float) -> Rendered:
        """Render one record of the supervisor's."""
        record = {"timestamp": stamp(now_s), "level": level, "process": SUPERVISOR, "message": event}
        facts = " ".join(f"{key}={_fact(value)}" for key, value in fields.items())
        plain = clean(
            f"{event} {facts}".rstrip().replace("\n", " ⏎ ").encode(errors="backslashreplace") + b"\n", colors=False
        )
        return Rendered(
            json.dumps(record | fields, default=str, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
            + b"\n",
            plain,
        )

    def _is_uniform(self, source: Source, plain: bytes) -> bool:
        """Tell, at little cost, that all lines are plain text of level info that need no second look."""
        if source.process == "tailscaled" or plain.startswith(b"{") or b"\n{" in plain:
            return False
        if any(marker in plain for marker in levels.MARKERS):
            return False
        return plain.count(b'"') + plain.count(b"\\") < LONGEST_JSON_BYTES - LONGEST_BYTES - 128

    def _uniform(self, source: Source, plain: bytes, time_text: str) -> bytes:
        head = (
            f'{{"timestamp":"{time_text}","level":"info","process":"{source.process}",'
            f'"stream":"{source.stream}","message":"'
        ).encode()
        text = plain[:-1].replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\t", b"\\t")
        return head + text.replace(b"\n", b'"}\n' + head) + b'"}\n'

    def _one(self, source: Source, text: str, time_text: str) -> tuple[bytes, str]:
        """Render one line; return it with its message."""
        if text.startswith("{"):
            lifted = self._lifted(source, text, time_text)
            if lifted is not None:
                return lifted
        level = levels.of_line(source.process, text)
        record = {"timestamp": time_text, "level": level, "process": source.process, "stream": source.stream}
        out = self._encode({**record, "message": text}) + b"\n"
        if len(out) <= LONGEST_JSON_BYTES:
            return out, text
        # Escapes made it longer than the platforms take.
        half = len(text) // 2
        first, second = text[:half] + MORE.decode(), text[half:]
        return (
            self._one(source, first, time_text)[0] + self._one(source, second, time_text)[0],
            f"{first}\n{second}",
        )

    def _lifted(self, source: Source, text: str, time_text: str) -> tuple[bytes, str] | None:
        """Return an app's own JSON object with what is ours beside its fields; None where it is not one."""
        try:
            theirs = self._decode(text)
        except msgspec.DecodeError:
            return None
        if not isinstance(theirs, dict):
            return None
        message, rest = _message(theirs)
        app: dict[str, Any] = {key: rest.pop(key) for key in ("process", "stream") if key in rest}
        level = rest.pop("level", None)
        known = levels.NAMES.get(level.lower()) if isinstance(level, str) else None
        if level is not None and known is None:
            app["level"] = level
        stamped = rest.pop("timestamp", None)
        if stamped is not None and not isinstance(stamped, str):
            app["timestamp"] = stamped
        if app:
            own = rest.pop("app", None)
            app = {**app, **own} if isinstance(own, dict) else app if own is None else {**app, "app": own}
        record = {
            "timestamp": stamped if isinstance(stamped, str) else time_text,
            "level": known or "info",
            "process": source.process,
            "stream": source.stream,
            "message": message,
            **rest,
            **({"app": app} if app else {}),
        }
        # A secret may have stood there in an escaped form.
        out = self._redactor.mask(self._encode(record)) + b"\n"
        return (out, message.replace("\n", " ⏎ ")) if len(out) <= LONGEST_JSON_BYTES else None


def _message(theirs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the message, wherever this writer puts it, and the fields without it."""
    rest = dict(theirs)
    if isinstance(rest.get("message"), str):
        return rest.pop("message"), rest
    fields = rest.get("fields")
    if isinstance(fields, dict) and isinstance(fields.get("message"), str):
        kept = {key: value for key, value in fields.items() if key != "message"}
        rest.pop("fields")
        return fields["message"], {**rest, **({"fields": kept} if kept else {})}
    for name in ("msg", "event"):
        if isinstance(rest.get(name), str) and "message" not in rest:
            return rest.pop(name), rest
    if "message" in rest:
        other = rest.pop("message")
        return json.dumps(other), rest
    return "", rest


def _lines_of(value: object) -> list[str]:
    return value.splitlines() if isinstance(value, str) else [str(part) for part in value]  # type: ignore[attr-defined]


def _fact(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(_fact(part) for part in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return (
        text if text and not any(character in text for character in ' "=\t') else json.dumps(text, ensure_ascii=False)
    )
