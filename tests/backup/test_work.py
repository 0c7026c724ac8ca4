"""What the view of the backups shows while the lease cannot be renewed, and after that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from supervisor.backup.words import Trouble
from supervisor.backup.work import Work
from supervisor.core.backup import BackupState
from supervisor.core.process import State
from supervisor.core.snapshot import Snapshot
from supervisor.runtime.store import SnapshotStore

AWAY = Trouble("the bucket is away", "it is tried again")


def work() -> Work:
    """Return a Work with a view, a log that discards its records, and nothing to back up."""
    found = Work.__new__(Work)
    found._store = SnapshotStore(Snapshot())
    found.log = cast("Any", SimpleNamespace(record=lambda *_words, **_fields: None))
    found.settings = cast("Any", SimpleNamespace(interval_s=300.0))
    found.damage = found.unkept = found._failure = found._hold_failure = None
    found._said = ""
    return found


@pytest.mark.parametrize("state", [BackupState.CHOOSE, BackupState.HELD])
def test_why_a_start_is_held_is_shown_again_when_the_lease_can_be_renewed(state: BackupState) -> None:
    """Otherwise the choice that the owner has to make would no longer be shown."""
    one = work()
    one.hold(Trouble("which files count?", "choose"), state)
    one.take_hold_trouble(AWAY)
    assert one.view.why == AWAY.why
    one.take_hold_trouble(None)
    assert (one.view.why, one.view.what_to_do, one.view.state) == ("which files count?", "choose", state)


def test_a_life_without_backups_shows_a_trouble_of_the_lease_as_long_as_it_lasts() -> None:
    """Nor does the reason why the start was held come back."""
    one = work()
    one.hold(Trouble("the disk is full", "free some of it"), BackupState.HELD)
    one.go_without()
    assert (one.view.state, one.view.why) == (BackupState.WITHOUT, "")
    one.take_hold_trouble(AWAY)
    one.take_hold_trouble(None)
    assert (one.view.state, one.view.why, one.view.what_to_do) == (BackupState.WITHOUT, "", "")


def test_work_that_ends_after_another_instance_has_taken_over_does_not_hide_that() -> None:
    """A swap of files is not interrupted; what it shows at its end, and so the app's state, would have no reason."""
    one, held = work(), []
    engine = SimpleNamespace(children=("app",), hold=lambda _names, state: held.append(state))
    one.engine = cast("Any", engine)
    one.show(state=BackupState.REPLACED, holds=True, next_s=None, why="replaced", what_to_do="end one of the two")
    before = one.view
    one.rest()
    one.fail(AWAY)
    one.hold(AWAY, BackupState.HELD)
    one._take_trouble(AWAY)
    one.count_failure(AWAY)
    assert one.view._replace(taken=before.taken) == before
    assert held == [State.HELD]
