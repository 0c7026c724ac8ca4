"""Splits a byte stream into whole lines: complete, in order, within the length that platforms accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.logs.redact import MASK
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from supervisor.logs.redact import Redactor

SUPERVISOR = "supervisor"
TAILSCALED = "tailscaled"
USUAL = "info"
# Common names of levels; the numbers are those of pino and bunyan.
NAMES = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "notice": "info",
    "warn": "warning",
    "warning": "warning",
    "err": "error",
    "error": "error",
    "fatal": "critical",
    "critical": "critical",
    "panic": "critical",
    "10": "debug",
    "20": "debug",
    "30": "info",
    "40": "warning",
    "50": "error",
    "60": "critical",
}
LONGEST_BYTES = 15 * 1024
MORE = b" [line continues]"
# How far beyond a cut a secret that begins before it is searched for.
_MARGIN_BYTES = 4096
# Characters that continue a key or a login URL.
_SECRET_CHARACTERS = bytes(code for code in range(0x21, 0x100) if code not in b"\"'<>\\\x7f")


class Source(NamedTuple):
    """The process and stream of lines."""

    process: str
    stream: str


class LineSplitter:
    """Splits one stream. ``feed`` returns lines with their newlines; an incomplete line waits for more.

    A line longer than ``LONGEST_BYTES`` is returned in masked pieces, all but the last ending with ``MORE``. ``daemon``
    is whether the stream is tailscaled's.
    """

    def __init__(self, redactor: Redactor, *, daemon: bool = False) -> None:
        self._redactor = redactor
        self._daemon = daemon
        self._parts: list[bytes] = []
        self._size = 0
        self._inside_secret = False

    def feed(self, data: bytes) -> bytes:
        """Add a chunk and return the lines that are complete; may be empty."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._keep(data)
            return self._overlong() if self._size > self._room else b""
        begin = self._take()
        lines = begin + data[:end] if begin else data[:end] if end < len(data) else data
        self._keep(data[end:])
        if self._inside_secret or not all_within(lines, LONGEST_BYTES):
            lines = self._cut_long(lines)
        if self._size > self._room:
            lines += self._overlong()
        return lines

    def flush(self) -> bytes:
        """Return the incomplete line as the last one; call it at the end of the stream."""
        rest = self._take()
        if not rest and not self._inside_secret:
            return b""
        return self._cut_long(rest + b"\n")

    @property
    def _room(self) -> int:
        return LONGEST_BYTES + max(_MARGIN_BYTES, self._redactor.longest_bytes)

    def _keep(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)

    def _take(self) -> bytes:
        taken = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return taken

    def _overlong(self) -> bytes:
        """Return pieces of an incomplete line, as many as can be cut safely."""
        rest = self._past_secret(self._take())
        pieces = []
        while len(rest) > self._room:
            piece, rest = self._piece(rest)
            pieces.append(piece)
        self._keep(rest)
        return b"".join(pieces)

    def _cut_long(self, lines: bytes) -> bytes:
        """Cut the long ones of complete lines; the others are unchanged."""
        done = []
        for line in _lines(lines):
            rest = self._past_secret(line)
            while len(rest) > LONGEST_BYTES:
                piece, rest = self._piece(rest)
                done.append(piece)
            done.append(rest)
        return b"".join(done)

    def _piece(self, rest: bytes) -> tuple[bytes, bytes]:
        """Return a masked piece with the marker, and the remaining text. No secret is split."""
        cut = LONGEST_BYTES - len(MORE) - 1
        # A match that begins before the cut ends before it, or is included as a whole.
        near = rest[: self._room]
        for span in self._redactor.spans(near, daemon=self._daemon):
            if span.context < cut < span.end:
                # A key may continue in the next chunk, which is then included too.
                self._inside_secret = span.end == len(near)
                self._redactor.masked += 1
                piece = self._redactor.mask(rest[: span.begin], daemon=self._daemon) + MASK + MORE + b"\n"
                return piece, self._past_secret(rest[span.end :])
        cut = character_border(rest, cut)
        return self._redactor.mask(rest[:cut], daemon=self._daemon) + MORE + b"\n", rest[cut:]

    def _past_secret(self, rest: bytes) -> bytes:
        if not self._inside_secret:
            return rest
        kept = rest.lstrip(_SECRET_CHARACTERS)
        self._inside_secret = not kept
        return kept


def all_within(lines: bytes, most_bytes: int) -> bool:
    """Return whether no line is longer than the limit including its newline; a cheap check."""
    at = 0
    while len(lines) - at > most_bytes:
        end = lines.rfind(b"\n", at, at + most_bytes) + 1
        if not end:
            return False
        at = end
    return True


def wrapped(lines: bytes) -> bytes:
    """Cut masked whole lines that became too long: escaping control characters lengthens them."""
    if all_within(lines, LONGEST_BYTES):
        return lines
    done = []
    for line in _lines(lines):
        rest = line
        while len(rest) > LONGEST_BYTES:
            cut = character_border(rest, LONGEST_BYTES - len(MORE) - 1)
            done.append(rest[:cut] + MORE + b"\n")
            rest = rest[cut:]
        done.append(rest)
    return b"".join(done)


def character_border(data: bytes, cut: int) -> int:
    """Return the position of a cut, moved back to the start of a UTF-8 character."""
    for back in range(4):
        if cut - back > 0 and (cut >= len(data) or data[cut - back] & 0xC0 != 0x80):
            return cut - back
    return cut


def _lines(lines: bytes) -> list[bytes]:
    # Not splitlines, which also splits at a carriage return.
    return [line + b"\n" for line in lines[:-1].split(b"\n")]
