"""Almost valid input: pieces of the output of real programs, cut, repeated, mixed and corrupted."""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# `make fuzz` sets more examples, or a time.
_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
# Input that breaks parsers: invalid UTF-8, surrogates, deep nesting, huge numbers, line ends.
SPOILERS = (
    b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\0", b"[" * 3000, b'{"a":' * 3000, b"1" * 5000, b"-", b"1e999",
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b":", b'"', b",", b"null", b"-1", b"99999999999999999999", b"", b" ",
)  # fmt: skip


def thorough(test: Callable[..., None]) -> Callable[..., None]:
    """Make a hypothesis test try the configured number of examples, or repeat it for the configured time."""
    ready: Any = a_round(test)
    if not SECONDS:
        return _patient(ready)

    @functools.wraps(ready)
    def again(*words: Any, **more: Any) -> None:
        for _ in rounds():
            ready(*words, **more)

    return _patient(again)


# Most of it is CPU time, of which a loaded machine may give it a tenth; `make fuzz` sets its own limits.
_patient: Callable[[Callable[..., None]], Callable[..., None]] = (
    (lambda test: test) if "FUZZ_EXAMPLES" in os.environ else pytest.mark.timeout(600)
)


def a_round(test: Callable[..., None]) -> Callable[..., None]:
    """Make a hypothesis test try the configured number of examples."""
    return settings(max_examples=_EXAMPLES, deadline=None, derandomize=not SECONDS and "CI" in os.environ)(test)


def rounds() -> Iterator[int]:
    """Count the rounds within the configured time; one if none is set."""
    number, end_s = 0, time.monotonic() + SECONDS
    while not number or time.monotonic() < end_s:
        yield number
        number += 1
    print(f"{number} rounds of up to {_EXAMPLES} examples")


@st.composite
def mutations(draw: st.DrawFn, corpus: Iterable[bytes]) -> bytes:
    """Draw one of the corpus with a few corrupted places."""
    data = draw(st.sampled_from([*corpus]))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + draw(st.sampled_from((0, 1, 5, 1000))))))
        new = draw(st.sampled_from(SPOILERS) | st.binary(max_size=8) | st.sampled_from([*corpus]))
        data = data[:begin] + new + data[end:]
    return data
