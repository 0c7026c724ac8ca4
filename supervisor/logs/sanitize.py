"""Makes bytes from anywhere fit for a terminal, a JSON string and a browser, without losing what they said.

What is shown instead of sent: control characters, Unicode's default ignorable ones, which hide or turn what stands
around them, and its separators of lines and paragraphs. Emoji keep their variation selectors.
"""

from __future__ import annotations

import re
from functools import cache

from supervisor.logs.lines import LONGEST_BYTES, all_within, wrapped

ESC = b"\x1b"
RESET = b"\x1b[0m"
COLOR_CODE = re.compile(rb"(\x1b\[[0-9;:]*m)")
# Those of tracing-subscriber, most frequent first: some replacements cost half of what the pattern does.
_USUAL_CODES = (b"\x1b[0m\x1b[2m", RESET, b"\x1b[2m", b"\x1b[3m", b"\x1b[32m", b"\x1b[33m", b"\x1b[1m")
# What needs no closer look: printable ASCII, newline and tab; and the same with the bytes of longer characters.
_ASCII = bytes(code for code in range(0x7F) if code >= 0x20 or code in b"\n\t")
_TEXT = _ASCII + bytes(range(0x80, 0x100))
_BLANKS = bytes.maketrans(b"\n\t", b"  ")
# Those of what is not seen that Python takes for printable, and all bytes but their first ones.
_PRINTABLE = (b"\xcd\x8f", b"\xe1\x85", b"\xe1\x9e", b"\xe1\xa0", b"\xe3\x85\xa4", b"\xef\xbe\xa0", b"\xf3\xa0")
_OTHERS = bytes(code for code in range(256) if code not in b"\xcd\xe1\xe3\xef\xf3")
_UNSEEN = (
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010)),
    *(*range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x3164, 0xFEFF, 0xFFA0, *range(0xFFF9, 0xFFFC)),
    *(*range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)),
)


def without_colors(lines: bytes) -> bytes | None:
    """Return lines without colour codes, at little cost; None where something else is to be shown."""
    if not lines.translate(None, _ASCII):
        return lines
    if ESC in lines:
        lines = _stripped(lines)
        if not lines.translate(None, _ASCII):
            return lines
    return lines if is_clean(lines) else None


def sanitize(lines: bytes) -> tuple[bytes, bytes]:
    """Return whole lines in which everything is shown, without colours and with them.

    Bytes that are not UTF-8 are shown one by one. A line that has become too long is cut, and is without colours.
    """
    colored = _shown_but_colors(lines)
    plain = COLOR_CODE.sub(b"", colored)
    if all_within(colored, LONGEST_BYTES):
        return plain, colored
    both = [(bare + b"\n", line + b"\n") for bare, line in zip(_split(plain), _split(colored), strict=True)]
    cut = [(wrapped(bare),) * 2 if len(line) > LONGEST_BYTES else (bare, line) for bare, line in both]
    return b"".join(bare for bare, _ in cut), b"".join(line for _, line in cut)


def sanitize_text(text: str) -> str:
    """Return text in which nothing has to be shown any more; newlines and tabs stay."""
    return text if text.isascii() and text.isprintable() else _shown(text.encode(errors="backslashreplace")).decode()


def sanitize_json(data: bytes) -> bytes:
    """Return valid JSON with the characters that hide or turn others escaped: it says the same to a program."""
    return data if is_clean(data) else data.decode().translate(_json_escapes()).encode()


def is_clean(data: bytes) -> bool:
    """Tell, at little cost, that there is nothing to be shown instead of sent; where in doubt it says no."""
    if data.translate(None, _TEXT):
        return False
    if data.isascii():
        return True
    try:
        text = data.translate(_BLANKS).decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and not (data.translate(None, _OTHERS) and any(lead in data for lead in _PRINTABLE))


def _stripped(lines: bytes) -> bytes:
    for code in _USUAL_CODES:
        lines = lines.replace(code, b"")
    return COLOR_CODE.sub(b"", lines) if ESC in lines else lines


def _shown_but_colors(lines: bytes) -> bytes:
    if ESC not in lines:
        return lines if is_clean(lines) else _shown(lines)
    # Every second part is a colour code: the pattern is a group.
    parts = COLOR_CODE.split(lines)
    return b"".join(part if odd % 2 or is_clean(part) else _shown(part) for odd, part in enumerate(parts))


def _shown(lines: bytes) -> bytes:
    return lines.decode(errors="backslashreplace").translate(_escapes()).encode()


def _split(lines: bytes) -> list[bytes]:
    return lines[:-1].split(b"\n")


@cache
def _escapes() -> dict[int, str]:
    controls = {code: f"\\x{code:02x}" for code in range(0x20) if chr(code) not in "\n\t"}
    return {**controls, **_json_escapes(), 0x0D: "\\r", 0x08: "\\b"}


@cache
def _json_escapes() -> dict[int, str]:
    import json

    # JSON's form everywhere: an app's own object stays one.
    return {0x7F: r"\u007f", **{code: json.dumps(chr(code))[1:-1] for code in (*range(0x80, 0xA0), *_UNSEEN)}}
