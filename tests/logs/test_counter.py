"""Lines and bytes are counted by process and level, batch by batch."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.logs.lines import TAILSCALED, Source
from supervisor.logs.parse import parse_batch
from supervisor.logs.pipeline import LineCounter
from tests.logs.rig import Rig

TEXTS = (
    "plain text",
    "2026-11-24T17:37:43.000001Z  INFO moltis: started",
    "2026-11-24T17:37:43.000001Z  WARN moltis: slow",
    "2026-11-24 17:37:43 ERROR moltis: broken",
    "[DEBUG] looking",
    "TRACE x",
    "FATAL: no",
    "CRITICAL no",
    "it was an ERROR, and said later in the line",
    "Error: cannot",
    "error: cannot",
    "Caused by: that",
    "panic: nil",
    "fatal error: all goroutines are asleep",
    "thread 'main' panicked at src/main.rs",
    "Traceback (most recent call last):",
    "2026 was a year",
    "",
)


def counted(process: str, text: bytes) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the counts of complete lines, by process and level."""
    counter = LineCounter()
    batch = parse_batch(Source(process, "stdout"), text, text, text.count(b"\n"), records=False)
    counter.add(process, text, batch.lines, batch.levels)
    return {key: (lines, size) for key, (lines, size) in counter.cells.items()}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("process", ["moltis", TAILSCALED])
def test_a_line_counts_for_its_level_wherever_it_stands(process: str, text: str) -> None:
    """It may be at the beginning, in the middle or at the end of a batch."""
    line = text.encode() + b"\n"
    ((key, _),) = counted(process, line).items()
    for batch in ((line, b"x\n", b"x\n"), (b"x\n", line, b"x\n"), (b"x\n", b"x\n", line)):
        cells = counted(process, b"".join(batch))
        if key[1] == "info":
            assert cells == {key: (3, len(line) + 4)}
        else:
            assert cells == {(process, "info"): (2, 4), key: (1, len(line))}


async def test_what_the_hub_counts() -> None:
    """Lines of a process, the supervisor's own records, and masked values are counted; reading adds none."""
    rig = Rig(secrets=["a-secret-of-some-length"])
    await rig.say(b'one\nWARN two\n{"message":"a-secret-of-some-\\u006cength"}\na-secret-of-some-length\n')
    rig.log.record("error", "a record")
    await asyncio.sleep(0)
    assert rig.log.history.read().lines
    counted = {key: lines for key, (lines, _size) in rig.log.counted().items()}
    assert counted == {("moltis", "info"): 3, ("moltis", "warning"): 1, ("supervisor", "error"): 1}
    assert (rig.log.redactor.masked, rig.log.dropped) == (2, 0)
    rig.end()
