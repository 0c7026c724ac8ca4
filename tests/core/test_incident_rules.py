"""Which incidents a snapshot means."""

from __future__ import annotations

import pytest

from supervisor.core.backup import BackupState, BackupView
from supervisor.core.incident_rules import bad_start
from supervisor.core.incidents import ERROR
from supervisor.core.process import State
from supervisor.core.snapshot import HealthChange, HealthView, ProcessView, Snapshot

FAILED = HealthChange(100.0, "fail", ("moltis: not started",), (("moltis", "fail"),))
APP = ProcessView("moltis", State.WAITING, critical=True)


@pytest.mark.parametrize(
    ("state", "holds", "since_s", "told_s"),
    [
        (BackupState.OFF, False, 0.0, 160.0),
        # Held up by what may take minutes, and told nobody as long as it goes on.
        (BackupState.RESTORING, True, 101.0, None),
        (BackupState.STANDBY, True, 101.0, None),
        # The start itself begins after it.
        (BackupState.IDLE, False, 500.0, 560.0),
        (BackupState.HELD, True, 110.0, 170.0),
    ],
)
def test_a_bad_start(state: BackupState, holds: bool, since_s: float, told_s: float | None) -> None:  # noqa: FBT001
    """A start that is late is told, a restore that takes its time is not."""
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
