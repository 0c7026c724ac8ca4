"""Measures time on a crowded machine, where a process may wait for a processor for seconds."""

from __future__ import annotations

import os
import time

from tests.chaos.prober import carriers, waits_s


class Stopwatch:
    """Started when it is made; it leaves out what this process, others, and the network wait for a processor."""

    def __init__(self, *pids: int) -> None:
        self._pids = (os.getpid(), *pids, *carriers())
        self._waits = waits_s(*self._pids)
        self._begun_s = time.monotonic()

    @property
    def waited_s(self) -> float:
        """All waits for a processor so far."""
        return sum(each_s - self._waits.get(thread, 0.0) for thread, each_s in waits_s(*self._pids).items())

    @property
    def net_s(self) -> float:
        """The time so far, less all waits for a processor."""
        took_s = time.monotonic() - self._begun_s
        return took_s - self.waited_s
