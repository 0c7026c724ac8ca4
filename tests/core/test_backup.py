"""What a start does, which snapshot is newest, and which may be forgotten, as pure functions."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.backup import (
    BackupState,
    BackupView,
    Course,
    Files,
    Marker,
    SnapshotView,
    decide,
    find,
    hold_of,
    judge,
    newest,
    to_forget,
)
from supervisor.core.health import assess
from supervisor.core.process import State
from supervisor.core.snapshot import ProcessView, Snapshot, TailnetView
from supervisor.tailnet.held import of_backups

REPOSITORY = "a repository"
OURS = Marker(REPOSITORY, 3, "us")


def test_the_newest_is_so_by_its_order_and_not_by_a_clock() -> None:
    """A clock that was a year fast makes no snapshot newer."""
    fast = snapshot(1, 9, at="2038-01-01T00:00:00Z")
    assert newest((fast, snapshot(2, 1))) == snapshot(2, 1)


def test_a_file_that_stays_unreadable_does_not_bring_back_what_is_old() -> None:
    """Every snapshot is then partial, and the newest of them counts; one without a folder counts last."""
    damaged, without_folder = snapshot(1, 2, whole=False), snapshot(1, 3, whole=False, complete=False)
    assert newest((snapshot(1, 1), damaged, without_folder)) == damaged
    assert newest((without_folder,)) == without_folder


def test_what_is_held_shows_the_backups_state_its_reason_and_how_far_it_is() -> None:
    """The app and the tailnet wait for the same thing: restoring, standby and held are then their states too."""
    for state in (BackupState.RESTORING, BackupState.STANDBY, BackupState.HELD, BackupState.CHOOSE):
        app = ProcessView("moltis", critical=True, command="", since_s=0.0, state=hold_of(state))
        view = BackupView(state, holds=True, why="the reason", progress=0.43, interval_s=300.0)
        tailnet = TailnetView("embedded", of_backups(view).state)
        told = assess(Snapshot(processes=(app,), tailnet=tailnet, backup=view), 1.0)
        for name in ("moltis", "tailnet"):
            part = next(each for each in told.components if each.name == name)
            assert part.state == state.value
            assert "the reason" in part.why
            assert "43%" in part.why


def test_what_an_instance_that_was_replaced_holds_is_held() -> None:
    """It does not wait for anything: only a new start of the container ends this."""
    assert hold_of(BackupState.REPLACED) is State.HELD
    view = BackupView(BackupState.REPLACED, holds=True, rehearsed=True, ready_until_s=1.0, interval_s=300.0)
    assert assess(Snapshot(backup=view), 1.0).status == "fail"


def test_what_a_restore_by_hand_holds_is_told_likewise() -> None:
    """The app waits, although the start was released long ago."""
    app = ProcessView("moltis", critical=True, command="", since_s=0.0, state=State.RESTORING)
    view = BackupView(BackupState.RESTORING, progress=0.43, interval_s=300.0)
    told = assess(Snapshot(processes=(app,), backup=view), 1.0)
    assert (told.components[0].state, told.components[0].why, told.status) == ("restoring", "43% of it is done", "fail")
    waiting = assess(Snapshot(processes=(app._replace(state=State.WAITING),), backup=view), 1.0)
    assert waiting.components[0].why == "waiting"


def snapshot(generation: int, sequence: int, **more: object) -> SnapshotView:
    """Return a snapshot whose id shows its order."""
    view = SnapshotView(f"{generation:04}{sequence:04}", "2026-11-29T04:00:00Z", generation, sequence, instance="us")
    return view._replace(**more)  # type: ignore[arg-type]


ROWS = [
    (OURS, Files.SOME, (snapshot(3, 1),), Course.GO_ON),
    (OURS, Files.NONE, (snapshot(3, 1),), Course.GO_ON),
    (OURS, Files.SOME, (), Course.GO_ON),
    (OURS, Files.SOME, (snapshot(2, 9),), Course.GO_ON),
    (OURS, Files.SOME, (snapshot(4, 1),), Course.ASK),
    (OURS, Files.SOME, (snapshot(3, 2, instance="another"),), Course.ASK),
    (OURS._replace(repository="another"), Files.SOME, (snapshot(3, 1),), Course.ASK),
    (OURS._replace(repository="another"), Files.SOME, (), Course.ASK),
    (None, Files.NONE, (snapshot(1, 1),), Course.RESTORE),
    (None, Files.NONE, (), Course.BEGIN),
    (None, Files.SOME, (), Course.ADOPT),
    (None, Files.SOME, (snapshot(1, 1),), Course.ASK),
    (None, Files.MIXED, (snapshot(1, 1),), Course.ASK),
    (None, Files.MIXED, (), Course.ASK),
    (None, Files.DAMAGED, (snapshot(1, 1),), Course.ASK),
    (None, Files.DAMAGED, (), Course.ASK),
    # Snapshots of a replaced instance do not count, but the repository is not taken for empty.
    (None, Files.NONE, (snapshot(1, 1), snapshot(2, 5, replaced=True)), Course.RESTORE),
    (None, Files.NONE, (snapshot(1, 1, replaced=True),), Course.ASK),
    (None, Files.SOME, (snapshot(1, 1, replaced=True),), Course.ASK),
    (OURS, Files.SOME, (snapshot(3, 1, replaced=True), snapshot(3, 1, instance="another")), Course.ASK),
    (OURS, Files.SOME, (snapshot(3, 1), snapshot(4, 1, instance="another", replaced=True)), Course.GO_ON),
]


def test_every_row_of_the_table() -> None:
    """A start does what the contract's table says."""
    for marker, files, snapshots, course in ROWS:
        assert decide(marker, files, snapshots, REPOSITORY)[0] is course, (marker, files, snapshots)


