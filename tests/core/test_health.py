"""The verdicts of health, as functions of a snapshot."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.core import health
from supervisor.core.backup import BackupState, BackupView
from supervisor.core.health import MISSES, MOST_CHANGES, Probing, assess, interval_s, ready, remembered, take_probe
from supervisor.core.process import State
from supervisor.core.snapshot import ExitView, HealthChange, ProcessView, Snapshot, TailnetView
from supervisor.core.tailnet_states import STATES, TailnetState

NOW = 10_000.0
UP = ProcessView(
    "moltis", State.RUNNING, critical=True, pid=1, ready=True, ready_since_s=0.0, ever_ready=True, answered=True
)
ON = TailnetView("embedded", "connected", 0.0, up=True)


def crashes(*ago_s: float, expected: bool = False) -> tuple[ExitView, ...]:
    """Return exits that were this many seconds ago."""
    return tuple(ExitView(NOW - ago, 1, None, 1.0, "exit code 1", expected=expected) for ago in ago_s)


def world(*processes: ProcessView, tailnet: TailnetView = ON, **more: object) -> Snapshot:
    """Return a snapshot."""
    return Snapshot(processes=processes, tailnet=tailnet, **more)  # type: ignore[arg-type]


def status(snapshot: Snapshot, now_s: float = NOW) -> str:
    """Return the combined verdict."""
    return assess(snapshot, now_s).status


def test_all_well() -> None:
    """Everything runs and is ready."""
    assert status(world(UP)) == "pass"
    assert ready(world(UP), NOW) == (True, ())


def test_a_critical_process_that_is_not_ready_fails() -> None:
    """Traffic must not be sent to an app that does not answer yet, or no longer does."""
    for view in (
        UP._replace(ready=False, ready_why="no answer"),
        UP._replace(state=State.BACKOFF, pid=None, ready=False),
        UP._replace(state=State.INACTIVE),
        UP._replace(state=State.FAILED),
        UP._replace(state=State.STOPPING),
    ):
        assert status(world(view)) == "fail"
        assert not ready(world(view), NOW)[0]


def test_another_process_that_is_not_ready_warns() -> None:
    """It is reported, and traffic continues."""
    other = UP._replace(name="worker", critical=False, ready=False)
    assert status(world(UP, other)) == "warn"
    assert ready(world(UP, other), NOW)[0]


def test_after_a_take_over_it_is_ready_until_the_app_had_its_time() -> None:
    """Once the app has answered, later failures count, whatever another process is still doing."""
    held = BackupView(state=BackupState.STARTING, holds=True, rehearsed=True, ready_until_s=NOW + 60)
    worker = UP._replace(name="worker", critical=False, ready=False, ever_ready=False)
    down = UP._replace(ready=False, ready_why="no answer")
    starting = world(down._replace(ever_ready=False, answered=False), worker, backup=held)
    assert (status(starting), ready(starting, NOW)[0]) == ("warn", True)
    assert status(starting, NOW + 60) == "fail"
    assert status(world(down, worker, backup=held)) == "fail"


def test_one_that_was_replaced_is_not_ready_though_it_had_rehearsed() -> None:
    """Nothing is started here any more."""
    down = UP._replace(ready=False, ever_ready=False, answered=False)
    view = BackupView(state=BackupState.STANDBY, holds=True, rehearsed=True)
    assert status(world(down, backup=view)) == "warn"
    assert status(world(down, backup=view._replace(state=BackupState.REPLACED))) == "fail"


def test_after_a_take_over_an_app_that_answered_once_counts_whatever_its_next_runs_do() -> None:
    """A crash right after the first answer is told at once, also while the next run has not answered yet."""
    held = BackupView(rehearsed=True, ready_until_s=NOW + 60)
    again = UP._replace(ready=False, ready_why="it has not answered yet", ever_ready=False)
    for view in (again, again._replace(state=State.BACKOFF, pid=None), again._replace(state=State.INACTIVE, pid=None)):
        assert (status(world(view, backup=held)), ready(world(view, backup=held), NOW)[0]) == ("fail", False)


def test_the_worst_is_told_first() -> None:
    """A reader of only one reason sees why it fails."""
    worker = UP._replace(name="worker", critical=False, ready=False, ready_why="slow")
    app = UP._replace(ready=False, ready_why="no answer")
    assert assess(world(worker, app), NOW).reasons == ("moltis: no answer", "worker: slow")


def test_one_that_did_its_work_is_well() -> None:
    """This is a process that exited with 0 and is not to be started again."""
    job = ProcessView("job", State.ENDED, exits=(ExitView(NOW, 0, None, 1.0, "exit code 0"),))
    assert status(world(UP, job)) == "pass"
    assert status(world(UP, job._replace(exits=crashes(5)))) == "warn"


def test_flapping_is_held_until_it_has_settled() -> None:
    """After three crashes the verdict does not jump back with each start."""
    flapping = UP._replace(exits=crashes(30, 20, 10), ready_since_s=NOW - 1)
    verdict = assess(world(flapping), NOW)
    assert (verdict.status, verdict.until_s) == ("fail", NOW - 1 + health.SETTLED_S)
    settled = assess(world(flapping), NOW + 9)
    assert (settled.status, settled.until_s) == ("warn", NOW - 30 + health.FLAPPING_WINDOW_S)
    assert status(world(flapping), NOW + health.FLAPPING_WINDOW_S) == "pass"
    # It is over when only two crashes are left, however many there were.
    many = assess(world(flapping._replace(exits=crashes(60, 50, 30, 20, 10))), NOW + 9)
    assert many.until_s == settled.until_s


def test_stops_that_were_asked_for_are_no_flapping() -> None:
    """An operator may restart as often as they like."""
    assert status(world(UP._replace(exits=crashes(30, 20, 10, expected=True), ready_since_s=NOW))) == "pass"


def test_the_tailnet_warns_and_fails_only_after_its_grace() -> None:
    """By default it never fails, since a restart seldom fixes it."""
    away = TailnetView("embedded", "needs login", away_since_s=NOW - 100)
    assert status(world(UP, tailnet=away)) == "warn"
    assert status(world(UP, tailnet=away, tailnet_grace_s=101.0)) == "warn"
    assert status(world(UP, tailnet=away, tailnet_grace_s=100.0)) == "fail"
    assert status(world(UP, tailnet=away._replace(by_owner=True), tailnet_grace_s=0.0)) == "warn"
    assert assess(world(UP, tailnet=away, tailnet_grace_s=150.0), NOW).until_s == NOW + 50


def test_a_blink_of_the_tailnet_changes_the_state_and_not_the_verdict() -> None:
    """The state that is shown changes at once; the verdict waits ten seconds, unless the grace is zero."""
    blink = TailnetView("embedded", "connecting", away_since_s=NOW - 3, first_up_s=NOW - 50)
    assert status(world(UP, tailnet=blink)) == "pass"
    assert assess(world(UP, tailnet=blink), NOW).components[1].state == "connecting"
    assert status(world(UP, tailnet=blink, tailnet_grace_s=0.0)) == "fail"


@pytest.mark.parametrize("state", [state for state in STATES if state != TailnetState.CONNECTED])
def test_a_tailnet_that_was_never_up_warns_from_the_start(state: str) -> None:
    """This holds in every state: only a tailnet that was up can blink. Its grace counts from the start too."""
    new = TailnetView("embedded", state, away_since_s=NOW)
    assert status(world(UP, tailnet=new)) == "warn"
    assert status(world(UP, tailnet=new, tailnet_grace_s=1.0)) == "warn"
    assert status(world(UP, tailnet=new, tailnet_grace_s=1.0), NOW + 1) == "fail"


def test_no_tailnet_is_no_component() -> None:
    """If it is off, health does not mention it."""
    assert [part.name for part in assess(world(UP, tailnet=TailnetView()), NOW).components] == ["moltis"]


def test_stopping_is_not_ready() -> None:
    """This holds although everything still runs."""
    assert ready(world(UP, stopping=True), NOW) == (False, ("stopping",))


@given(
    # Weighted to running processes, whose verdict changes with time.
    state=st.sampled_from([State.RUNNING] * len(State) + list(State)),
    critical=st.booleans(),
    is_ready=st.booleans(),
    ago=st.lists(st.floats(0, 1000) | st.floats(0, 300), max_size=10).map(lambda ago: tuple(sorted(ago, reverse=True))),
    since=st.floats(0, 1000),
)
@example(state=State.RUNNING, critical=True, is_ready=True, ago=(299.5, 200.0, 100.0), since=1.0)
def test_until_is_when_time_changes_it(
    *, state: State, critical: bool, is_ready: bool, ago: tuple[float, ...], since: float
) -> None:
    """Nothing changes before that time; if there is one, the verdict changes then."""
    view = UP._replace(state=state, critical=critical, ready=is_ready, ready_since_s=NOW - since, exits=crashes(*ago))
    verdict = assess(world(view), NOW)
    until_s = verdict.until_s if verdict.until_s is not None else NOW + 10_000
    assert until_s > NOW
    assert assess(world(view), NOW + (until_s - NOW) * 0.99).status == verdict.status
    assert verdict.until_s is None or assess(world(view), until_s) != verdict


def test_probes_before_the_first_answer_are_frequent() -> None:
    """Every miss then means not ready."""
    probing, finding = take_probe(Probing(), "refused", 1.0, 1.0, 120.0)
    assert (finding.ready, finding.hung, interval_s(probing)) == (False, False, 0.5)
    probing, finding = take_probe(probing, None, 2.0, 2.0, 120.0)
    assert (finding.ready, interval_s(probing)) == (True, 5.0)


def test_one_miss_is_not_hung_however_short_the_limit() -> None:
    """Between two probes nothing is known; an app that is not even unready is not restarted."""
    probing, _ = take_probe(Probing(), None, 0.0, 0.0, 0.5)
    found = []
    for miss in (1, 2, 3):
        probing, finding = take_probe(probing, "no answer", miss * 5.0, miss * 5.0, 0.5)
        found.append((finding.ready, finding.hung))
    assert found == [(None, False), (None, False), (False, True)]


def test_three_misses_make_it_not_ready_and_long_silence_hung() -> None:
    """One answer resets both."""
    probing, _ = take_probe(Probing(), None, 0.0, 0.0, 60.0)
    for miss in range(1, 12):
        probing, finding = take_probe(probing, "no answer", miss * 5.0, miss * 5.0, 60.0)
        assert finding.ready is (None if miss < MISSES else False)
        assert not finding.hung
    assert take_probe(probing, "no answer", 60.0, 60.0, 60.0)[1].hung
    assert not take_probe(probing, "no answer", 60.0, 60.0, None)[1].hung
    mended, finding = take_probe(probing, None, 60.0, 60.0, 60.0)
    assert (mended, finding.ready) == (Probing(answered=True, seen_s=60.0), True)


def test_a_probe_that_a_busy_loop_ends_late_is_a_miss() -> None:
    """Only one that ended far too late is ignored: the loop is a little late whenever there is much to do."""
    probing, _ = take_probe(Probing(), None, 0.0, 0.0, None)
    late_s = health.DEADLINE_S + health.LATE_S
    assert take_probe(probing, "no answer", 5.0, 5.0 + late_s, None)[0].misses == 1
    assert take_probe(probing, "no answer", 5.0, 5.1 + late_s, None)[0].misses == 0


@pytest.mark.parametrize("frozen_in", ["the wait", "the probe"])
def test_time_in_which_the_supervisor_did_not_run_is_nobodys_silence(frozen_in: str) -> None:
    """After an hour's pause an app is hung no sooner than without one, and the interrupted probe is not a miss."""
    probing, _ = take_probe(Probing(), None, 0.0, 0.0, 60.0)
    probing, _ = take_probe(probing, "no answer", 5.0, 7.0, 60.0)
    if frozen_in == "the probe":
        probing, finding = take_probe(probing, "no answer", 10.0, 3610.0, 60.0)
        assert (finding.ready, probing.misses) == (None, 1)
    now_s = 3610.0
    for _ in range(9):
        probing, finding = take_probe(probing, "no answer", now_s, now_s + 2.0, 60.0)
        assert not finding.hung
        now_s += 5.0
    while not finding.hung:
        probing, finding = take_probe(probing, "no answer", now_s, now_s + 2.0, 60.0)
        now_s += 5.0
    assert 3610.0 + 45.0 < now_s < 3610.0 + 70.0


