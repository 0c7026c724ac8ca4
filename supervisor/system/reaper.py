"""The only place that waits for children: managed ones and adopted orphans alike."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.core.process import ExitStatus
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Exit(NamedTuple):
    """The exit of a child; ``peak_bytes`` is the most memory that it had resident, None where that is unknown."""

    pid: int
    exit_status: ExitStatus
    peak_bytes: int | None = None


def decode(status: int) -> ExitStatus:
    """Return the exit status that a wait status of the kernel stands for."""
    code = os.waitstatus_to_exitcode(status)
    return ExitStatus(code=code) if code >= 0 else ExitStatus(signal=-code)


class Reaper:
    """Collects exited children and notifies the owner of each; one without an owner was an orphan.

    Spawning and ``own`` have to happen without a ``reap`` between them. A pid stays valid for signals until its
    owner was notified, since there is no other waiter.
    """

    def __init__(self) -> None:
        self._owners: dict[int, Callable[[Exit], None]] = {}
        self.orphans = 0

    def own(self, pid: int, on_exit: Callable[[Exit], None]) -> None:
        """Have ``on_exit`` called once with the end of ``pid``."""
        self._owners[pid] = on_exit

    @property
    def owned(self) -> frozenset[int]:
        """Return the managed children that have not been reaped."""
        return frozenset(self._owners)

    def reap(self, on_orphan: Callable[[int], None], most: int = 1000) -> bool:
        """Collect at most ``most`` children without waiting; tell whether there may be more.

        ``on_orphan`` is called with the pid of each that has no owner.
        """
        for _ in range(most):
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return False
            owner = self._owners.pop(pid, None)
            if owner is None:
                self.orphans += 1
                on_orphan(pid)
                continue
            owner(Exit(pid, decode(status), _peak_bytes(usage.ru_maxrss)))
        return True


def _peak_bytes(peak_kib: int) -> int | None:
    # Loaded by the call that waits.
    import resource

    # Until its exec a child's memory is this process's, and counts as its own (getrusage(2)).
    return peak_kib * 1024 if peak_kib > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss else None
