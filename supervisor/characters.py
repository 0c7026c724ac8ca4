"""The characters that control a terminal or are invisible, and a quick check for them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Printable ASCII, newline and tab; and the same with the bytes of longer characters.
ASCII = bytes(code for code in range(0x7F) if code >= ord(" ") or code in b"\n\t")
TEXT = ASCII + bytes(range(0x80, 0x100))
# Unicode's default ignorable characters (DerivedCoreProperties.txt) except emoji's variation selectors, and its line
# separators and annotations.
_UNSEEN = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0)),
    *((0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
# Those of them that Python considers printable, and all of their bytes but the first.
_PRINTABLE = (b"\xcd\x8f", b"\xe1\x85", b"\xe1\x9e", b"\xe1\xa0", b"\xe3\x85\xa4", b"\xef\xbe\xa0", b"\xf3\xa0")
_OTHERS = bytes(code for code in range(256) if code not in b"\xcd\xe1\xe3\xef\xf3")
_BLANKS = bytes.maketrans(b"\n\t", b"  ")


def is_clean(data: bytes) -> bool:
    """Return whether text certainly has no such characters; a cheap check that may return False for clean text."""
    if data.translate(None, TEXT):
        return False
    if data.isascii():
        return True
    try:
        text = data.translate(_BLANKS).decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and not (data.translate(None, _OTHERS) and any(lead in data for lead in _PRINTABLE))


def is_utf8(data: bytes) -> bool:
    """Return whether it is valid UTF-8; quick for ASCII."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def unseen() -> Iterator[int]:
    """Yield the code points of these characters and of the C1 controls."""
    for first, last in ((0x80, 0x9F), *_UNSEEN):
        yield from range(first, last + 1)


def printable(text: str) -> str:
    """Return one line of text with these characters escaped, and all that Python considers not printable; tabs stay."""
    if text.isprintable() and is_clean(text.encode()):
        return text
    return "".join(
        character if character == "\t" or _is_printable(character) else ascii(character)[1:-1] for character in text
    )


def _is_printable(character: str) -> bool:
    return character.isprintable() and not any(first <= ord(character) <= last for first, last in _UNSEEN)


@cache
def unseen_pattern() -> bytes:
    """Return a pattern for the characters beyond ASCII, including C1 controls, in UTF-8."""
    # Compiled on first use: it would add milliseconds to the start.
    import re

    lasts: dict[bytes, bytes] = {}
    for code in unseen():
        character = chr(code).encode()
        lasts[character[:-1]] = lasts.get(character[:-1], b"") + character[-1:]
    return b"|".join(re.escape(lead) + b"[" + re.escape(last) + b"]" for lead, last in lasts.items())
