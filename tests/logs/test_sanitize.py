"""Control characters are made visible; colour codes go to terminals only."""

from __future__ import annotations

import json
import re
import sys

from hypothesis import assume, given
from hypothesis import strategies as st

from supervisor.characters import is_clean, printable
from supervisor.logs.sanitize import sanitize, sanitize_json, without_colors
from tests.logs.ignorable import IGNORABLE, SELECTORS
from tests.logs.rig import Rig, said

UNSEEN = "".join(map(chr, IGNORABLE - SELECTORS)) + "\u2028\u2029\ufff9\ufffa\ufffb"
DANGEROUS = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{UNSEEN}]")
ONES = st.deferred(lambda: st.sampled_from(DANGEROUS.findall("".join(map(chr, range(sys.maxunicode + 1))))))
LINES = st.lists(
    st.one_of(
        st.binary(max_size=60).map(lambda part: part.replace(b"\n", b"")),
        st.sampled_from(
            [
                b"\x1b[31mred\x1b[0m",
                b"\xc3\x1b[0m\xa9",
                b"\x1b[2J",
                b"\x1b]0;title\x07",
                b"a\r",
                "\x9b31m".encode(),
                b"\x9b1m",
            ]
            + [character.encode() for character in ("\u202e", "\u200b", "\u2028", "\u3164", "\U000e0041")]
        ),
    ),
    min_size=1,
    max_size=12,
).map(lambda parts: b"".join(part + b"\n" for part in parts))


@given(LINES)
def test_nothing_reaches_a_terminal_but_text(lines: bytes) -> None:
    """Whatever the input, the result is valid UTF-8 without control characters, line by line."""
    out = sanitize(lines)[0].decode()
    assert not DANGEROUS.search(out)
    assert out.count("\n") == lines.count(b"\n")
    assert sanitize(out.encode())[0] == out.encode()
    assert is_clean(out.encode()) or not out.isascii()


@given(st.lists(st.one_of(st.binary(max_size=4), st.sampled_from(["é", "\ud800", "漢", "🦊", "\udcff"])), max_size=20))
def test_bytes_that_are_not_utf_8_are_escaped_one_by_one(parts: list[bytes | str]) -> None:
    """They are escaped as by Python's *backslashreplace*, even if they resemble surrogates; valid text is unchanged."""
    line = b"".join(part if isinstance(part, bytes) else part.encode(errors="surrogatepass") for part in parts)
    line = line.translate(None, bytes(range(0x20)) + b"\x7f")
    expected = line.decode(errors="backslashreplace")
    assume(not DANGEROUS.search(expected))
    assert sanitize(line + b"\n")[0].decode() == expected + "\n"


@given(LINES)
def test_colours_are_all_that_passes_to_a_terminal(lines: bytes) -> None:
    """The coloured output without its colour codes equals the plain output."""
    plain, colored = sanitize(lines)
    assert re.sub(rb"\x1b\[[0-9;:]*m", b"", colored) == plain
    assert without_colors(lines) in {None, plain}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=100).filter(lambda t: not DANGEROUS.search(t)))
def test_clean_text_is_unchanged(text: str) -> None:
    """Text in any language is unchanged."""
    data = text.encode() + b"\n"
    assert sanitize(data) == (data, data)


@given(st.lists(ONES, min_size=1, max_size=5), st.sampled_from(["", "{", '{"message":"']))
async def test_nothing_unseen_reaches_a_reader(characters: list[str], begin: str) -> None:
    """Characters that hide or reorder text are made visible in every log, in the API and in an app's objects."""
    forged = "\N{SNOWMAN}".join(["", *characters, ""])
    lines = "".join(
        [f"{begin}{forged}\n", json.dumps({"message": forged, forged: {"deep": [forged]}}, ensure_ascii=False), "\n"]
    )
    for options in ({}, {"color": True}, {"format": "json"}):
        rig = Rig(**options)
        await rig.say(lines.encode())
        rig.log.record("info", "told", why=forged, names=[forged])
        out = rig.end().decode()
        assert not DANGEROUS.search(re.sub(r"\x1b\[[0-9;]*m", "", out))
        told = [line.message for line in rig.log.history.read().lines]
        assert len(told) >= 3
        assert not any(DANGEROUS.search(line) for line in told)
        # Raw control characters make an object plain text.
        if options.get("format") == "json" and min(forged) >= "\xa0":
            (theirs,) = [record for record in map(json.loads, out.splitlines()) if "deep" in str(record.get(forged))]
            assert theirs[forged] == {"deep": [forged]}


async def test_how_a_terminal_and_a_file_see_it() -> None:
    """On a terminal, colours are kept and reset at the end of their line; elsewhere only the text remains."""
    data = b"\x1b[32m INFO\x1b[0m \x1b[1mbold\r\n\x1b[2Jgone\x00\xff caf\xc3\xa9\n"
    assert await said(data) == "moltis     │  INFO bold\nmoltis     │ \\x1b[2Jgone\\x00\\xff café\n".encode()
    colored = await said(data, color=True)
    assert b"\x1b[32m INFO\x1b[0m \x1b[1mbold\x1b[0m\n" in colored
    assert b"\\x1b[2Jgone" in colored


async def test_a_line_that_grows_is_cut_again() -> None:
    """15 KB of NUL are four times as long when escaped: no line written is too long."""
    for options in ({}, {"color": True}, {"format": "json"}):
        out = await said(b"\x00" * 15_000 + b"\n", **options)
        assert all(len(line) <= 16 * 1024 for line in out.split(b"\n"))
        assert options or out.count(b"0") == 30_000


def test_commands_show_the_same_characters_as_the_log() -> None:
    """What the log escapes, the commands escape too; both leave emoji alone."""
    every = map(chr, (*range(0xD800), *range(0xE000, sys.maxunicode + 1)))
    raw = {character for character in every if DANGEROUS.match(character) and printable(character) == character}
    assert not raw
    assert (
        printable("\N{WARNING SIGN}\ufe0f caf\N{LATIN SMALL LETTER E WITH ACUTE}\t") == "\N{WARNING SIGN}\ufe0f café\t"
    )


def test_a_json_object_keeps_its_value_where_unseen_characters_become_escapes() -> None:
    """This includes characters beyond 16 bits, for which JSON takes two escapes."""
    value = {
        character: character for character in map(chr, range(0x20, sys.maxunicode + 1)) if DANGEROUS.match(character)
    }
    escaped = sanitize_json(json.dumps(value, ensure_ascii=False).encode())
    assert json.loads(escaped) == value
    assert is_clean(escaped)
    assert escaped == json.dumps(value).encode()
