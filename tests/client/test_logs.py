"""`logs`: how lines are shown, how many, and streams that are cut off, lose lines or end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.client.answering import Answer, Asked, Supervisor, answering, log_event, log_line, stream
from tests.client.calling import call, on_terminal
from tests.client.following import following
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATED = "2026-11-24T06:13:46.234292Z  INFO moltis_gateway: ready"
END = 'event: end\nid: a-3\ndata: {"code": "STOPPING", "error": "the supervisor is stopping"}\n\n'


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor with a log of 2500 lines."""
    with answering() as answers:
        answers.given["GET /api/logs"] = pages(2500)
        yield answers


def pages(count: int) -> Callable[[Asked], Answer]:
    """Return a handler that answers as a supervisor with ``count`` lines in its history."""

    def answer(asked: Asked) -> Answer:
        query = {name: int(values[0]) for name, values in parse_qs(urlsplit(asked.path).query).items()}
        assert all(number <= 1000 for name, number in query.items() if name != "after")
        first = query["after"] + 1 if "after" in query else count + 1 - query["last"]
        numbers = range(first, min(first + query.get("limit", 1000), count + 1))
        return 200, {"lines": [log_line(number) for number in numbers], "lost": 0, "after": max(numbers, default=count)}

    return answer


def test_lines_are_shown_with_what_they_lack(supervisor: Supervisor) -> None:
    """A time and a level are added unless a line starts with its own; names are aligned in a column."""
    lines = [
        log_line(1, "starting version=0.1.0", "supervisor"),
        log_line(2, DATED),
        log_line(3, "2026/11/24 06:13:46 Engine created.", "tailscaled"),
        log_line(4, "out of cheese", level="error"),
        log_line(5, "esc\x1b[31m"),
    ]
    supervisor.given["GET /api/logs"] = (200, {"lines": lines, "lost": 0, "after": 5})
    shown = [
        "supervisor │ 2026-11-24T06:13:46.154Z INFO starting version=0.1.0",
        f"moltis     │ {DATED}",
        "tailscaled │ 2026/11/24 06:13:46 Engine created.",
        "moltis     │ 2026-11-24T06:13:46.154Z ERROR out of cheese",
        "moltis     │ 2026-11-24T06:13:46.154Z INFO esc\\x1b[31m",
    ]
    assert call(supervisor.folder, "logs") == (0, "\n".join([*shown, ""]), "")
    assert "\x1b[31mERROR\x1b[0m" in on_terminal(supervisor.folder, "logs").out


@pytest.mark.parametrize(
    ("words", "count"), [((), 100), (("-n", "7"), 7), (("-n0",), 0), (("-n", "1700"), 1700), (("-n", "9999"), 2500)]
)
def test_as_many_as_asked_for(supervisor: Supervisor, words: tuple[str, ...], count: int) -> None:
    """The last lines are shown; more than the API returns at once are read in pages."""
    called = call(supervisor.folder, "logs", "--json", *words)
    assert [json.loads(line)["id"] for line in called.out.splitlines()] == list(range(2501 - count, 2501))


def test_a_log_that_grows_faster_than_it_is_read(supervisor: Supervisor) -> None:
    """The lines at the time of the call are shown; later ones are not."""
    asked = []

    def flooded(request: Asked) -> Answer:
        asked.append(request)
        return pages(1500 + 1000 * min(len(asked), 50))(request)

    supervisor.given["GET /api/logs"] = flooded
    called = call(supervisor.folder, "logs", "--json", "-n", "2000")
    assert [json.loads(line)["id"] for line in called.out.splitlines()] == list(range(1001, 3001))
    assert len(asked) == 4


@pytest.mark.parametrize("text", ["x", "-5", "1.5", "10000000", "9" * 5000], ids=lambda text: text[:9])
def test_what_is_no_number_of_lines(supervisor: Supervisor, text: str) -> None:
    """The exit code is 64, and nothing is sent."""
    called = call(supervisor.folder, "logs", f"-n{text}")
    assert called.code == 64
    assert "write one, such as -n 20" in called.err
    assert not supervisor.asked


