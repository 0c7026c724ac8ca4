"""Which incidents a snapshot indicates."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.backup import BackupState, BackupView
from supervisor.core.incident_rules import (
    bad_start,
    changed_processes,
    ended_with,
    followed_up,
    judged,
    of_stop,
    own_end,
    record_of_end,
)
from supervisor.core.incidents import CRASH, ERROR, Incident
from supervisor.core.process import State
from supervisor.core.run_record import KILLED_RUN, STOPPED, RunEnd
from supervisor.core.snapshot import ExitView, HealthChange, HealthView, ProcessView, Snapshot
from supervisor.runtime.store import SnapshotStore

FAILED = HealthChange(100.0, "fail", ("moltis: not started",), (("moltis", "fail"),))
APP = ProcessView("moltis", State.WAITING, critical=True)


@pytest.mark.parametrize(
    ("state", "holds", "since_s", "told_s"),
    [
        (BackupState.OFF, False, 0.0, 160.0),
        # Held by something that may take minutes, and not reported as long as it lasts.
        (BackupState.RESTORING, True, 101.0, None),
        (BackupState.STANDBY, True, 101.0, None),
        # The start itself begins after the hold.
        (BackupState.IDLE, False, 500.0, 560.0),
        (BackupState.HELD, True, 110.0, 170.0),
    ],
)
def test_a_bad_start(state: BackupState, holds: bool, since_s: float, told_s: float | None) -> None:  # noqa: FBT001
    """A late start is reported, a slow restore is not."""
    backup = BackupView(state=state, since_s=since_s, holds=holds)
    health = HealthView(history=(FAILED,))
    snapshot = Snapshot(processes=(APP,), started_s=100.0, backup=backup, health=health)
    if told_s is None:
        assert bad_start(snapshot, 10_000.0) is None
        return
    assert bad_start(snapshot, told_s - 1.0) is None
    told = bad_start(snapshot, told_s)
    assert told is not None
    assert told.level == ERROR


def test_the_changed_processes_are_those_of_a_whole_comparison() -> None:
    """This holds from one snapshot to the next, over several, and if no process changed in between."""
    seen: list[Snapshot] = []
    store = SnapshotStore(Snapshot(processes=(APP,)))
    store.watch(seen.append)
    for view in (
        ProcessView("redis"),
        ProcessView("worker"),
        APP._replace(state=State.RUNNING),
        ProcessView("worker", State.BACKOFF),
        ProcessView("worker", State.BACKOFF),
    ):
        store.update_process(view)
        store.update_health(HealthView(since_s=len(seen)))
    assert len(seen) == 9
    snapshots = [Snapshot(processes=(APP,)), *seen]
    for first, before in enumerate(snapshots):
        for after in snapshots[first:]:
            earlier = {view.name: view for view in before.processes}
            changed = [(earlier.get(view.name), view) for view in after.processes if earlier.get(view.name) is not view]
            assert changed_processes(before, after) == changed


def test_a_restart_is_told_alike_whether_its_pause_was_seen_or_not() -> None:
    """One whose pause was over before incidents were recorded was reported as if someone had ordered it."""
    crash = Incident(id="", at_s=10.0, kind=CRASH, subject="moltis", level=ERROR, what="moltis crashed")
    crashed = APP._replace(
        exits=(ExitView(at_s=10.0, code=3, signal=None, reason="exit code 3", uptime_s=1.0),), failures=1
    )
    waits = crashed._replace(state=State.BACKOFF, since_s=10.0, next_try_s=10.5)
    runs = crashed._replace(state=State.RUNNING, since_s=10.5, started_s=10.5)
    told = [followed_up(crash, Snapshot(processes=(view,)), view, 11.0).done for view in (waits, runs)]
    assert told == ["it is started again after 0.5 s (failure 1 in a row)", "it was started again after 0.5 s"]


STOPPING = msgspec.structs.replace(of_stop(Snapshot(stopping_why="SIGTERM received"), 50.0), run="a")
STOPPED_RUN = ended_with(STOPPING, 0, "", 1.0)
FAILED_RUN = ended_with(STOPPING, 70, "moltis is critical", 1.0)
CRASHED_LATER = Incident("c", 70.0, CRASH, "moltis", ERROR, "moltis crashed", run="b")
SEEN_LATER = judged(STOPPED_RUN, RunEnd(STOPPED, 50.0, ""), "started again at 60, version 1")
OTHER_RUN = msgspec.structs.replace(FAILED_RUN, run="b")
KILLED_LATER = judged(STOPPING, RunEnd(KILLED_RUN, 60.0, "it was not told to stop"), "started again")


@pytest.mark.parametrize(
    ("run", "known", "own"),
    [
        ("a", [STOPPED_RUN], STOPPED_RUN),
        ("a", [FAILED_RUN], FAILED_RUN),
        ("a", [STOPPING], STOPPING),
        ("a", [SEEN_LATER], SEEN_LATER),
        # What the next run wrote about it is nothing that it said itself.
        ("a", [KILLED_LATER], None),
        # The end of an earlier run.
        ("b", [STOPPED_RUN, CRASHED_LATER], None),
        ("b", [STOPPED_RUN, OTHER_RUN], OTHER_RUN),
    ],
)
def test_the_end_that_a_run_wrote_itself(run: str, known: list[Incident], own: Incident | None) -> None:
    """A run that has none was killed."""
    assert own_end(known, run) is own


@pytest.mark.parametrize(
    ("known", "run"),
    [
        ([CRASHED_LATER, STOPPED_RUN], "a"),
        ([STOPPING], None),
        ([KILLED_LATER], None),
        # A later run was there, and nothing is known of its end.
        ([STOPPED_RUN, CRASHED_LATER], None),
        ([SEEN_LATER], None),
        ([], None),
    ],
)
def test_a_run_without_a_record_is_known_from_its_end(known: list[Incident], run: str | None) -> None:
    """The last version of a record is not synced: after a power loss it may be without content."""
    found = record_of_end(known)
    assert (found and found.run) == run
