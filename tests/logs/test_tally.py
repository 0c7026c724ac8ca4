"""Lines and bytes are counted by process and level, batch by batch."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.logs import levels
from supervisor.logs.tally import Tally
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


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("process", ["moltis", levels.TAILSCALED])
def test_a_batch_is_counted_as_its_lines_are(process: str, text: str) -> None:
    """Wherever in a batch a line stands, it counts for the level that its reader is told."""
    level = levels.of_line(process, text)
    line = text.encode() + b"\n"
    for batch in ((line, b"x\n", b"x\n"), (b"x\n", line, b"x\n"), (b"x\n", b"x\n", line)):
        tally = Tally()
        tally.add(process, b"".join(batch), 3, None)
        cells = {key: tuple(cell) for key, cell in tally.cells.items()}
        if level == "info":
            assert cells == {(process, "info"): (3, len(line) + 4)}
        else:
            assert cells == {(process, "info"): (2, 4), (process, level): (1, len(line))}


def test_objects_say_their_level_themselves() -> None:
    """In JSON, as a word or as a number; one of no known level is info."""
    tally = Tally()
    lines = (
        b'{"timestamp":"t","level":"WARN","fields":{"message":"m"}}\n',
        b'{"level": 50, "msg":"m"}\n{"msg":"m"}\n',
        b'{"level":"loud"}\n',
    )
    tally.add("moltis", b"".join(lines), 4, None)
    assert {level: cell[0] for (_process, level), cell in tally.cells.items()} == {"warning": 1, "error": 1, "info": 2}


def test_colours_hide_no_level() -> None:
    """A level is found behind the colour codes that people's formats put around it, and they are not counted."""
    tally = Tally()
    tally.add("moltis", b"\x1b[31mERROR\x1b[0m x\n", 1, None)
    assert tally.cells == {("moltis", "error"): [1, 8]}


async def test_what_the_hub_counts() -> None:
    """Lines of a process and the supervisor's own records, what was masked, and nothing dropped; reading adds none."""
    rig = Rig(secrets=["a-secret-of-some-length"])
    await rig.say(b'one\nWARN two\n{"message":"a-secret-of-some-\\u006cength"}\na-secret-of-some-length\n')
    rig.hub.record("error", "a record")
    await asyncio.sleep(0)
    assert rig.hub.history.read().lines
    counted = {key: lines for key, (lines, _size) in rig.hub.counted().items()}
    assert counted == {("moltis", "info"): 3, ("moltis", "warning"): 1, ("supervisor", "error"): 1}
    assert (rig.hub.redactor.masked, rig.hub.dropped) == (2, 0)
    rig.end()