def test_of_two_instances_of_one_generation_the_holder_s_counts() -> None:
    """Whatever the other instance's numbers are, its snapshots are never the newest."""
    ours, theirs = snapshot(3, 1, instance="us"), snapshot(3, 9, instance="another")
    older = snapshot(2, 4, instance="another")
    judged = judge((older, theirs, ours), 3, "us")
    assert judged == (older, theirs._replace(replaced=True), ours)
    assert newest(judged) == ours
    assert newest(judge((older, theirs), 3, "us")) == older
    # If it is not known whose files the holder uses, no snapshot is marked.
    assert judge((older, theirs, ours), 3, "") == (older, theirs, ours)


snapshots_of_all_sorts = st.lists(
    st.builds(
        snapshot,
        st.integers(1, 4),
        st.integers(1, 30),
        at=st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
        whole=st.booleans(),
        complete=st.booleans(),
        programs=st.sampled_from("ab"),
        instance=st.sampled_from(["us", "another"]),
        replaced=st.booleans(),
    ),
    unique_by=lambda view: view.id,
    max_size=40,
).map(tuple)
markers = st.none() | st.builds(Marker, st.sampled_from([REPOSITORY, "x"]), st.integers(1, 5), st.sampled_from(["us"]))


@given(markers, st.sampled_from(Files), snapshots_of_all_sorts)
def test_the_table_is_total_and_empty_never_beats_full(
    marker: Marker | None, files: Files, snapshots: tuple[SnapshotView, ...]
) -> None:
    """Each combination has an answer; if there are snapshots, nothing starts empty, and files are not replaced."""
    course, why = decide(marker, files, snapshots, REPOSITORY)
    assert bool(why) == (course is Course.ASK)
    if snapshots:
        assert course not in {Course.BEGIN, Course.ADOPT}
    if course is Course.RESTORE:
        assert files is Files.NONE
        assert marker is None
    if course is Course.GO_ON:
        assert marker is not None
        assert all(each.generation <= marker.generation for each in snapshots if not each.replaced)


@given(
    snapshots_of_all_sorts, st.dictionaries(st.sampled_from(["last", "hourly", "daily", "weekly"]), st.integers(0, 9))
)
def test_what_counts_is_never_forgotten(snapshots: tuple[SnapshotView, ...], keep: dict[str, int]) -> None:
    """The newest, the newest whole one, and the last before each change of programs stay, whatever the clocks say."""
    gone = set(to_forget(snapshots, keep))
    ordered = sorted(snapshots, key=lambda each: each.order)
    kept = [each for each in ordered if each.id not in gone]
    if ordered:
        assert ordered[-1] in kept
        found = newest(ordered)
        assert found is None or (found in kept and not found.replaced)
        assert [each for each in ordered if each.whole][-1:] == [each for each in kept if each.whole][-1:]
    for older, newer in itertools.pairwise(ordered):
        assert older.programs == newer.programs or older in kept
    assert len(kept) >= min(len(ordered), keep.get("last", 0))


def test_periods_are_counted_as_restic_counts_them() -> None:
    """One an hour, one a day, or one a week is kept; a year's last week belongs to the year in which it is counted."""
    hours = [snapshot(1, hour + 1, at=f"2026-11-2{hour // 24}T{hour % 24:02}:30:00Z") for hour in range(72)]
    assert len(hours) - len(to_forget(hours, {"last": 1, "hourly": 24})) == 24
    assert len(hours) - len(to_forget(hours, {"last": 1, "daily": 2})) == 2
    weeks = [snapshot(1, 1, at="2026-12-31T00:00:00Z"), snapshot(1, 2, at="2027-01-01T00:00:00Z")]
    assert to_forget(weeks, {"last": 1, "weekly": 5}) == (weeks[0].id,)


def test_a_snapshot_is_found_by_the_beginning_of_its_id() -> None:
    """Eight characters are enough if they match only one."""
    one, other = snapshot(1, 1, id="a" * 12), snapshot(1, 2, id="a" * 11 + "b")
    assert find([one, other], "a" * 12) is one
    assert find([one, other], "a" * 8) is None
    assert find([one], "a" * 7) is None


def judged(view: BackupView, now_s: float = 100.0) -> str:
    """Return the status of health."""
    return assess(Snapshot(backup=view), now_s).status


def test_health_of_backups() -> None:
    """A held start fails; trouble, something missing and an old last snapshot warn, the last after its time."""
    view = BackupView(BackupState.IDLE, interval_s=60.0)
    assert judged(BackupView()) == "pass"
    assert judged(view) == "pass"
    assert judged(view._replace(state=BackupState.HELD, why="w")) == "fail"
    assert judged(view._replace(why="w")) == judged(view._replace(warning="w")) == "warn"
    assert judged(view._replace(state=BackupState.WITHOUT)) == "warn"
    assert judged(view, 180.0) == "warn"
    assert judged(view._replace(last_good_s=50.0), 229.0) == "pass"
    assert judged(view._replace(last_good_s=50.0), 230.0) == "warn"
    assert assess(Snapshot(backup=view._replace(last_good_s=50.0)), 100.0).until_s == 230.0
