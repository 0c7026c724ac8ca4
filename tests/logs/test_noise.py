"""Noise is held back and counted: the lines shown and those reported as held back add up to all lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from supervisor.logs import tailscaled
from supervisor.logs.tailscaled import PASSING, WINDOW_S, HeldBack, NoiseLimit, parse
from tests.logs.rig import Rig, until

if TYPE_CHECKING:
    import pytest

STAMP = b"2026/11/24 17:17:24 "
NEWS = [b"Received error: PollNetMap: unexpected EOF", b"netcheck: something nobody knows", b"", b"portmapper: error x"]
NOISE = [
    b"netcheck: probePortMapServices: port mapping is disabled",
    b"wgengine: Reconfig: user dialer",
    b"magicsock: 1 active derp conns: derp-1=cr0s,wr0s",
    b"[v1] Accept: TCP{a > b} 60 ok",
]
LINE = st.sampled_from([STAMP + text for text in NEWS + NOISE])
# The steps over time: lines arrive, or a report of the missing ones is due.
STEPS = st.lists(st.tuples(st.floats(0, 50), st.none() | st.lists(LINE, min_size=1, max_size=30)), max_size=30)


def taken(limit: NoiseLimit, lines: bytes, now_s: float) -> bytes:
    """Return those of the lines that pass."""
    texts = lines[:-1].split(b"\n")
    places = limit.passing([parse(text.decode()) for text in texts], now_s)
    return b"".join(texts[place] + b"\n" for place in places)


@given(STEPS)
def test_nothing_is_lost_uncounted(steps: list[tuple[float, list[bytes] | None]]) -> None:
    """Lines passed and reported add up to all; other lines always pass, in order, and no report is late."""
    limit, now_s = NoiseLimit(), 0.0
    came: list[bytes] = []
    passed: list[bytes] = []
    told = 0
    for after_s, lines in steps:
        now_s += after_s
        if lines is None or (limit.due_s is not None and limit.due_s <= now_s):
            report = limit.report()
            told += report.lines if report else 0
            assert report is None or report.lines == sum(report.kinds.values()) > 0
        if lines is not None:
            came += lines
            passed += taken(limit, b"\n".join(lines) + b"\n", now_s).split(b"\n")[:-1]
        assert limit.due_s is None or now_s < limit.due_s <= now_s + WINDOW_S
    rest = limit.report()
    assert told + (rest.lines if rest else 0) == limit.total == len(came) - len(passed)
    news = [STAMP + text for text in NEWS]
    assert [line for line in passed if line in news] == [line for line in came if line in news]


def test_a_window() -> None:
    """In each window a limited number of lines of a kind pass; the pieces of a long line stay together."""
    limit = NoiseLimit()
    row = STAMP + NOISE[0] + b"\n"
    assert taken(limit, row * 10, 5.0) == row * PASSING
    assert limit.due_s == 5.0 + WINDOW_S
    assert limit.report() == HeldBack(10 - PASSING, {"netcheck": 10 - PASSING})
    assert limit.report() is None
    assert taken(limit, row * PASSING, 6.0) == row * PASSING
    assert taken(limit, row, 6.0 + WINDOW_S - 1) == b""
    assert limit.report()
    assert taken(limit, row * PASSING, 70.0) == taken(limit, row * PASSING, 70.0 + WINDOW_S) == row * PASSING
    piece = STAMP + NOISE[1] + b" [line continues]\n"
    assert taken(limit, piece * 10, 140.0) == piece * 10


async def test_in_the_log() -> None:
    """The log reports what it does not show, at the latest when the process ends; the history has all lines."""
    rig = Rig(format="json")
    known, news = STAMP + NOISE[0] + b"\n", STAMP + NEWS[0] + b"\n"
    await rig.say(known * 9 + news, "tailscaled", "stderr")
    await rig.say(known * 9, "moltis")
    rig.log.drain("moltis")
    assert len(rig.log.history.read().lines) == 19
    rig.log.drain("tailscaled")
    await rig.say(known * 9, "tailscaled", "stderr")
    records = rig.end_json()
    theirs = [record for record in records if record["process"] == "tailscaled"]
    assert [record.get("topic") for record in theirs] == ["netcheck"] * PASSING + ["control"] + ["netcheck"] * PASSING
    assert len([record for record in records if record["process"] == "moltis"]) == 9
    told = [record for record in records if record["message"] == "log lines held back"]
    assert [(record["count"], record["kinds"]) for record in told] == [(6, ["netcheck:6"])] * 2


async def test_told_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a window the report is written even if no more lines arrive, and again for the next window."""
    monkeypatch.setattr(tailscaled, "WINDOW_S", 0.05)
    rig = Rig()
    for told in (1, 2):
        await rig.say((STAMP + NOISE[0] + b"\n") * 9, "tailscaled")
        await until(lambda told=told: len(rig.log.history.read(0, 1000, "supervisor").lines) == told)  # type: ignore[misc]
    assert rig.end().count(b"log lines held back child=tailscaled count=6 kinds=netcheck:6") == 2


async def test_all_is_shown_on_request() -> None:
    """With noise=all, nothing is held back."""
    rig = Rig(noise="all")
    await rig.say((STAMP + NOISE[0] + b"\n") * 9, "tailscaled")
    assert rig.end().count(b"probePortMap") == 9
