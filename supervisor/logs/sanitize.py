"""Makes bytes safe for terminals, JSON strings and browsers while preserving their meaning.

Control characters, Unicode's default ignorable characters (which hide or reorder text), and its line and paragraph
separators are made visible as escapes. Emoji keep their variation selectors.
"""

from __future__ import annotations

import re
from functools import cache

from supervisor.characters import ASCII, TEXT, is_clean, is_utf8, unseen
from supervisor.logs.lines import LONGEST_BYTES, all_within, wrapped

ESC = b"\x1b"
RESET = b"\x1b[0m"
COLOR_CODE = re.compile(rb"(\x1b\[[0-9;:]*m)")
# tracing-subscriber's line start, with groups for the text between codes, and its codes around field names. Replacing
# these and then other codes one by one costs half of the general pattern. Its usual time and level have a fixed width,
# which costs less to match than any width.
_HEAD, _ANY_HEAD = (
    re.compile(
        rb"\x1b\[2m" + time + rb"\x1b\[0m( )\x1b\[3[1-5]m" + level + rb"\x1b\[0m( )"
        rb"\x1b\[2m([^\x1b\n]++)\x1b\[0m\x1b\[2m(:)\x1b\[0m"
    )
    for time, level in ((rb"((?s:.{27}))", rb"((?s:.{5}))"), (rb"([^\x1b\n]++)", rb"([^\x1b\n]++)"))
)
_AROUND_NAMES = ((b"\x1b[0m\x1b[2m=\x1b[0m", b"="), (b"\x1b[3m", b""))
# The number of other codes replaced one by one: most writers use a few codes repeatedly.
_OTHER_CODES = 6
_FEW_CONTROLS = 8


def without_colors(lines: bytes) -> bytes | None:
    """Return lines without colour codes, quickly; None if something else has to be escaped."""
    text = _stripped(lines) if ESC in lines else lines
    if not text.translate(None, ASCII):
        return text
    # A code may be inside of a character.
    if not is_clean(text) or (text is not lines and not is_utf8(lines)):
        return None
    return text


def sanitize(lines: bytes) -> tuple[bytes, bytes]:
    """Return whole lines with everything made visible, without colours and with them.

    Bytes that are not UTF-8 are escaped one by one. A line that gets too long is cut, and has no colours.
    """
    colored = _shown_but_colors(lines)
    plain = COLOR_CODE.sub(b"", colored)
    if all_within(colored, LONGEST_BYTES):
        return plain, colored
    both = [(bare + b"\n", line + b"\n") for bare, line in zip(_split(plain), _split(colored), strict=True)]
    cut = [(wrapped(bare),) * 2 if len(line) > LONGEST_BYTES else (bare, line) for bare, line in both]
    return b"".join(bare for bare, _ in cut), b"".join(line for _, line in cut)


def sanitize_text(text: str) -> str:
    """Return text with everything made visible; newlines and tabs are kept."""
    data = text.encode(errors="backslashreplace")
    return data.decode() if is_clean(data) else _shown(data).decode()


def sanitize_json(data: bytes) -> bytes:
    """Return valid JSON with invisible and reordering characters escaped; its value is unchanged."""
    return data if is_clean(data) else data.decode().translate(_json_escapes()).encode()


def _stripped(lines: bytes) -> bytes:
    parts = _HEAD.split(lines)
    lines = b"".join(parts if len(parts) > 1 else _ANY_HEAD.split(lines))
    for codes, kept in _AROUND_NAMES:
        lines = lines.replace(codes, kept)
    for _ in range(_OTHER_CODES):
        found = COLOR_CODE.search(lines) if ESC in lines else None
        if found is None:
            return lines
        lines = lines.replace(found[0], b"")
    return COLOR_CODE.sub(b"", lines)


def _shown_but_colors(lines: bytes) -> bytes:
    if ESC not in lines:
        return lines if is_clean(lines) else _shown(lines)
    if COLOR_CODE.search(lines) is None:
        return _shown(lines)
    # Every second part is a colour code, because the pattern is a group.
    parts = COLOR_CODE.split(lines)
    return b"".join(part if odd % 2 or is_clean(part) else _shown(part) for odd, part in enumerate(parts))


def _shown(lines: bytes) -> bytes:
    controls = set(lines.translate(None, TEXT))
    if len(controls) <= _FEW_CONTROLS and lines.isascii():
        for control in controls:
            lines = lines.replace(bytes([control]), _escapes()[control].encode())
        return lines
    # Bytes that are not UTF-8 become surrogates: decoding calls nothing for each, and one table escapes all.
    return lines.decode(errors="surrogateescape").translate(_escapes()).encode()


def _split(lines: bytes) -> list[bytes]:
    return lines[:-1].split(b"\n")


@cache
def _escapes() -> dict[int, str]:
    controls = {code: f"\\x{code:02x}" for code in range(0x20) if chr(code) not in "\n\t"}
    no_text = {0xDC00 + code: f"\\x{code:02x}" for code in range(0x80, 0x100)}
    return {**controls, **no_text, **_json_escapes(), 0x0D: "\\r", 0x08: "\\b"}


@cache
def _json_escapes() -> dict[int, str]:
    # JSON's form of the escape, so that an app's object stays valid.
    return {code: _json_escape(code) for code in (0x7F, *unseen())}


def _json_escape(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    # JSON has no escapes beyond: there it takes a pair of UTF-16's surrogates.
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
