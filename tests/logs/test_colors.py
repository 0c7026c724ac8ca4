"""The history keeps colours for readers that ask for them; all others get plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.logs.parse import parse_line
from supervisor.logs.redact import Redactor
from supervisor.logs.sanitize import sanitize
from tests.logs.rig import Rig

if TYPE_CHECKING:
    from supervisor.logs.history import Line

CODE = re.compile(r"\x1b\[[0-9;:]*m")
SECRET = "a-secret-of-length"
PARTS = st.lists(st.sampled_from(["word ", "\x1b[31m", "\x1b[0m", "\x1b[2J", "\x07", "é", "{", '"']), max_size=12)


async def remembered(data: bytes, **options: Any) -> list[Line]:
    """Return the lines of the history for one process' output."""
    rig = Rig(**options)
    await rig.say(data)
    rig.end()
    return list(rig.log.history.read(0, 100, "moltis").lines)


async def test_words_and_colours() -> None:
    """The message has no colours; the coloured form keeps every code and is reset at its end, in every log format."""
    for options in ({}, {"color": True}, {"format": "json"}):
        first, second = await remembered(b"\x1b[33m WARN\x1b[0m \x1b[1mhot\nplain\n", **options)
        assert (first.message, first.level) == (" WARN hot", "info")
        assert first.colored == "\x1b[33m WARN\x1b[0m \x1b[1mhot\x1b[0m"
        assert (second.message, second.colored) == ("plain", "")


async def test_the_level_is_read_past_the_colours() -> None:
    """The level is found in lines that tracing writes to a terminal."""
    (line,) = await remembered(b"\x1b[2m2026-01-02T03:04:05Z\x1b[0m \x1b[31mERROR\x1b[0m it broke\n")
    assert line.level == "error"


async def test_a_secret_that_a_colour_cuts_is_masked() -> None:
    """The secret is masked, and the rest of its line keeps its colours."""
    (line,) = await remembered(f"\x1b[31m{SECRET[:9]}\x1b[1m{SECRET[9:]}\n".encode(), secrets=[SECRET])
    assert (line.message, line.colored) == ("[redacted]", "\x1b[31m[redacted]\x1b[0m")
    (line,) = await remembered(b"\x1b[31msetup code:\x1b[0m 123-456\n")
    assert (line.message, line.colored) == ("setup code: [redacted]", "")


async def test_no_code_is_cut_in_two() -> None:
    """A line that is too long with its codes is kept without them."""
    for padding, is_colored in ((b"", True), (b"y" * 9, True), (b"\\" * 9 + b"\x07", False)):
        (line,) = await remembered(b"\x1b[31mx" * 2558 + padding + b"\n")
        assert line.message == "x" * 2558 + padding.decode().replace("\x07", "\\x07")
        assert bool(line.colored) == is_colored


async def test_codes_within_codes_and_within_characters() -> None:
    """No part of such codes reaches a reader raw."""
    for line in (b"a\x1b\x1b[0m[2mb\n", b"a\x1b[\x1b[0m2mb\n", b"caf\xc3\x1b[0m\xa9\n"):
        for options in ({}, {"color": True}, {"format": "json"}):
            rig = Rig(**options)
            await rig.say(line)
            rig.end().decode()
            (told,) = rig.log.history.read(0, 100, "moltis").lines
            assert not re.search(r"[\x00-\x1f]", told.message)
            assert CODE.sub("", told.colored) in {told.message, ""}


@given(PARTS)
def test_both_forms_say_the_same(parts: list[str]) -> None:
    """The coloured form without its codes equals the message, which contains no control characters."""
    _, kept = sanitize("".join(parts).encode() + b"\n")
    told = parse_line("moltis", kept[:-1], Redactor([]))
    if told.colored:
        assert CODE.sub("", told.colored) == told.message
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", told.message)
