"""Text as its reader gets it: escapes decoded, and without what no reader sees. Secrets are looked for in it."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

# JSON's escapes, those of Python and Rust for what is not printable, and a URL's.
_ESCAPES = (
    rb"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u([0-9a-fA-F]{4})|\\u\{([0-9a-fA-F]{1,6})\}|\\x([0-9a-fA-F]{2})|%([0-9a-fA-F]{2})|\\([\"\\/])"
)
# Escape sequences of terminals (ECMA-48), other control characters, and Unicode's default ignorable ones in UTF-8.
_UNSEEN = (
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ #%()*+][0-9A-Za-z])?"
    rb"|[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f\xad]|\xcd\x8f|\xd8\x9c|\xe1(?:\x85[\x9f\xa0]|\x9e[\xb4\xb5]|\xa0[\x8b-\x8f])"
    rb"|\xe2(?:\x80[\x8b-\x8f\xa8-\xae]|\x81[\xa0-\xaf])|\xe3\x85\xa4|\xef(?:\xb8[\x80-\x8f]|\xbb\xbf|\xbe\xa0|\xbf[\xb9-\xbb])"
    rb"|\xf0(?:\x9b\xb2[\xa0-\xa3]|\x9d\x85[\xb3-\xba])|\xf3\xa0[\x80-\xbf]{2}"
)
# The groups of _ESCAPES.
_PAIR, _BYTES, _CHARACTER = 2, (5, 6), 7
_USUAL = bytes(code for code in range(256) if 0x20 <= code < 0x7F or code in b"\n\t")
_MOST_CODE = 0x10FFFF


class View(NamedTuple):
    """What a reader gets of some bytes, and where it comes from.

    Each part begins at ``at`` in the text and at ``begins`` in the bytes; it is an escape that ends there at ``ends``,
    or as it was, with -1 for an end. ``bytes_of`` is the view of which this is one in turn.
    """

    text: bytes
    at: list[int]
    begins: list[int]
    ends: list[int]
    bytes_of: View | None

    def begin_of(self, place: int) -> int:
        """Return where in the bytes what stands at this place begins."""
        part = bisect_right(self.at, place) - 1
        begin = self.begins[part] + (place - self.at[part] if self.ends[part] < 0 else 0)
        return begin if self.bytes_of is None else self.bytes_of.begin_of(begin)

    def end_of(self, place: int) -> int:
        """Return where in the bytes what ends at this place ends."""
        part = bisect_right(self.at, place - 1) - 1
        end = self.begins[part] + place - self.at[part] if self.ends[part] < 0 else self.ends[part]
        return end if self.bytes_of is None else self.bytes_of.end_of(end)


def may_hide(data: bytes) -> bool:
    """Tell, at little cost, whether a reader may get something else than these bytes."""
    escaped = b"%" in data or (b"\\" in data and (b"\\u" in data or b"\\/" in data or b"\\x" in data))
    return escaped or bool(data.translate(None, _USUAL))


def views(data: bytes) -> Iterator[View]:
    """Yield each way to read the bytes that differs from them."""
    seen = _view(_unseen(), data)
    if seen is not None:
        yield seen
    spelled = _view(_escapes(), data)
    if spelled is not None:
        yield spelled
        both = _view(_unseen(), spelled.text, spelled)
        if both is not None:
            yield both


def _view(pattern: re.Pattern[bytes], data: bytes, bytes_of: View | None = None) -> View | None:
    view = View(b"", [], [], [], bytes_of)
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

    for found in pattern.finditer(data):
        begin, end = found.span()
        add(data[done:begin], done, -1)
        add(_decoded(found), begin, end)
        done = end
    if not done:
        return None
    add(data[done:], done, -1)
    return view._replace(text=b"".join(parts))


def _decoded(found: re.Match[bytes]) -> bytes:
    """Return what an escape stands for."""
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


@lru_cache(maxsize=1)
def _escapes() -> re.Pattern[bytes]:
    # Loaded for the first line that needs it: it costs the start milliseconds.
    import re

    return re.compile(_ESCAPES)


@lru_cache(maxsize=1)
def _unseen() -> re.Pattern[bytes]:
    import re

    return re.compile(_UNSEEN)
