"""Masks secrets in text: known values, anything shaped like a Tailscale key, and login URLs.

They are searched for in the text itself and in what its reader sees: with escapes decoded, and without invisible
characters. Masking happens only here; ``LogPipeline`` and ``LineSplitter`` call it.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from supervisor.characters import is_clean, is_utf8, unseen_pattern
from supervisor.moltis import SETUP_CODE, SETUP_CODE_HINTS
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator

LEAST_CHARACTERS = 8
MASK = b"[redacted]"
# Spellings of one byte of a secret, as in \u0041.
_LONGEST_ESCAPE_BYTES = 6
# What text must contain to be searched in full. URLs are searched for in tailscaled's lines only, which are few,
# because a self-hosted control server has its own login pages.
_ANNOUNCED = b"authenticate, visit"
_HINTS = (b"tskey-", b"AuthURL", _ANNOUNCED, b"login.tailscale.com/a/")
_DAEMON_HINT = b"://"
_ADDRESS = rb"""[^\s"'<>\\\x00-\x1f\x7f]+"""
_SHAPES = (
    rb"(tskey-[A-Za-z0-9_-]+)",
    rb"(https?://login\.tailscale\.com/a/" + _ADDRESS + rb")",
    rb"""(?:AuthURL["']?(?: is |: ?|=)["']?|authenticate, visit:?\s{1,16})([a-z]+://""" + _ADDRESS + rb")",
)
_DAEMON_SHAPE = rb"""(https?://[^\s/"'<>\\]+/(?:a|auth|login|oidc|register)/""" + _ADDRESS + rb")"
# Escapes of JSON, and of Python and Rust for unprintable characters; then of URLs.
_ESCAPES = (
    rb"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u([0-9a-fA-F]{4})|\\u\{([0-9a-fA-F]{1,6})\}|\\x([0-9a-fA-F]{2})|\\([\"\\/'])"
)
_BYTE = rb"\\x([0-9a-fA-F]{2})"
_URL_ESCAPES = rb"|%([0-9a-fA-F]{2})"
# Text may be escaped again, as JSON within JSON; such text has an escaped backslash or percent sign.
_MOST_NESTED = 3
_NESTED = rb"\\\\|%25|%5[cC]|\\(?:u00|x|u\{)(?:25|5[cC])"
# One of these is in it, which costs less to see.
_NESTED_HINTS = (b"\\\\", b"%", b"\\x", b"\\u{", b"\\u0025", b"\\u005c", b"\\u005C")
_ESCAPE_SIGNS = (b"\\", b"%", b"\x1b")
# Credentials of HTTP's Basic scheme, in which a password is not readable as such.
_BASIC_HINT = b"Basic "
_BASIC = rb"Basic {1,4}([A-Za-z0-9+/_-]{8,}={0,2})"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# The groups of the pattern.
_PAIR, _BYTES, _CHARACTER = 2, (5, 7), 6
# Escape sequences of terminals (ECMA-48), and other control characters.
_SEQUENCE = rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ #%()*+][0-9A-Za-z])?"
# Their introducer as a single character, in UTF-8.
_C1 = b"\xc2\x9b"
_C1_SEQUENCE = rb"\xc2\x9b[0-?]*[ -/]*[@-~]|"
_FEW_SEQUENCES = 8
# Where there are fewer, the lines that have one are searched for: random bytes have two in as many.
_BYTES_AN_ESCAPE = 100
_CONTROL = rb"|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]+|"
_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code not in b"\n\t")
_MOST_CODE = 0x10FFFF
# Larger numbers of literals are found by the words they contain, at a cost independent of their number.
_FEW_LITERALS = 24
# A login that is refused for months gets a new token and a new key each quarter of an hour.
MOST_SHORT_LIVED = 64
_WORD_BYTES = 4
_SHORT_BYTES = 64


class SecretSpan(NamedTuple):
    """A range to be masked; ``context`` is the start of what identifies it, such as the words before a URL."""

    context: int
    begin: int
    end: int


