"""Keeps this run's record on the disk up to date, and determines how the previous run ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from supervisor import __version__
from supervisor.core.run_record import Lookout, RunEnd, RunRecord, end_of
from supervisor.system import cgroup, procfs

if TYPE_CHECKING:
    from supervisor.core.snapshot import Snapshot
    from supervisor.incidents.incident_files import IncidentFiles

_BOOT = "/proc/sys/kernel/random/boot_id"


class RunLife:
    """The record of this run; it is written to the disk from ``begin`` on."""

    def __init__(self, files: IncidentFiles, snapshot: Snapshot) -> None:
        self._files = files
        self._begun = False
        began_s = snapshot.began_s
        self.previous: RunRecord | None = None
        self.record = RunRecord(
            run=f"{int(began_s * 1000):x}",
            began_s=began_s,
            alive_s=began_s,
            version=__version__,
            machine=machine(),
            limit_bytes=cgroup.memory().limit,
        )

    def begin(self, previous: RunRecord | None, snapshot: Snapshot) -> RunEnd | None:
        """Write the record from now on; return how the previous run ended, None if there is no record of one."""
        self._begun = True
        self.previous = previous
        self.change(durable=True)
        backup = snapshot.backup
        restored = dict(backup.restores).get("ok", 0) > 0
        lookout = Lookout(self.record.machine, restored, backup.released, backup.held_until_s)
        return end_of(previous, lookout) if previous is not None else None

    def look(self) -> int | None:
        """Record that the run is alive, and how much memory is used; return the latter."""
        used_bytes = cgroup.unreclaimable_bytes()
        self.change(used_bytes=used_bytes)
        return used_bytes

    def stopping(self, why: str) -> None:
        """Record that the ordered stop has begun."""
        # Neither this nor the end is synced, which takes a millisecond: the incident of the end is, and says the same.
        self.change(stopping_why=why, stopping_s=_now_s())

    def ended(self, status: int) -> None:
        """Record that everything has ended."""
        self.change(ended_s=_now_s(), status=status)

    def change(self, *, durable: bool = False, **changes: object) -> None:
        """Change the record; a ``durable`` one is synced."""
        self.record = msgspec.structs.replace(self.record, alive_s=_now_s(), **changes)
        if self._begun:
            self._files.write_run(self.record, durable=durable)


def machine() -> str:
    """Return what identifies this boot of the machine."""
    return procfs.read(_BOOT).decode(errors="replace").strip()


def _now_s() -> float:
    # Wall-clock time: the record is read by another run, with another monotonic clock.
    return time.time()  # noqa: TID251
