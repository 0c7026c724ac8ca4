"""Masks what must not be read: known secrets, anything shaped like a Tailscale key, and login URLs.

Both are found too where escapes spell them, or where what no reader sees stands within them (``logs/hidden.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.logs.hidden import may_hide, views

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

LEAST_CHARACTERS = 8
MASK = b"[redacted]"
# What one byte of a secret may be spelled with, as in \\u0041.
_LONGEST_ESCAPE_BYTES = 6
# What text has to contain before it is worth a closer look. An address is one only in tailscaled's lines, which are
# few: a control server of one's own has login pages of its own.
_HINTS = (b"tskey-", b"AuthURL", b"authenticate, visit", b"login.tailscale.com/a/")
_DAEMON_HINT = b"://"
_SETUP_HINTS = (b"code", b"Code", b"CODE")
_ADDRESS = rb"""[^\s"'<>\\\x00-\x1f\x7f]+"""
_SHAPES = (
    rb"(tskey-[A-Za-z0-9_-]+)",
    rb"(https?://login\.tailscale\.com/a/" + _ADDRESS + rb")",
    rb"""(?:AuthURL["']?(?: is |: ?|=)["']?|authenticate, visit:?\s{1,16})([a-z]+://""" + _ADDRESS + rb")",
)
_DAEMON_SHAPE = rb"""(https?://[^\s/"'<>\\]+/(?:a|auth|login|oidc|register)/""" + _ADDRESS + rb")"
# Moltis' banner, and the same as a field.
_SETUP_SHAPE = rb"""(?i)(\bset-?up[ _-]?code["']?\s*(?:[:=]|is\b)\s*["']?)([A-Za-z0-9][A-Za-z0-9-]{3,63})"""


class Span(NamedTuple):
    """A part to be masked; ``context`` is where begins what gives it away, such as the words before a URL."""

    context: int
    begin: int
    end: int


class Redactor:
    """Knows every secret; new ones may be learned at any time. Works on bytes, before a line is split.

    ``daemon`` says that the text is tailscaled's. ``masked`` counts what was masked.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[bytes] = []
        self._needles: tuple[bytes, ...] = _HINTS
        self._shapes: tuple[re.Pattern[bytes], ...] = ()
        self._setup: re.Pattern[bytes] | None = None
        self.longest_bytes = 0
        self.masked = 0
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: str) -> None:
        """Mask this value from now on, in every form that writers of JSON and URLs give it.

        Each line of a value with several lines is a secret of its own; one that is too short is left alone.
        """
        for line in secret.splitlines():
            value = line.strip()
            if len(value) >= LEAST_CHARACTERS and value not in MASK.decode():
                self._secrets += [form for form in _forms(value) if form not in self._secrets]
        self._needles = (*_HINTS, *self._secrets)
        self.longest_bytes = _LONGEST_ESCAPE_BYTES * max(map(len, self._secrets), default=0)

    def mask(self, data: bytes, *, daemon: bool = False, again: bool = False) -> bytes:
        """Return the text without what must not be read; what is looked at ``again`` is not counted.

        Costs little where there is nothing to mask.
        """
        if not self._touches(data, daemon=daemon) and not may_hide(data):
            return data
        spans = self.spans(data, daemon=daemon)
        if not spans:
            return data
        self.masked += 0 if again else len(spans)
        parts = []
        at = 0
        for span in spans:
            parts += [data[at : span.begin], MASK]
            at = span.end
        return b"".join([*parts, data[at:]])

    def _touches(self, data: bytes, *, daemon: bool) -> bool:
        # A plain loop: a generator costs twice as much.
        for needle in self._needles:
            if needle in data:
                return True
        return daemon and _DAEMON_HINT in data

    def mask_text(self, text: str) -> str:
        """Do the same to text."""
        return self.mask(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def mask_setup_code(self, data: bytes) -> bytes:
        """Hide Moltis' setup code: it is for whoever reads the container's log, not for the API."""
        if not any(hint in data for hint in _SETUP_HINTS):
            return data
        if self._setup is None:
            import re

            self._setup = re.compile(_SETUP_SHAPE)
        return self._setup.sub(rb"\1" + MASK, data)

    def spans(self, data: bytes, *, daemon: bool = False) -> list[Span]:
        """Return what is to be masked, in order and apart from each other."""
        apart: list[Span] = []
        for span in sorted(self._found(data, daemon=daemon), key=lambda found: found.begin):
            # Secrets may overlap: none may show because another was masked first.
            if apart and span.begin <= apart[-1].end:
                last = apart[-1]
                apart[-1] = Span(min(last.context, span.context), last.begin, max(last.end, span.end))
            else:
                apart.append(span)
        return apart

    def _found(self, data: bytes, *, daemon: bool) -> Iterator[Span]:
        yield from self._found_as_written(data, daemon=daemon)
        for view in views(data):
            if self._touches(view.text, daemon=daemon):
                for context, begin, end in self._found_as_written(view.text, daemon=daemon):
                    yield Span(view.begin_of(context), view.begin_of(begin), view.end_of(end))

    def _found_as_written(self, data: bytes, *, daemon: bool) -> Iterator[Span]:
        for secret in self._secrets:
            at = data.find(secret)
            while at >= 0:
                yield Span(at, at, at + len(secret))
                at = data.find(secret, at + 1)
        if any(hint in data for hint in _HINTS) or (daemon and _DAEMON_HINT in data):
            for shape in self._compiled()[: None if daemon else len(_SHAPES)]:
                for match in shape.finditer(data):
                    yield Span(match.start(), *match.span(1))

    def _compiled(self) -> tuple[re.Pattern[bytes], ...]:
        if not self._shapes:
            # Loaded for the first line that needs it: it costs the start milliseconds.
            import re

            self._shapes = tuple(re.compile(shape) for shape in (*_SHAPES, _DAEMON_SHAPE))
        return self._shapes


def _forms(value: str) -> set[bytes]:
    """Return a secret as it is and as JSON has it; what other escapes make of it is found by a view."""
    return {form.encode(errors="surrogateescape") for form in (value, value.replace("\\", "\\\\").replace('"', '\\"'))}