class Redactor:
    """Masks all known secrets; new ones can be added at any time. Works on bytes, before lines are split.

    ``daemon`` is whether the text is tailscaled's. ``masked`` counts replacements.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lasting: dict[bytes, None] = {}
        # The forms of each value, the newest last.
        self._short_lived: dict[str, tuple[bytes, ...]] = {}
        self._secrets: list[bytes] = []
        self._literals: Callable[[bytes], bool] = _Few(())
        self.longest_bytes = 0
        self.masked = 0
        for secret in secrets:
            self._lasting.update(_forms_of(secret))
        self._look_for_all()

    def learn(self, secret: str) -> None:
        """Mask a value from now on, in every form in which JSON and URLs may spell it.

        Each line of a multi-line value is a secret of its own; values that are too short are ignored.
        """
        forms = _forms_of(secret)
        if not forms.keys() <= self._lasting.keys():
            self._lasting.update(forms)
            self._look_for_all()

    def learn_short_lived(self, secret: str) -> None:
        """Mask a value that is of no use after an hour, such as an access token or a login URL: the last 64 of them."""
        forms = self._short_lived.pop(secret, None)
        self._short_lived[secret] = tuple(_forms_of(secret)) if forms is None else forms
        if forms is None:
            if len(self._short_lived) > MOST_SHORT_LIVED:
                del self._short_lived[next(iter(self._short_lived))]
            self._look_for_all()

    def _look_for_all(self) -> None:
        self._secrets = [*self._lasting, *chain.from_iterable(self._short_lived.values())]
        self._literals = _Few(self._secrets) if len(self._secrets) <= _FEW_LITERALS else _Many(self._secrets)
        self.longest_bytes = _LONGEST_ESCAPE_BYTES * max(map(len, self._secrets), default=0)

    def touches(self, text: bytes, *, daemon: bool = False) -> bool:
        """Return whether text without invisible characters may contain a secret; a cheap check."""
        if self._may_hold(text, daemon=daemon):
            return True
        if b"\\" not in text and b"%" not in text:
            return False
        for spelled in _deeply_spelled_out(_with_escapes(text)):
            if self._may_hold(spelled, daemon=daemon):
                return True
            if not is_clean(spelled) and self._may_hold(_without_unseen(spelled), daemon=daemon):
                return True
        return False

    def is_free_of_secrets(self, texts: Iterable[bytes], *, daemon: bool = False) -> bool:
        """Return whether certainly none of the texts holds a secret; cheaper than to mask each."""
        together = b"\n".join(texts)
        # Escapes are decoded in text as a whole: what one text ends with could hide what the next one begins with.
        return not any(sign in together for sign in _ESCAPE_SIGNS) and not self.spans(together, daemon=daemon)

    def mask(self, data: bytes, *, daemon: bool = False) -> bytes:
        """Return the text with secrets masked."""
        spans = self.spans(data, daemon=daemon)
        if not spans:
            return data
        self.masked += len(spans)
        parts = []
        at = 0
        for span in spans:
            parts += [data[at : span.begin], MASK]
            at = span.end
        return b"".join([*parts, data[at:]])

    def mask_text(self, text: str) -> str:
        """The same for ``str``."""
        return self.mask(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def mask_setup_code(self, data: bytes) -> bytes:
        """Mask Moltis' setup code, which only the container's log may show, not the API."""
        lower = data.lower()
        if any(hint not in lower for hint in SETUP_CODE_HINTS):
            return data
        return _compiled(SETUP_CODE).sub(rb"\1" + MASK, data)

    def spans(self, data: bytes, *, daemon: bool = False) -> list[SecretSpan]:
        """Return the ranges to mask, in order and without overlap; quick if there are none."""
        if not self.touches(data, daemon=daemon) and not self._hides(data, daemon=daemon):
            return []
        apart: list[SecretSpan] = []
        for span in sorted(self._found(data, daemon=daemon), key=lambda found: found.begin):
            # Secrets may overlap: masking one must not leave a part of another visible.
            if apart and span.begin <= apart[-1].end:
                last = apart[-1]
                apart[-1] = SecretSpan(min(last.context, span.context), last.begin, max(last.end, span.end))
            else:
                apart.append(span)
        return apart

    def _may_hold(self, data: bytes, *, daemon: bool) -> bool:
        return (
            _has_any(data, _HINTS)
            or self._literals(data)
            or (daemon and _has_any(data, (_DAEMON_HINT,)))
            or any(self._basic_credentials(data))
        )

    def _basic_credentials(self, data: bytes) -> Iterator[SecretSpan]:
        # Looking for one byte costs a tenth.
        if b"B" not in data or not _has_any(data, (_BASIC_HINT,)):
            return
        # Needed here only.
        from binascii import a2b_base64

        for match in _compiled(_BASIC).finditer(data):
            text = match[1].rstrip(b"=").translate(_URL_SAFE)
            with suppress(ValueError):
                if self._literals(a2b_base64(text + b"=" * (-len(text) % 4))):
                    yield SecretSpan(match.start(), *match.span(1))

    def _hides(self, data: bytes, *, daemon: bool) -> bool:
        """Return whether a secret may appear when invisible characters are removed."""
        return not is_clean(data) and self.touches(_without_unseen(data), daemon=daemon)

    def _found(self, data: bytes, *, daemon: bool) -> Iterator[SecretSpan]:
        yield from self._found_as_written(data, daemon=daemon)
        seen = data if is_clean(data) else _without_unseen(data)
        if seen is data and b"\\" not in data and b"%" not in data:
            return
        lines = [data], [seen]
        if _ANNOUNCED not in seen:
            # Views are expensive: one is made for each line that needs it. An announced URL may follow lines later.
            lines = data.split(b"\n"), seen.split(b"\n")
        at = 0
        for line, read in zip(*lines, strict=True):
            for view in _views(line) if self.touches(read, daemon=daemon) else ():
                for context, begin, end in self._found_as_written(view.text, daemon=daemon):
                    yield SecretSpan(at + view.begin_of(context), at + view.begin_of(begin), at + view.end_of(end))
            at += len(line) + 1

    def _found_as_written(self, data: bytes, *, daemon: bool) -> Iterator[SecretSpan]:
        for secret in self._secrets if self._literals(data) else ():
            at = data.find(secret)
            while at >= 0:
                yield SecretSpan(at, at, at + len(secret))
                at = data.find(secret, at + 1)
        yield from self._basic_credentials(data)
        if _has_any(data, _HINTS) or (daemon and _DAEMON_HINT in data):
            for shape in (*_SHAPES, _DAEMON_SHAPE) if daemon else _SHAPES:
                for match in _compiled(shape).finditer(data):
                    yield SecretSpan(match.start(), *match.span(1))


def _has_any(data: bytes, words: Iterable[bytes]) -> bool:
    """Return whether the text contains any of a few short words."""
    # From the end: CPython looks for short words in long text from the start by a method that takes four times as long.
    # At worst its time grows with the length of the word.
    return max(map(data.rfind, words), default=-1) >= 0


class _Few:
    """Finds out whether a text contains any of a few literals."""

    def __init__(self, literals: Iterable[bytes]) -> None:
        self._short: list[bytes] = []
        self._long: list[bytes] = []
        for literal in literals:
            (self._short if len(literal) <= _SHORT_BYTES else self._long).append(literal)

    def __call__(self, data: bytes) -> bool:
        return _has_any(data, self._short) or any(map(data.__contains__, self._long))


class _Many:
    """The same for many literals: each contains a word of four bytes that is looked up in the text's words."""

    def __init__(self, literals: Iterable[bytes]) -> None:
        self._by_word: dict[int, list[tuple[int, bytes]]] = {}
        for literal in literals:
            for at in range(_WORD_BYTES):
                (word,) = memoryview(literal[at : at + _WORD_BYTES]).cast("I")
                self._by_word.setdefault(word, []).append((at, literal))

    def __call__(self, data: bytes) -> bool:
        words = memoryview(data)[: len(data) // _WORD_BYTES * _WORD_BYTES].cast("I")
        if self._by_word.keys().isdisjoint(words):
            return False
        return any(
            data.startswith(literal, place * _WORD_BYTES - at)
            for place, word in enumerate(words)
            for at, literal in self._by_word.get(word, ())
            if place * _WORD_BYTES >= at
        )


class _View(NamedTuple):
    """A decoded view of bytes that maps positions back to them.

    Each part begins at ``at`` in the text and at ``begins`` in the bytes. ``ends`` is where an escape ends in the
    bytes, -1 for literal text. ``bytes_of`` is the view that this one is based on.
    """

    text: bytes
    at: list[int]
    begins: list[int]
    ends: list[int]
    bytes_of: _View | None

    def begin_of(self, place: int) -> int:
        """Return the position in the bytes of what begins at this position of the text."""
        part = bisect_right(self.at, place) - 1
        begin = self.begins[part] + (place - self.at[part] if self.ends[part] < 0 else 0)
        return begin if self.bytes_of is None else self.bytes_of.begin_of(begin)

    def end_of(self, place: int) -> int:
        """Return the position in the bytes of what ends at this position of the text."""
        part = bisect_right(self.at, place - 1) - 1
        end = self.begins[part] + place - self.at[part] if self.ends[part] < 0 else self.ends[part]
        return end if self.bytes_of is None else self.bytes_of.end_of(end)


def _views(data: bytes) -> Iterator[_View]:
    """Yield each decoded view of the bytes that differs from them."""
    seen = None if is_clean(data) else _view(_unseen(), data)
    if seen is not None:
        yield seen
    patterns = (_ESCAPES,) if b"\\" in data else ()
    for escapes in (*patterns, _ESCAPES + _URL_ESCAPES) if b"%" in data else patterns:
        spelled = _view(escapes, data)
        for _ in range(_MOST_NESTED):
            if spelled is None:
                break
            yield spelled
            both = None if is_clean(spelled.text) else _view(_unseen(), spelled.text, spelled)
            if both is not None:
                yield both
            spelled = _view(escapes, spelled.text, spelled)


def _view(pattern: bytes, data: bytes, bytes_of: _View | None = None) -> _View | None:
    view = _View(b"", [], [], [], bytes_of)
    parts: list[bytes] = []
    size = done = 0

    def add(part: bytes, begin: int, end: int) -> None:
        nonlocal size
        if part:
            view.at.append(size)
            view.begins.append(begin)
            view.ends.append(end)
            parts.append(part)
            size += len(part)

    for found in _compiled(pattern).finditer(data):
        begin, end = found.span()
        add(data[done:begin], done, -1)
        add(_decoded(found), begin, end)
        done = end
    if not done:
        return None
    add(data[done:], done, -1)
    return view._replace(text=b"".join(parts))


def _decoded(found: re.Match[bytes]) -> bytes:
    """Return the value of an escape."""
    group = found.lastindex
    if group is None:
        return b""
    if group == _CHARACTER:
        return found[group]
    code = int(found[group], 16)
    if group in _BYTES:
        return bytes([code])
    if group == _PAIR:
        code = 0x10000 + ((int(found[1], 16) - 0xD800) << 10) + code - 0xDC00
    return chr(min(code, _MOST_CODE)).encode(errors="surrogatepass")


def _without_unseen(data: bytes) -> bytes:
    """Return the text of the view without invisible characters, faster: most sequences repeat."""
    if _C1 in data:
        data = _compiled(_C1_SEQUENCE + _SEQUENCE).sub(b"", data)
    for _ in range(_FEW_SEQUENCES):
        found = _compiled(_SEQUENCE).search(data) if b"\x1b" in data else None
        # An escape alone is a part of every sequence.
        if found is None or found[0] == b"\x1b":
            break
        data = data.replace(found[0], b"")
    data = _compiled(_SEQUENCE).sub(b"", data).translate(None, _CONTROLS)
    # Only these are left, and each begins with a literal byte: re skips to those, and tries no pattern elsewhere.
    return data if data.isascii() else _compiled(unseen_pattern()).sub(b"", data)


def _unseen() -> bytes:
    return _C1_SEQUENCE + _SEQUENCE + _CONTROL + unseen_pattern()


def _with_escapes(text: bytes) -> bytes:
    """Return the lines that contain an escape, since no other changes; all lines where many may."""
    if text.count(b"\\") + text.count(b"%") > len(text) // _BYTES_AN_ESCAPE:
        return text
    lines = []
    end = 0
    for found in _compiled(_ESCAPES + _URL_ESCAPES).finditer(text):
        if found.start() >= end:
            begin, end = text.rfind(b"\n", 0, found.start()) + 1, text.find(b"\n", found.end()) + 1 or len(text)
            lines.append(text[begin:end])
    return b"".join(lines)


def _deeply_spelled_out(text: bytes) -> Iterator[bytes]:
    """Yield the text with escapes decoded, and lines in which they are nested with those decoded too."""
    yield from _spelled_out(text)
    nested = _with_nested(text)
    escapes = _compiled(_ESCAPES + _URL_ESCAPES).search
    for bytes_of in (_compiled(_BYTE), _compiled(_BYTE + _URL_ESCAPES)) if nested else ():
        deeper = nested
        for _ in range(_MOST_NESTED):
            if escapes(deeper) is None:
                break
            deeper = next(_spelled_out(deeper), deeper)
            deeper = bytes_of.sub(lambda found: bytes([int(found[found.lastindex or 1], 16)]), deeper)
            yield deeper


def _with_nested(text: bytes) -> bytes:
    """Return the lines of text that contain an escaped escape; others need no further look, and bytes are no text."""
    nested = _compiled(_NESTED).search
    if not _has_any(text, _NESTED_HINTS) or nested(text) is None:
        return b""
    return b"\n".join([line for line in text.split(b"\n") if nested(line) and is_utf8(line)])


def _spelled_out(text: bytes) -> Iterator[bytes]:
    """Yield the text with escapes decoded, as in the views but faster, since no positions are needed."""
    if b"\\u{" in text:
        for view in _views(text):
            yield view.text
        return
    text = text.replace(b"\\\\", b"\0").replace(b"\\/", b"/").replace(b'\\"', b'"')
    text = text.replace(b"\\'", b"'").replace(b"\\U", b"\0U")
    if b"\\u" in text:
        units = text.decode(errors="replace").encode("raw_unicode_escape").decode("raw_unicode_escape", "replace")
        text = units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    yield text.replace(b"\0", b"\\")
    if b"%" in text or b"\\x" in text:
        units = text.replace(b"%", b"\\u00").replace(b"\\x", b"\\u00").decode("raw_unicode_escape", "replace")
        yield units.encode("latin-1", "replace").replace(b"\0", b"\\")


def _forms_of(secret: str) -> dict[bytes, None]:
    """Return the raw and JSON forms of a secret's lines, and those of HTML forms, without what is too short.

    Other escapes are found through a view.
    """
    forms: dict[bytes, None] = {}
    for line in secret.splitlines():
        value = line.strip()
        if len(value) >= LEAST_CHARACTERS and value not in MASK.decode():
            in_json = value.replace("\\", "\\\\").replace('"', '\\"')
            for form in (value, in_json, value.replace(" ", "+")):
                forms[form.encode(errors="surrogateescape")] = None
    return forms


@cache
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    # Compiled on first use: it would add milliseconds to the start.
    import re

    return re.compile(pattern)
