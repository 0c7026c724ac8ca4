"""Cuts a stream of bytes into whole lines: complete, in order, none longer than the platforms take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.logs.redact import MASK

if TYPE_CHECKING:
    from supervisor.logs.redact import Redactor

LONGEST_BYTES = 15 * 1024
MORE = b" [line continues]"
# How far behind a cut a secret is looked for that begins before it.
_MARGIN_BYTES = 4096


class Splitter:
    """One stream. What comes out of ``feed`` are lines with their newlines, what is left waits for the next chunk.

    A line longer than ``LONGEST_BYTES`` comes out in masked pieces, each but the last with ``MORE`` at its end.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._rest = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._inside_secret = False

    def feed(self, data: bytes) -> bytes:
        """Return the lines that are complete now; empty where there are none."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._keep(data)
            return self._overlong() if self._size > self._room else b""
        begin = self._take()
        lines = begin + data[:end] if begin else data[:end] if end < len(data) else data
        self._keep(data[end:])
        if len(lines) > LONGEST_BYTES or self._inside_secret:
            lines = self._cut_long(lines)
        if self._size > self._room:
            lines += self._overlong()
        return lines

    def flush(self) -> bytes:
        """Return what is left when the stream has ended, as a last line."""
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
        """Give out pieces of a line whose end is not known yet, as many as can be cut safely."""
        rest = self._take()
        pieces = []
        while len(rest) > self._room:
            piece, rest = self._piece(rest)
            pieces.append(piece)
        self._keep(rest)
        return b"".join(pieces)

    def _cut_long(self, lines: bytes) -> bytes:
        """Cut the long ones among complete lines; the others stay as they are."""
        done = []
        at = 0
        while at < len(lines):
            if len(lines) - at <= LONGEST_BYTES and not self._inside_secret:
                done.append(lines[at:])
                break
            end = lines.rfind(b"\n", at, at + LONGEST_BYTES) + 1
            if end and not self._inside_secret:
                done.append(lines[at:end])
                at = end
                continue
            end = lines.index(b"\n", at) + 1
            rest = lines[at:end]
            at = end
            while len(rest) > LONGEST_BYTES or self._inside_secret:
                if len(rest) <= LONGEST_BYTES:
                    rest = self._past_secret(rest)
                    break
                piece, rest = self._piece(rest)
                done.append(piece)
            done.append(rest)
        return b"".join(done)

    def _piece(self, rest: bytes) -> tuple[bytes, bytes]:
        """Return a masked piece with the marker, and what follows it. No secret is cut in two."""
        rest = self._past_secret(rest)
        cut = min(LONGEST_BYTES - len(MORE) - 1, len(rest))
        for begin, end in self._redactor.spans(rest):
            if begin < cut < end:
                # Its shape may go on in what has not come yet: that is swallowed too.
                self._inside_secret = end == len(rest)
                return self._redactor.mask(rest[:begin]) + MASK + MORE + b"\n", rest[end:]
        cut = _character_border(rest, cut)
        return self._redactor.mask(rest[:cut]) + MORE + b"\n", rest[cut:]

    def _past_secret(self, rest: bytes) -> bytes:
        if not self._inside_secret:
            return rest
        kept = rest.lstrip(_SECRET_CHARACTERS)
        self._inside_secret = not kept
        return kept


# What a key or a login URL may go on with.
_SECRET_CHARACTERS = bytes(code for code in range(0x21, 0x7F) if code not in b"\"'<>\\")


def _character_border(data: bytes, cut: int) -> int:
    """Return the cut, moved to where a UTF-8 character begins."""
    for back in range(4):
        if cut - back > 0 and (cut >= len(data) or data[cut - back] & 0xC0 != 0x80):
            return cut - back
    return cut
