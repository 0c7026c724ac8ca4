"""The only place that waits for children, managed ones and adopted orphans."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.core.process import ExitStatus
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, KeysView


class Exit(NamedTuple):
    """The exit of a child; ``peak_bytes`` is its peak resident memory, None if unknown."""

    pid: int
    exit_status: ExitStatus
    peak_bytes: int | None = None


def decode(status: int) -> ExitStatus:
    """Decode a wait status of the kernel."""
    code = os.waitstatus_to_exitcode(status)
    return ExitStatus(code=code) if code >= 0 else ExitStatus(signal=-code)


class Reaper:
    """Collects exited children and notifies the owner of each; children without an owner are orphans.

    There must be no ``reap`` between spawning and ``own``. A pid stays valid for signals until its owner was notified,
    since there is no other waiter.
    """

    def __init__(self) -> None:
        self._owners: dict[int, Callable[[Exit], None]] = {}
        self.orphans = 0
        self._own_peak_kib = 0

    def own(self, pid: int, on_exit: Callable[[Exit], None]) -> None:
        """Call ``on_exit`` once when ``pid`` has exited."""
        self._owners[pid] = on_exit

    @property
    def owned(self) -> KeysView[int]:
        """The managed children that have not been reaped, now and later."""
        return self._owners.keys()

    def reap(self, on_orphan: Callable[[int], None], most: int = 1000) -> bool:
        """Collect up to ``most`` children without waiting; return whether there may be more.

        ``on_orphan`` is called with the pid of each child without an owner.
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
            owner(Exit(pid, decode(status), self._peak_bytes(usage.ru_maxrss)))
        return True

    def _peak_bytes(self, peak_kib: int) -> int | None:
        # Before its exec a child shares this process's memory, which counts as its own (getrusage(2)).
        if peak_kib <= self._own_peak_kib:
            return None
        # Imported by the call that waits.
        from supervisor.system import procfs

        own_kib = procfs.own_peak_kib()
        self._own_peak_kib = own_kib or 0
        return peak_kib * 1024 if own_kib is not None and peak_kib > own_kib else None
