"""Masks what must not be read: known secrets, anything shaped like a Tailscale key, and login URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

LEAST_CHARACTERS = 8
MASK = b"[redacted]"
# What a line has to contain before it is worth a closer look.
_KEY = b"tskey-"
_LOGIN_HINTS = (b"AuthURL", b"authenticate, visit", b"login.tailscale.com/", b"BrowseToURL")
_SETUP_HINT = b"etup code"
# A key's own alphabet; a login URL ends at white space or a quote. The third is Moltis' banner.
_KEY_SHAPE = rb"tskey-[A-Za-z0-9_-]+"
_URL_SHAPE = (
    rb"""(?:https?://login\.tailscale\.com/[^\s"'<>\\]+)"""
    rb"""|(?:(?<=AuthURL is )|(?<=AuthURL: )|(?<=BrowseToURL=))[a-z]+://[^\s"'<>\\]+"""
)
_VISIT_SHAPE = rb"""(authenticate, visit:?\s+)[a-z]+://[^\s"'<>\\]+"""
_SETUP_SHAPE = rb"""([Ss]etup code:?[\s\x1b\[0-9;m"]*)([A-Za-z0-9]{6,16})"""


class Redactor:
    """Knows every secret; new ones may be learned at any time. Works on bytes, before a line is split."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[bytes] = []
        self._shapes: tuple[re.Pattern[bytes], ...] = ()
        self._setup: re.Pattern[bytes] | None = None
        self.needles: tuple[bytes, ...] = (_KEY, *_LOGIN_HINTS)
        for secret in secrets:
            self.learn(secret)

    @property
    def longest_bytes(self) -> int:
        """Return the length of the longest known secret."""
        return max((len(secret) for secret in self._secrets), default=0)

    def learn(self, secret: str) -> None:
        """Mask this value from now on, in every form that a JSON writer gives it; one too short is left alone."""
        if len(secret) < LEAST_CHARACTERS:
            return
        plain = secret.encode(errors="surrogateescape")
        in_json = plain.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        for form in {plain, in_json, in_json.replace(b"/", b"\\/")}:
            if form not in self._secrets:
                self._secrets.append(form)
        # The longest first: one may be a part of another.
        self._secrets.sort(key=len, reverse=True)
        self.needles = (_KEY, *_LOGIN_HINTS, *self._secrets)

    def touches(self, data: bytes) -> bool:
        """Tell, at little cost, whether there may be something to mask."""
        return any(needle in data for needle in self.needles)

    def mask(self, data: bytes) -> bytes:
        """Return the text without what must not be read."""
        for secret in self._secrets:
            data = data.replace(secret, MASK)
        if _KEY in data or any(hint in data for hint in _LOGIN_HINTS):
            key, url, visit = self._compiled()
            data = visit.sub(rb"\1" + MASK, url.sub(MASK, key.sub(MASK, data)))
        return data

    def mask_text(self, text: str) -> str:
        """Do the same to text."""
        return self.mask(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def mask_setup_code(self, data: bytes) -> bytes:
        """Hide Moltis' setup code: it is for whoever reads the container's log, not for the API."""
        if _SETUP_HINT not in data:
            return data
        if self._setup is None:
            import re

            self._setup = re.compile(_SETUP_SHAPE)
        return self._setup.sub(rb"\1" + MASK, data)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return where something is masked, as begin and end; for whoever must not cut inside."""
        found = []
        for secret in self._secrets:
            at = data.find(secret)
            while at >= 0:
                found.append((at, at + len(secret)))
                at = data.find(secret, at + 1)
        if _KEY in data or any(hint in data for hint in _LOGIN_HINTS):
            found += [match.span() for shape in self._compiled() for match in shape.finditer(data)]
        return found

    def _compiled(self) -> tuple[re.Pattern[bytes], ...]:
        if not self._shapes:
            # Loaded for the first line that needs it: it costs the start milliseconds.
            import re

            self._shapes = (re.compile(_KEY_SHAPE), re.compile(_URL_SHAPE), re.compile(_VISIT_SHAPE))
        return self._shapes
