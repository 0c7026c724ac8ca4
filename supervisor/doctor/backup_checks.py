"""Checks the backups, and whether two instances share one identity."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.core.backup import COMPONENT as BACKUP
from supervisor.core.backup import BackupState
from supervisor.core.health import PASS, assess
from supervisor.doctor.finding import Check
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.doctor.finding import Diagnosis
    from supervisor.doctor.subject import Subject

_PAGE = "reference/backups.md"
SNAPSHOTS = Check(
    "backups",
    "snapshots",
    "the state of the backups, and the age of the last good one",
    "a new container is restored from it",
    _PAGE,
)
INSTANCES = Check(
    "tailnet",
    "instances",
    "whether another instance uses the same identity: the folder, the backups, where control knows the device",
    "two devices with one identity disconnect each other, and damage its state",
    _PAGE,
)
CHECKS = (SNAPSHOTS, INSTANCES)
_TWO = frozenset({BackupState.STANDBY, BackupState.REPLACED})


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield the findings about the backups."""
    yield _snapshots(subject)
    yield _instances(subject)


def _snapshots(subject: Subject) -> Diagnosis:
    settings, snapshot = subject.plan.settings.backup, subject.snapshot
    if settings is None:
        return SNAPSHOTS.ok("off: SUPERVISOR_BACKUP_REPOSITORY is not set")
    if snapshot is None:
        told = f"they go to {settings.repository}, but no supervisor is running to take them"
        return SNAPSHOTS.note(told, "start the supervisor, and check again")
    view = snapshot.backup
    part = next(each for each in assess(snapshot, subject.now_s).components if each.name == BACKUP)
    if part.status == PASS:
        count = len(view.snapshots)
        return SNAPSHOTS.ok(f"{part.state}, {count} snapshot{'' if count == 1 else 's'} in {view.repository}")
    what_to_do = view.what_to_do or "see `moltis-supervisor backup list`, and the log"
    return SNAPSHOTS.problem(f"{part.state}: {view.why or view.warning or part.why}", what_to_do)


def _instances(subject: Subject) -> Diagnosis:
    view = subject.snapshot.backup if subject.snapshot is not None else None
    if view is not None and view.state in _TWO:
        return INSTANCES.problem(view.why or view.state.value, view.what_to_do or "stop the other one")
    if _is_elsewhere(subject):
        return INSTANCES.problem(
            "the control server knows this device at ports other than its own: another tailscaled has its key",
            "stop the other one, or give it a TS_STATE_DIR of its own and log it in as a device of its own",
        )
    state_dir = subject.plan.settings.tailnet.state_dir
    if subject.snapshot is None and dirs.is_locked(os.path.join(state_dir, dirs.LOCK_FILE)):
        return INSTANCES.problem(
            f"another supervisor uses {state_dir}", "stop that one, or set TS_STATE_DIR to a folder of its own"
        )
    return INSTANCES.ok("none seen")


def _is_elsewhere(subject: Subject) -> bool:
    """Return whether control knows other ports of the device than it has: another with the same key sent them."""
    status = subject.tailnet.status
    own = status.node.endpoints if status is not None and status.node is not None else None
    known, here = ({each.rpartition(":")[2] for each in found or ()} for found in (subject.tailnet.known_at, own))
    return bool(known and here) and known.isdisjoint(here)
