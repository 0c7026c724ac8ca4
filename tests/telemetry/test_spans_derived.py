"""Spans derived from snapshots: for any sequence, each is consistent, and none is made twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.backup import RESULTS, BackupState, BackupView, SnapshotView
from supervisor.core.counts import Durations, plus_one
from supervisor.core.process import State
from supervisor.core.snapshot import ExitView, ProcessView, ServeView, TailnetView
from supervisor.core.tailnet_states import STATES, TailnetState
from supervisor.telemetry.spans import (
    BROKEN_OFF,
    CONNECT,
    DISCONNECT,
    MAINTENANCE,
    RESTORE,
    SERVE,
    SNAPSHOT,
    BackupSpans,
    ProcessSpans,
    TailnetSpans,
)
from supervisor.web.app import parent_of

if TYPE_CHECKING:
    from supervisor.telemetry.spans import Span

VIEWS = st.lists(
    st.tuples(st.sampled_from(State), st.booleans(), st.sampled_from(["", "asked", "exit_code"]), st.floats(0, 5)),
    max_size=25,
)


@given(VIEWS)
def test_any_life_gives_sound_spans(steps: list[tuple[State, bool, str, float]]) -> None:
    """A span ends after its start and not in the future, and its children lie within it."""
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
    """Check each of them."""
    for span in spans:
        assert span.begun_s <= span.ended_s <= now_s
        assert span.attributes["process.executable.name"] == "moltis"
        assert all(span.begun_s <= part.begun_s and part.ended_s <= span.ended_s for part in span.children)


@given(st.lists(st.tuples(st.sampled_from(STATES), st.booleans(), st.sampled_from(["", "in the way"]))))
def test_any_tailnet_gives_sound_spans(steps: list[tuple[str, bool, str]]) -> None:
    """The same applies to the tailnet."""
    view = TailnetView("embedded", TailnetState.STARTING, 0.0)
    tailnet = TailnetSpans(view)
    for now_s, (state, served, why) in enumerate(steps, 1):
        serve = ServeView(urls=("http://moltis/",) if served else (), why=why)
        view = view._replace(state=state, up=state == TailnetState.CONNECTED, since_s=float(now_s), serve=serve)
        for span in tailnet.update(view, float(now_s)):
            assert 0 <= span.begun_s <= span.ended_s <= now_s
        assert not list(tailnet.update(view, float(now_s)))


def test_what_a_connect_came_to() -> None:
    """Waiting for a person does not count as a failure, an outage does; an order is timed from its arrival."""
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


def in_state(view: BackupView, state: BackupState, since_s: float, **more: object) -> BackupView:
    """Return the view with another state."""
    return view._replace(state=state, since_s=since_s, **more)  # type: ignore[arg-type]


COUNTED = st.sampled_from([None, *((name, kind) for name in ("taken", "restores") for kind in RESULTS)])


@given(st.lists(st.tuples(st.sampled_from(BackupState), COUNTED, st.sampled_from(["", "the disk is full"]))))
def test_any_backups_give_sound_spans(steps: list[tuple[BackupState, tuple[str, str] | None, str]]) -> None:
    """The same applies to backups; what has started ends at the latest when the backups are idle."""
    view = BackupView()
    spans = BackupSpans(view)
    begun = ended = 0
    for now_s, (state, counted, why) in enumerate(steps, 1):
        since_s = float(now_s) if state is not view.state else view.since_s
        more = {counted[0]: plus_one(getattr(view, counted[0]), counted[1])} if counted else {}
        begun += state is not view.state and state in {BackupState.SNAPSHOT, BackupState.MAINTENANCE}
        view = in_state(view, state, since_s, why=why, **more)
        for span in spans.update(view, float(now_s)):
            assert 0 < span.begun_s <= span.ended_s <= now_s
            assert all(span.begun_s <= part.begun_s and part.ended_s <= span.ended_s for part in span.children)
            ended += (span.name != RESTORE) + len(span.children)
        assert not list(spans.update(view, float(now_s)))
    list_left = spans.update(in_state(view, BackupState.IDLE, len(steps) + 1.0), len(steps) + 1.0)
    ended += sum((span.name != RESTORE) + len(span.children) for span in list_left)
    assert ended == begun


def test_what_backups_came_to() -> None:
    """A failed one has a reason, one that gave way to a stop is broken off, and a restore contains its own snapshot."""
    spans = BackupSpans(BackupView(BackupState.IDLE))
    view = in_state(BackupView(), BackupState.SNAPSHOT, 10.0)
    assert not list(spans.update(view, 10.0))
    failed = view._replace(taken=(("failed", 1),), why="the disk is full")
    (one,) = spans.update(failed, 12.0)
    assert (one.name, one.begun_s, one.error) == (SNAPSHOT, 10.0, "the disk is full")
    assert not list(spans.update(in_state(failed, BackupState.IDLE, 12.0), 12.0))
    under_way = in_state(failed, BackupState.SNAPSHOT, 20.0, why="")
    assert not list(spans.update(under_way, 20.0))
    # The last snapshot of a stop starts in the same state.
    last = under_way._replace(since_s=21.0)
    (broken,) = spans.update(last, 21.0)
    assert (broken.error, broken.attributes["supervisor.backup.result"]) == (BROKEN_OFF, BROKEN_OFF)
    kept = SnapshotView("abc", generation=2, sequence=1, reason="stop", added_bytes=7)
    (good,) = spans.update(last._replace(taken=(("failed", 1), ("ok", 1)), snapshots=(kept,)), 23.0)
    assert (good.begun_s, good.error) == (21.0, "")
    assert good.attributes == {
        "supervisor.backup.result": "ok",
        "supervisor.backup.snapshot": "abc",
        "supervisor.backup.reason": "stop",
        "supervisor.backup.added_bytes": 7,
    }
    spans = BackupSpans(BackupView(BackupState.IDLE))
    view = in_state(BackupView(), BackupState.RESTORING, 30.0)
    for now_s, each in [
        (30.0, view),
        (31.0, view := in_state(view, BackupState.SNAPSHOT, 31.0)),
        (32.0, view := view._replace(taken=(("ok", 1),))),
        (32.5, view := in_state(view, BackupState.RESTORING, 32.5)),
    ]:
        assert not list(spans.update(each, now_s))
    (restore,) = spans.update(view._replace(restores=(("ok", 1),)), 34.0)
    assert (restore.name, restore.begun_s, restore.ended_s) == (RESTORE, 30.0, 34.0)
    assert [(part.name, part.begun_s, part.ended_s) for part in restore.children] == [(SNAPSHOT, 31.0, 32.0)]
    care = in_state(view, BackupState.MAINTENANCE, 40.0)
    assert not list(spans.update(care, 40.0))
    (cared,) = spans.update(in_state(care, BackupState.IDLE, 41.0, why="it is locked"), 41.0)
    assert (cared.name, cared.error) == (MAINTENANCE, "it is locked")


@given(st.text(max_size=60) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
def test_any_traceparent(header: str) -> None:
    """It is parsed or ignored; ids of zeros are invalid."""
    parent = parent_of(header)
    assert parent is None or (0 < parent.trace_id < 1 << 128 and 0 < parent.span_id < 1 << 64)
    assert parent_of(f"00-{'0' * 32}-{'1' * 16}-01") is parent_of(f"00-{'1' * 32}-{'1' * 16}-01-x") is None
    assert parent_of(f"cc-{'1' * 32}-{'1' * 16}-01-more") is not None
