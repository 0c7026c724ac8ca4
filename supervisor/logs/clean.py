"""Makes bytes from anywhere fit for a terminal, a JSON string and a browser, without losing what they said."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

_ESC = b"\x1b"
_RESET = b"\x1b[0m"
# All that needs no closer look: printable ASCII, newline, tab, and the bytes of longer characters.
SAFE = bytes(code for code in range(256) if 0x20 <= code < 0x7F or code >= 0x80 or code in b"\n\t")
_FIRST_C1 = b"\xc2"
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"} | {
    0x0D: "\\r",
    0x08: "\\b",
}


def is_clean(data: bytes) -> bool:
    """Tell, at little cost, that there is nothing to be shown instead of sent."""
    if data.translate(None, SAFE):
        return False
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return _FIRST_C1 not in data


def clean(lines: bytes, *, colors: bool) -> bytes:
    """Return whole lines with every control character shown, and what is no UTF-8 shown byte by byte.

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


def _shown(lines: bytes) -> bytes:
    return lines.decode(errors="backslashreplace").translate(_SHOWN).encode()


@lru_cache(maxsize=1)
def _color_codes() -> re.Pattern[bytes]:
    # Loaded for the first line that needs it: it costs the start milliseconds.
    import re

    return re.compile(rb"(\x1b\[[0-9;:]*m)")
