"""What a start does, which snapshot is newest, and which may be forgotten, as pure functions."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.backup import (
    SOME_SNAPSHOT,
    BackupState,
    BackupView,
    Course,
    Files,
    Head,
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
    """A start does what the contract's table says, also where the last holder left nothing that tells more."""
    for marker, files, snapshots, course in ROWS:
        assert decide(marker, files, snapshots, REPOSITORY, Head())[0] is course, (marker, files, snapshots)


LAST = Head(3, "us", (3, 4))
ROWS_WITH_HEAD = [
    # What the last holder left is there, or there is more, as it was killed before it could say so.
    (None, Files.NONE, (snapshot(3, 4),), LAST, Course.RESTORE),
    (None, Files.NONE, (snapshot(3, 5),), LAST, Course.RESTORE),
    (None, Files.NONE, (snapshot(2, 9),), Head(3, "us", (2, 9)), Course.RESTORE),
    (None, Files.NONE, (), Head(1, "us"), Course.BEGIN),
    (None, Files.SOME, (), Head(1, "us"), Course.ADOPT),
    (None, Files.SOME, (snapshot(3, 4),), LAST, Course.ASK),
    # It is not there, so neither an older one nor an empty life is begun.
    (None, Files.NONE, (snapshot(3, 3),), LAST, Course.MISSED),
    (None, Files.NONE, (snapshot(2, 9),), LAST, Course.MISSED),
    (None, Files.NONE, (), LAST, Course.MISSED),
    (None, Files.SOME, (), LAST, Course.MISSED),
    (None, Files.NONE, (snapshot(3, 4, replaced=True),), LAST, Course.MISSED),
    # A record of an earlier supervisor says only that there was one.
    (None, Files.NONE, (), Head(3, "us", SOME_SNAPSHOT), Course.MISSED),
    (None, Files.NONE, (snapshot(1, 1),), Head(3, "us", SOME_SNAPSHOT), Course.RESTORE),
    # The files here are the last holder's, and newer than what is not there.
    (OURS, Files.SOME, (snapshot(3, 3),), LAST, Course.GO_ON),
    (OURS, Files.SOME, (), LAST, Course.GO_ON),
    (OURS, Files.SOME, (snapshot(2, 9),), Head(2, "another", (2, 9)), Course.GO_ON),
    (OURS, Files.SOME, (snapshot(3, 4),), Head(3, "", (3, 4)), Course.GO_ON),
    # Another instance has worked since on other files, and has left no snapshot yet.
    (OURS, Files.SOME, (snapshot(3, 4),), Head(4, "another", (3, 4)), Course.ASK),
    (OURS, Files.SOME, (), Head(4, "another"), Course.ASK),
    (OURS, Files.SOME, (snapshot(3, 4),), Head(4, "", (3, 4)), Course.ASK),
    (OURS, Files.SOME, (snapshot(2, 9),), Head(3, "another", (2, 9)), Course.ASK),
    # An earlier supervisor went on with the files of an older generation: they are its own.
    (OURS, Files.SOME, (snapshot(3, 4),), Head(4, "us", (3, 4)), Course.GO_ON),
]


def test_every_row_of_the_table_with_what_the_last_holder_left() -> None:
    """A list that lacks its last snapshot is not taken for the whole one, nor older files for the newest."""
    for marker, files, snapshots, head, course in ROWS_WITH_HEAD:
        assert decide(marker, files, snapshots, REPOSITORY, head)[0] is course, (marker, files, snapshots, head)


def test_what_is_missing_is_named() -> None:
    """The owner has to know what to look for; an earlier supervisor's record does not say it."""
    assert "number 4 of generation 3" in decide(None, Files.NONE, (), REPOSITORY, LAST)[1]
    assert "has no snapshot" in decide(None, Files.NONE, (), REPOSITORY, Head(3, "us", SOME_SNAPSHOT))[1]
    assert "generation 4" in decide(OURS, Files.SOME, (), REPOSITORY, Head(4, "another"))[1]


