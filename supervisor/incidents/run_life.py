"""Keeps this run's record on the disk up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from supervisor import __version__
from supervisor.core.run_record import Lookout, RunRecord
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
        self.record = RunRecord(
            run=f"{int(began_s * 1000):x}",
            began_s=began_s,
            alive_s=began_s,
            version=__version__,
            machine=machine(),
            limit_bytes=cgroup.memory().limit,
        )

    def begin(self, snapshot: Snapshot) -> Lookout:
        """Write the record from now on; return what tells how the previous run ended, besides its record."""
        self._begun = True
        self.change(durable=True)
        backup = snapshot.backup
        restored = dict(backup.restores).get("ok", 0) > 0
        return Lookout(self.record.machine, restored, backup.released, backup.held_until_s)

    def look(self) -> int | None:
        """Record that the run is alive, and how much memory is used; return the latter."""
        used_bytes = cgroup.unreclaimable_bytes()
        self.change(used_bytes=used_bytes)
        return used_bytes

    def change(self, *, durable: bool = False, **changes: object) -> None:
        """Change the record; a ``durable`` one is synced."""
        self.record = msgspec.structs.replace(self.record, alive_s=now_s(), **changes)
        if self._begun:
            self._files.write_run(self.record, durable=durable)


def machine() -> str:
    """Return what identifies this boot of the machine."""
    return procfs.read(_BOOT).decode(errors="replace").strip()


def now_s() -> float:
    """Return the wall-clock time: another run, with another monotonic clock, and services compare it with theirs."""
    return time.time()  # noqa: TID251
