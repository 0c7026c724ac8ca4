"""Spans derived from pictures of the world: whatever comes, each is sound, and none is made twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.counts import Durations
from supervisor.core.process import State
from supervisor.core.snapshot import ExitView, ProcessView, ServeView, TailnetView
from supervisor.core.tailnet_states import STATES, TailnetState
from supervisor.telemetry.spans import CONNECT, DISCONNECT, SERVE, ProcessSpans, TailnetSpans
from supervisor.web.app import parent_of

if TYPE_CHECKING:
    from supervisor.telemetry.spans import Span

VIEWS = st.lists(
    st.tuples(st.sampled_from(State), st.booleans(), st.sampled_from(["", "asked", "exit_code"]), st.floats(0, 5)),
    max_size=25,
)


@given(VIEWS)
def test_any_life_gives_sound_spans(steps: list[tuple[State, bool, str, float]]) -> None:
    """A span ends after its beginning and not in the future, and those inside it lie inside it."""
    spans, now_s, view = ProcessSpans(), 1.0, ProcessView("moltis", command="/bin/moltis --token x")
    for state, ready, ended, after_s in steps:
        now_s += after_s
        if ended:
            end = ExitView(now_s, 3, None, 1.0, "exit code 3", kind=ended)
            view = view._replace(exits=(*view.exits, end)[-3:])
            check(list(spans.update(view)), now_s)
        since_s = view.since_s if state is view.state else now_s
        view = view._replace(
            state=state, since_s=since_s, pid=7, started_s=now_s, ever_ready=ready, ready_since_s=now_s
        )
        check(list(spans.update(view)), now_s)
        assert not list(spans.update(view))


def check(spans: list[Span], now_s: float) -> None:
    """Look at every one of them."""
    for span in spans:
        assert span.begun_s <= span.ended_s <= now_s
        assert span.attributes["process.executable.name"] == "moltis"
        assert all(span.begun_s <= part.begun_s and part.ended_s <= span.ended_s for part in span.children)


@given(st.lists(st.tuples(st.sampled_from(STATES), st.booleans(), st.sampled_from(["", "in the way"]))))
def test_any_tailnet_gives_sound_spans(steps: list[tuple[str, bool, str]]) -> None:
    """The same for the tailnet."""
    view = TailnetView("embedded", TailnetState.STARTING, 0.0)
    tailnet = TailnetSpans(view)
    for now_s, (state, served, why) in enumerate(steps, 1):
        serve = ServeView(urls=("http://moltis/",) if served else (), why=why)
        view = view._replace(state=state, up=state == TailnetState.CONNECTED, since_s=float(now_s), serve=serve)
        for span in tailnet.update(view, float(now_s)):
            assert 0 <= span.begun_s <= span.ended_s <= now_s
        assert not list(tailnet.update(view, float(now_s)))


def test_what_a_connect_came_to() -> None:
    """A person's turn is no failure, an outage is; an order is timed from when it came."""
    view = TailnetView("embedded", TailnetState.STARTING, 10.0)
    tailnet = TailnetSpans(view)
    (waits,) = tailnet.update(view._replace(state=TailnetState.NEEDS_LOGIN, since_s=11.0), 11.0)
    assert (waits.name, waits.begun_s, waits.ended_s, waits.error) == (CONNECT, 10.0, 11.0, "")
    assert not list(tailnet.update(view._replace(state=TailnetState.CONNECTING, since_s=20.0), 20.0))
    away = view._replace(state=TailnetState.UNREACHABLE, since_s=25.0, why="it does not answer")
    (failed,) = tailnet.update(away, 25.0)
    assert (failed.error, failed.attributes["error.type"]) == ("it does not answer", TailnetState.UNREACHABLE)
    took = Durations().plus(4.0)
    up = view._replace(state=TailnetState.CONNECTED, since_s=30.0, up=True, connects=took)
    assert [(span.name, span.begun_s) for span in tailnet.update(up, 30.0)] == [(CONNECT, 26.0)]
    told = up._replace(serve=ServeView(why="in the way"))
    assert [(span.name, span.error) for span in tailnet.update(told, 31.0)] == [(SERVE, "in the way")]
    (served,) = tailnet.update(up._replace(serve=ServeView("serve", ("http://moltis/",))), 33.0)
    assert (served.begun_s, served.ended_s, served.error) == (31.0, 33.0, "")
    off = up._replace(state=TailnetState.OFF, up=False, choice="forgotten", disconnects=took)
    (ended,) = tailnet.update(off, 50.0)
    assert (ended.name, ended.begun_s, ended.attributes["supervisor.tailnet.forget"]) == (DISCONNECT, 46.0, True)


@given(st.text(max_size=60) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
def test_any_traceparent(header: str) -> None:
    """It is understood or left alone; one of zeros names nothing."""
    parent = parent_of(header)
    assert parent is None or (0 < parent.trace_id < 1 << 128 and 0 < parent.span_id < 1 << 64)
    assert parent_of(f"00-{'0' * 32}-{'1' * 16}-01") is parent_of(f"00-{'1' * 32}-{'1' * 16}-01-x") is None
    assert parent_of(f"cc-{'1' * 32}-{'1' * 16}-01-more") is not None
