"""The merged log in pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.following import following
from tests.web.serving import Served, serving


async def page(served: Served, query: str = "") -> Any:
    """Return a page of the log."""
    answer = await served.get(f"/api/logs{query}")
    assert answer.status == 200, answer
    return answer.json


def say(served: Served, *numbers: int) -> None:
    """Let the supervisor log lines with these numbers."""
    for number in numbers:
        served.log.record("info", f"line {number}")


async def test_the_last_lines_and_the_next() -> None:
    """A page contains the position of the next one, so that no line is returned twice or missed."""
    async with serving() as served:
        say(served, 1, 2, 3, 4, 5)
        last = await page(served, "?last=2")
        assert [line["message"] for line in last["lines"]] == ["line 4", "line 5"]
        assert set(last["lines"][0]) == {"id", "at", "process", "stream", "level", "topic", "message"}
        assert [line["id"] for line in last["lines"]] == [4, 5]
        assert (last["lines"][0]["process"], last["lines"][0]["stream"]) == ("supervisor", "log")
        assert (await page(served, f"?after={last['after']}"))["lines"] == []
        say(served, 6, 7, 8)
        following = await page(served, f"?after={last['after']}&limit=2")
        assert [line["id"] for line in following["lines"]] == [6, 7]
        assert [line["id"] for line in (await page(served, f"?after={following['after']}"))["lines"]] == [8]
        assert [line["id"] for line in (await page(served))["lines"]] == list(range(1, 9))


async def test_asking_over_a_restart_of_the_supervisor() -> None:
    """A position in another run is ignored: the whole history is returned, with the id of its run."""
    async with serving(history_lines=10) as served:
        say(served, *range(1, 31))
        first = await page(served, "?last=1")
        for place in ("31", "999999999999999999", "ff-30", "1a2b-5", f"{first['boot']}-31"):
            anew = await page(served, f"?after={place}")
            assert (anew["lost"], anew["after"], anew["boot"]) == (20, 30, first["boot"])
            assert [line["id"] for line in anew["lines"]] == list(range(21, 31))
        for place in ("30", f"{first['boot']}-30"):
            assert (await page(served, f"?after={place}"))["lines"] == []
        assert [line["id"] for line in (await page(served, f"?after={first['boot']}-28"))["lines"]] == [29, 30]


async def test_the_place_is_that_of_the_stream() -> None:
    """An event's id is a position here, and a page's position is one in the stream."""
    async with serving() as served:
        say(served, 1, 2)
        async with following(served) as stream:
            event_id = (await stream.until("log")).id
        assert (await page(served, f"?after={event_id}"))["lines"] == []
        told = await page(served, "?after=0&limit=1")
        async with following(served, f"?after={told['boot']}-{told['after']}") as stream:
            assert [line["id"] for line in await stream.lines(1)] == [2]


async def test_what_is_gone_is_counted() -> None:
    """A late client is told how many lines it has missed."""
    async with serving(history_lines=10) as served:
        say(served, *range(1, 31))
        late = await page(served, "?after=5")
        assert (late["lost"], late["after"]) == (15, 30)
        assert [line["id"] for line in late["lines"]] == list(range(21, 31))


async def test_one_process_alone() -> None:
    """The supervisor counts as one; an unknown one is not found."""
    async with serving() as served:
        say(served, 1)
        assert len((await page(served, "?process=supervisor"))["lines"]) == 1
        assert (await page(served, "?process=moltis"))["lines"] == []
        for path in ("/api/logs", "/api/events"):
            assert (await served.get(f"{path}?process=nothing")).refusal == (404, "UNKNOWN_PROCESS")


@pytest.mark.parametrize(
    "query",
    [
        "?after=-1",
        "?after=x",
        "?after=1.5",
        "?after=",
        "?after=-",
        "?after=1a-",
        "?after=G-1",
        "?after=1234567890123456789",
        "?after=%D9%A1",
        "?after=1%0A",
        "?last=0",
        "?last=1001",
        "?limit=0",
        "?limit=1001",
        "?after=1&last=1",
        "?after=1&after=2",
        "?proces=moltis",
        "?last=99999999999999999999999999",
    ],
)
async def test_queries_that_make_no_sense(query: str) -> None:
    """They are refused with a reason, and not guessed."""
    async with serving() as served:
        assert (await served.get(f"/api/logs{query}")).refusal == (400, "INVALID_QUERY")


@pytest.mark.parametrize("query", ["?after=5&after=6", "?last=-1", "?last=1001", "?logs=maybe", "?nothing=1"])
async def test_queries_of_the_stream_that_make_no_sense(query: str) -> None:
    """As with the pages."""
    async with serving() as served:
        assert (await served.get(f"/api/events{query}")).refusal == (400, "INVALID_QUERY")
