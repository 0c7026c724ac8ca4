"""Ends what a process left behind: TERM, and KILL after two seconds."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from supervisor.system import processes

if TYPE_CHECKING:
    from collections.abc import Callable

TERM_GRACE_S = 2.0
KILL_GRACE_S = 2.0
_LOOK_AGAIN_S = 0.02


class Cleaner:
    """Works through the remains that ``find`` names, each time ``work`` is called, until none is left.

    ``due_s`` is when to call it next at the latest, on the monotonic clock; an orphan reaped is a reason to call
    it at once.
    """

    def __init__(self, find: Callable[[], list[int]], term_grace_s: float = TERM_GRACE_S) -> None:
        self._find = find
        self._term_grace_s = term_grace_s
        self._started_s = time.monotonic()
        self._told: set[tuple[int, int]] = set()
        self.killed: set[int] = set()
        self.seen: dict[int, str] = {}
        self.left: list[int] = []
        self.due_s = self._started_s

    def hasten(self) -> None:
        """Go on with KILL from now on."""
        self._term_grace_s = 0.0
        self._started_s = self.due_s = time.monotonic()

    def work(self) -> bool:
        """Go on; tell whether this is over: nothing is left, or what is left cannot be ended."""
        now_s = time.monotonic()
        past_s = now_s - self._started_s
        number = signal.SIGTERM if past_s < self._term_grace_s else signal.SIGKILL
        self.left = self._find()
        for pid in self.left:
            self.seen.setdefault(pid, processes.name_of(pid))
            if number is signal.SIGKILL:
                self.killed.add(pid)
            if (pid, number) not in self._told:
                self._told.add((pid, number))
                _send(pid, number)
        kill_s = self._started_s + self._term_grace_s
        self.due_s = min(now_s + _LOOK_AGAIN_S, kill_s) if now_s < kill_s else now_s + _LOOK_AGAIN_S
        return not self.left or past_s >= self._term_grace_s + KILL_GRACE_S


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
