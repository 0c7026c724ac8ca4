"""Real instances whose writes to the holder's object are made, but not answered, or refused once."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tests.backup.deploying import Disk, readiness, wait_ready
from tests.backup.test_two import HASTE, at_work, by, takes_over
from tests.backup.world import back_up, listed
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.backups import Bucket
    from tests.support.flaky import Flaky


def test_a_holder_whose_writes_get_no_answer_is_not_taken_for_dead(server: Bucket, way: Flaky) -> None:
    """It serves on, and says what is wrong; with answers again it takes snapshots, and hands over what it has."""
    old, new = Disk(by(way)), Disk(server.repository)
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        way.mode = "unheard"
        old.keep("later")
        end_s = time.monotonic() + 5 * HASTE["silence_s"]
        wait_until(lambda: time.monotonic() > end_s or two.find("taking over"), 30.0, "many times the silence")
        assert way.unheard > HASTE["silence_s"] / HASTE["renew_s"]
        assert listed(one)["why"]
        assert two.find("taking over") is None
        assert one.find("another instance has taken over") is None
        way.mode = "pass"
        assert back_up(one)["whole"]
        assert one.stop() == 0
        one.wait_for("handed over", whole=True)
        assert takes_over(two, new) == ["old", "later"]


def test_one_whose_writes_get_no_answer_takes_over_from_a_dead_one(way: Flaky) -> None:
    """Its own name in the object is the confirmation: otherwise no instance would run."""
    old, new = Disk(by(way)), Disk(by(way))
    with at_work(old, "old") as one, new.container({**HASTE, "settle_s": 0.2}) as two:
        wait_ready(two)
        way.mode = "unheard"
        os.kill(one.pid, signal.SIGKILL)
        assert takes_over(two, new) == ["old"]
        assert two.find("backups: trouble")
        way.mode = "pass"
        assert back_up(two)["generation"] == 2
        assert readiness(two) == 200


def test_a_release_that_is_refused_once_costs_the_next_one_nothing(server: Bucket, way: Flaky) -> None:
    """It is made a second later."""
    old, new = Disk(by(way)), Disk(server.repository)
    with at_work(old, "old") as one:
        old.keep("last")
        way.mode = "unreleased"
        assert one.stop() == 0
        assert way.mode == "pass"
        one.wait_for("handed over", whole=True)
    # With the usual silence of a minute.
    with new.container() as two:
        assert takes_over(two, new) == ["old", "last"]
        assert two.find("standing by") is None