@given(st.lists(st.booleans(), max_size=60))
def test_one_that_never_answered_is_never_hung(answers: list[bool]) -> None:
    """A slow start is not a hang: only a process that has answered once can stop answering."""
    probing = Probing()
    for number, answered in enumerate(answers):
        had = probing.answered
        probing, finding = take_probe(probing, None if answered else "miss", number * 5.0, number * 5.0, 10.0)
        assert not finding.hung or had


def test_changes_are_remembered_by_what_is_wrong() -> None:
    """Other words for the same problem are not a change; above the limit the oldest change is dropped."""
    fine = assess(Snapshot(), 0.0)
    bad = assess(Snapshot(processes=(ProcessView("app", State.BACKOFF, critical=True),)), 0.0)
    worse = assess(Snapshot(processes=(ProcessView("app", State.STOPPING, critical=True),)), 0.0)
    changes = remembered((), bad, 1.0)
    assert changes == (HealthChange(1.0, "fail", bad.reasons, (("app", "fail"),)),)
    assert bad.reasons != worse.reasons
    assert remembered(changes, worse, 2.0) == changes
    changes = remembered(changes, fine, 3.0)
    assert [(change.at_s, change.status) for change in changes] == [(1.0, "fail"), (3.0, "pass")]
    for number in range(100):
        changes = remembered(changes, bad if number % 2 == 0 else fine, 10.0 + number)
    assert len(changes) == MOST_CHANGES
    assert changes[-1].at_s == 109.0
