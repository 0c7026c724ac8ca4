"""Input that is nearly right: pieces of what real programs say, cut, doubled, mixed and spoiled."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterable

# `make fuzz` asks for more.
thorough = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "300")), deadline=None)
# What breaks parsers: bytes that are no text, surrogates, deep nesting, numbers without end, ends of lines.
SPOILERS = (
    b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\0", b"[" * 3000, b'{"a":' * 3000, b"1" * 5000, b"-", b"1e999",
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b":", b'"', b",", b"null", b"-1", b"99999999999999999999", b"", b" ",
)  # fmt: skip


@st.composite
def mutations(draw: st.DrawFn, corpus: Iterable[bytes]) -> bytes:
    """Draw one of the corpus with a few spoiled places."""
    data = draw(st.sampled_from([*corpus]))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + draw(st.sampled_from((0, 1, 5, 1000))))))
        new = draw(st.sampled_from(SPOILERS) | st.binary(max_size=8) | st.sampled_from([*corpus]))
        data = data[:begin] + new + data[end:]
    return data