def test_what_comes_after_the_take_over_is_late() -> None:
    """Also if the next holder has no snapshot yet; what was there when its generation began is none of that."""
    there, late = snapshot(2, 4, instance="old"), snapshot(2, 5, instance="old")
    judged = judge((there, late), Head(3, "us", (2, 4)))
    assert judged == (there, late._replace(replaced=True))
    assert newest(judged) == there
    own = snapshot(3, 1, instance="us")
    assert judge((there, own), Head(3, "us", (2, 4))) == (there, own)
    # Nothing is known of it: from an earlier supervisor, or before the first snapshot.
    for head in (Head(3, "", (2, 4)), Head(3, "us"), Head(3, "us", SOME_SNAPSHOT)):
        assert judge((there, late), head) == (there, late)
    # Its generation began without any.
    assert judge((late,), Head(3, "us", (0, 0))) == (late._replace(replaced=True),)
    # What an earlier supervisor's life has left under an older generation is its own.
    own = snapshot(2, 6, instance="us")
    assert judge((own,), Head(3, "us", (2, 4))) == (own,)


def test_of_two_instances_of_one_generation_the_holder_s_counts() -> None:
    """Whatever the other instance's numbers are, its snapshots are never the newest."""
    ours, theirs = snapshot(3, 1, instance="us"), snapshot(3, 9, instance="another")
    older = snapshot(2, 4, instance="another")
    judged = judge((older, theirs, ours), Head(3, "us"))
    assert judged == (older, theirs._replace(replaced=True), ours)
    assert newest(judged) == ours
    assert newest(judge((older, theirs), Head(3, "us"))) == older
    # If it is not known whose files the holder uses, no snapshot is marked.
    assert judge((older, theirs, ours), Head(3)) == (older, theirs, ours)


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


heads = st.builds(
    Head,
    st.integers(0, 5),
    st.sampled_from(["", "us", "another"]),
    st.sampled_from([None, (0, 0), SOME_SNAPSHOT]) | st.tuples(st.integers(1, 4), st.integers(1, 30)),
)


@given(markers, st.sampled_from(Files), snapshots_of_all_sorts, heads)
def test_the_table_is_total_and_empty_never_beats_full(
    marker: Marker | None, files: Files, snapshots: tuple[SnapshotView, ...], head: Head
) -> None:
    """Each combination has an answer; if there are snapshots, nothing starts empty, and files are not replaced."""
    course, why = decide(marker, files, snapshots, REPOSITORY, head)
    assert bool(why) == (course in {Course.ASK, Course.MISSED})
    if course in {Course.BEGIN, Course.ADOPT, Course.RESTORE}:
        assert max([each.order for each in snapshots if not each.replaced], default=(0, 0)) >= (head.last or (0, 0))
    if course is Course.GO_ON and marker is not None and marker.instance != head.instance:
        assert marker.generation >= head.generation
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
        assert [each for each in ordered if not each.replaced][-1:] == [each for each in kept if not each.replaced][-1:]
        found = newest(ordered)
        assert found is None or (found in kept and not found.replaced)
        assert [each for each in ordered if each.whole][-1:] == [each for each in kept if each.whole][-1:]
    for older, newer in itertools.pairwise(ordered):
        assert older.programs == newer.programs or older in kept
    assert len(kept) >= min(len(ordered), keep.get("last", 0))


def test_the_last_one_that_counts_is_kept_beside_one_of_a_replaced_instance() -> None:
    """The lease's object names it, so that a start without it would be held; a folder may be missing from it."""
    whole, last = snapshot(3, 1), snapshot(3, 2, whole=False, complete=False)
    replaced = snapshot(3, 9, instance="another", replaced=True)
    assert to_forget((whole, last, replaced), {"last": 1}) == ()


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
