"""Several instances that start at once: only one counts, and what another one adds is not restored automatically."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.backup.deploying import Disk, wait_ready
from tests.backup.test_two import HASTE, at_work, by, is_out, snapshots, takes_over
from tests.backup.world import back_up, call_without_waiting, child_of, health_of, listed, wait_for_state
from tests.support.flaky import flaky
from tests.support.processes import freeze, thaw
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.backups import Bucket
    from tests.support.flaky import Flaky


@pytest.mark.parametrize("count", [2, 3])
def test_of_several_that_wait_one_takes_over(server: Bucket, count: int) -> None:
    """After the holder is killed, one of the waiting instances starts, and the others keep waiting and say so."""
    old, new = Disk(server.repository), [Disk(server.repository) for _ in range(count)]
    with at_work(old, "old") as one, contextlib.ExitStack() as stack:
        runs = [stack.enter_context(disk.container(HASTE)) for disk in new]
        for run in runs:
            wait_ready(run, 120.0)
        os.kill(one.pid, signal.SIGKILL)
        winner = wait_until(lambda: next((run for run in runs if run.find("started")), None), 60.0, "a take-over")
        assert takes_over(winner, new[runs.index(winner)]) == ["old"]
        back_up(winner)
        for run in runs:
            if run is not winner:
                assert "another instance" in wait_for_state(run, "standby")["why"]
                assert run.find("started") is None
        assert winner.find("another instance has taken over") is None


@pytest.mark.parametrize("count", [2, 3])
def test_several_that_begin_a_repository_at_once(server: Bucket, count: int) -> None:
    """One creates it and starts; the others find it, and stand by; later one of them takes over."""
    disks = [Disk(server.repository) for _ in range(count)]
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(disk.container(HASTE)) for disk in disks]
        winner = wait_until(lambda: next((run for run in runs if run.find("started")), None), 60.0, "a start")
        others = [run for run in runs if run is not winner]
        for other in others:
            wait_for_state(other, "standby", 60.0)
            wait_ready(other)
            assert other.find("started") is None
        wait_ready(winner)
        disks[runs.index(winner)].keep("row")
        assert winner.stop() == 0
        after = wait_until(lambda: next((run for run in others if run.find("started")), None), 60.0, "a take-over")
        assert takes_over(after, disks[runs.index(after)]) == ["row"]
        for other in others:
            assert other is after or "another instance" in wait_for_state(other, "standby")["why"]


def test_where_conditions_are_ignored_the_loser_adds_nothing(way: Flaky) -> None:
    """Both may write at once, and both writes succeed; five seconds later one of them finds its own replaced."""
    way.mode = "careless"
    old, new = Disk(by(way)), [Disk(by(way)) for _ in range(2)]
    with at_work(old, "old") as one, contextlib.ExitStack() as stack:
        runs = [stack.enter_context(disk.container(HASTE)) for disk in new]
        for run in runs:
            wait_ready(run, 120.0)
        os.kill(one.pid, signal.SIGKILL)
        winner = wait_until(lambda: next((run for run in runs if run.find("started")), None), 60.0, "a take-over")
        disk = new[runs.index(winner)]
        assert takes_over(winner, disk) == ["old"]
        assert winner.find("the bucket heeds no conditions")
        back_up(winner)
        loser = runs[1 - runs.index(winner)]
        wait_until(
            lambda: loser.find("another instance has taken over") or loser.find("started") is None,
            what="one that is out, or never was in",
        )
        wait_until(lambda: health_of(winner)["status"] == "pass", 30.0, "one that serves")
        assert {each["generation"] for each in listed(winner)["snapshots"]} == {1, 2}


def test_two_that_take_over_at_once_where_conditions_are_ignored_both_start(server: Bucket, way: Flaky) -> None:
    """In the remaining window one's request comes late; the other is then out, and what it still adds never counts."""
    old, first, second, last = Disk(server.repository), Disk(server.repository), Disk(by(way)), Disk(server.repository)
    with contextlib.ExitStack() as stack:
        careless = stack.enter_context(flaky(server.port))
        careless.mode, first.repository = "careless", by(careless)
        zero = stack.enter_context(at_work(old, "old"))
        way.mode = "careless"
        one, two = (stack.enter_context(disk.container(HASTE)) for disk in (first, second))
        for run in (one, two):
            wait_ready(run)
        freeze(one.pid)
        way.mode = "late"
        assert zero.stop() == 0
        assert way.is_late.wait(30.0)
        thaw(one.pid)
        assert takes_over(one, first) == ["old"]
        first.keep("of the one that is out")
        (first.folder / ".moltis/much").write_bytes(os.urandom(60_000_000))
        call_without_waiting(one)
        restic_pid = wait_until(lambda: child_of(one, "restic"), what="restic")
        freeze(restic_pid)
        freeze(one.pid)
        way.mode = "careless"
        assert takes_over(two, second) == ["old"]
        assert one.find("exited") is None
        second.keep("new")
        count = snapshots(old)
        thaw(restic_pid)
        wait_until(lambda: snapshots(old) > count, 60.0, "its snapshot")
        thaw(one.pid)
        is_out(one)
        assert one.stop() == 0
        assert two.stop() == 0
        three = stack.enter_context(last.container(HASTE))
        assert takes_over(three, last) == ["old", "new"]
        three.wait_for("snapshot of a replaced instance")
        found = listed(three)["snapshots"]
        assert len([each for each in found if each["replaced"]]) == 1