def test_a_process_may_be_chosen(supervisor: Supervisor) -> None:
    """The name is sent to the supervisor, which refuses unknown ones."""
    refusal = {"code": "UNKNOWN_PROCESS", "error": "there is no process 'a&b'"}
    supervisor.given["GET /api/logs"] = (404, refusal)
    assert call(supervisor.folder, "logs", "--process", "a&b").code == 1
    assert parse_qs(urlsplit(supervisor.asked[0].path).query)["process"] == ["a&b"]


def test_a_stream_that_breaks_off_is_taken_up_again(supervisor: Supervisor) -> None:
    """It continues after the last complete line, in the next supervisor too; an incomplete line is not shown twice."""
    half = log_event("a-4", 4)[:-20]
    streams = [
        stream(
            'event: state\nid: a-0\ndata: {"processes": []}\n\n', ": nothing new\n\n", log_event("a-3", 1, 2, 3), half
        ),
        stream(log_event("a-4", 4), END),
        stream(log_event("b-1", 1)),
    ]
    supervisor.given["GET /api/events"] = lambda _asked: streams.pop(0) if streams else stream()
    with following(supervisor.folder, "-n", "3", "--process", "moltis") as follower:
        follower.wait_for("line 4")
        follower.wait_for("waiting for the next one")
        wanted = ["line 1", "line 2", "line 3", "line 4", "line 1"]
        wait_until(lambda: len(supervisor.asked) >= 4, what="a fourth stream")
        assert [line.partition("INFO ")[2] for line in follower.lines] == wanted
    asked = [asked for asked in supervisor.asked if asked.path.startswith("/api/events")]
    assert [each.last_event_id for each in asked[:4]] == [None, "a-3", "a-3", "b-1"]
    assert parse_qs(urlsplit(asked[0].path).query) == {"process": ["moltis"], "last": ["3"]}
    assert parse_qs(urlsplit(asked[1].path).query) == {"process": ["moltis"]}


def test_lost_lines_are_counted(supervisor: Supervisor) -> None:
    """The count is shown to people, and is among the lines for programs."""
    supervisor.given["GET /api/events"] = stream(log_event("a-12", 12, lost=11))
    with following(supervisor.folder) as follower:
        follower.wait_for("11 lines were lost here")
    with following(supervisor.folder, "--json") as follower:
        follower.wait_for('"id": 12')
        assert json.loads(follower.lines[0]) == {"lost": 11}


def test_more_lines_than_a_stream_begins_with(supervisor: Supervisor) -> None:
    """The history is read in pages, and the stream continues right after them."""
    streams = [stream("event: state\nid: a-2600\ndata: {}\n\n"), stream(log_event("a-2501", 2501))]
    supervisor.given["GET /api/events"] = lambda _asked: streams.pop(0) if streams else stream()
    with following(supervisor.folder, "-n", "1500", "--json") as follower:
        follower.wait_for('"id": 2501')
        assert [json.loads(line)["id"] for line in follower.lines] == list(range(1001, 2502))
    resumed = [asked.last_event_id for asked in supervisor.asked if asked.path.startswith("/api/events")]
    assert resumed[:2] == [None, "a-2500"]


def test_what_is_refused_ends_it(supervisor: Supervisor) -> None:
    """A refusal such as too many streams is not retried."""
    refusal = {"code": "TOO_MANY_STREAMS", "error": "too many event streams are open; close one of them"}
    supervisor.given["GET /api/events"] = (503, refusal)
    with following(supervisor.folder) as follower:
        assert follower.wait() == 1
        assert follower.notes == [f"moltis-supervisor: {refusal['error']}"]


def test_what_is_no_stream(supervisor: Supervisor) -> None:
    """The exit code is 76: another version, or another program."""
    supervisor.given["GET /api/events"] = (200, {})
    with following(supervisor.folder) as follower:
        assert follower.wait() == 76
