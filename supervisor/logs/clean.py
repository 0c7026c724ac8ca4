"""Makes bytes from anywhere fit for a terminal, a JSON string and a browser, without losing what they said.

What is shown instead of sent: control characters, Unicode's default ignorable ones, which hide or turn what stands
around them, and its separators of lines and paragraphs. Emoji keep their variation selectors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

_ESC = b"\x1b"
_RESET = b"\x1b[0m"
# All that needs no closer look: printable ASCII, newline, tab, and the bytes of longer characters.
SAFE = bytes(code for code in range(256) if 0x20 <= code < 0x7F or code >= 0x80 or code in b"\n\t")
_BLANKS = bytes.maketrans(b"\n\t", b"  ")
# Those that Python takes for printable.
_PRINTABLE = (b"\xcd\x8f", b"\xe1\x85", b"\xe1\x9e", b"\xe1\xa0", b"\xe3\x85\xa4", b"\xef\xbe\xa0", b"\xf3\xa0")
_UNSEEN = (
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010)),
    *(*range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x3164, 0xFEFF, 0xFFA0, *range(0xFFF9, 0xFFFC)),
    *(*range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)),
)


def is_clean(data: bytes) -> bool:
    """Tell, at little cost, that there is nothing to be shown instead of sent; where in doubt it says no."""
    if data.translate(None, SAFE):
        return False
    if data.isascii():
        return True
    try:
        text = data.translate(_BLANKS).decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and not any(lead in data for lead in _PRINTABLE)


def clean(lines: bytes, *, colors: bool) -> bytes:
    """Return whole lines with every such character shown, and what is no UTF-8 shown byte by byte.

    ``colors`` keeps colour codes and ends them with their line; else they are taken out.
    """
    lines = lines.replace(b"\r\n", b"\n")
    if _ESC not in lines:
        return lines if is_clean(lines) else _shown(lines)
    if not colors:
        lines = _color_codes().sub(b"", lines)
        return lines if is_clean(lines) else _shown(lines)
    # Every second part is a colour code: the pattern is a group.
    parts = _color_codes().split(lines)
    lines = b"".join(part if odd % 2 or is_clean(part) else _shown(part) for odd, part in enumerate(parts))
    ended = [
        line + _RESET if _ESC in line and not line.endswith((_RESET, b"\x1b[m")) else line
        for line in lines.split(b"\n")
    ]
    return b"\n".join(ended)


def clean_text(text: str) -> str:
    """Return text in which nothing has to be shown any more; newlines and tabs stay."""
    return text if text.isascii() and text.isprintable() else _shown(text.encode(errors="backslashreplace")).decode()


def clean_json(data: bytes) -> bytes:
    """Return valid JSON with the characters that hide or turn others escaped: it says the same to a program."""
    return data if is_clean(data) else data.decode().translate(_json_escapes()).encode()


def _shown(lines: bytes) -> bytes:
    return lines.decode(errors="backslashreplace").translate(_escapes()).encode()


@lru_cache(maxsize=1)
def _escapes() -> dict[int, str]:
    # Made for the first line that needs it: it costs the start milliseconds.
    controls = {code: f"\\x{code:02x}" for code in range(0x20) if chr(code) not in "\n\t"}
    return {**controls, **_json_escapes(), 0x0D: "\\r", 0x08: "\\b"}


@lru_cache(maxsize=1)
def _json_escapes() -> dict[int, str]:
    import json

    # JSON's form everywhere: an app's own object stays one.
    return {0x7F: r"\u007f", **{code: json.dumps(chr(code))[1:-1] for code in (*range(0x80, 0xA0), *_UNSEEN)}}


@lru_cache(maxsize=1)
def _color_codes() -> re.Pattern[bytes]:
    # Loaded for the first line that needs it: it costs the start milliseconds.
    import re

    return re.compile(rb"(\x1b\[[0-9;:]*m)")
