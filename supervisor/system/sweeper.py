"""Ends leftover processes with TERM, then with KILL after two seconds, in small steps between turns of the loop.

Counts those that may be left in the same way.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from supervisor.system import procfs
from supervisor.system.signals import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from supervisor.system.procfs import Process

TERM_GRACE_S = 2.0
KILL_GRACE_S = 2.0
# Additional time per process: the kernel takes longer to end thousands at once.
_KILL_GRACE_EACH_S = 0.001
_LOOK_AGAIN_S = 0.02
# Longest step, so that the loop stays responsive; the rest between passes limits them to a fifth of the time.
_TURN_S = 0.002
_REST_FACTOR = 4.0
# Processes ending at the same time, since exits take CPU time from all others, and the pause before more are signalled.
_CROWD = 256
_PAUSE_S = {signal.SIGTERM: 0.005, signal.SIGKILL: 0.02}
_COUNT_AGAIN_S = 0.25


class Sweeper:
    """Ends the processes that ``find`` yields, one step with each call of ``work``, until none is left.

    ``due_s`` is the latest time of the next call, on the monotonic clock; reaping an orphan may set it to now. It gives
    up at ``until_s``, or as soon after that as every process was sent KILL.
    """

    def __init__(
        self,
        find: Callable[[], Iterator[Process | None]],
        term_grace_s: float = TERM_GRACE_S,
        until_s: float = math.inf,
    ) -> None:
        self._find = find
        self._kill_s = time.monotonic() + term_grace_s
        self._until_s = until_s
        self._end_s = math.inf
        self._pass: Iterator[float] | None = None
        self._number = signal.SIGTERM
        self._took_s = 0.0
        self._found: dict[int, Process] = {}
        self._ending: set[int] = set()
        self._sent: set[tuple[int, int, int]] = set()
        self.killed: set[int] = set()
        self.seen: dict[int, str] = {}
        self.left: dict[int, Process] = {}
        self.due_s = 0.0

    def figures(self) -> dict[str, Any]:
        """Return the results as fields of a log record."""
        return {
            "count": len(self.seen),
            "killed": len(self.killed),
            "still_alive": len(self.left),
            "names": sorted(set(self.seen.values())),
        }

    def take_over(self, earlier: Sweeper) -> None:
        """Go on with what another one has begun; what that one has ended counts here."""
        self.left |= earlier.left | earlier._found
        self.seen |= earlier.seen
        self.killed |= earlier.killed
        self._sent |= earlier._sent

    def escalate(self) -> None:
        """Switch to KILL now."""
        self._kill_s = self.due_s = min(self._kill_s, time.monotonic())

    def forget(self, pid: int) -> None:
        """Remove an orphan that has been reaped."""
        self._found.pop(pid, None)
        self._ending.discard(pid)
        if self._pass is not None and len(self._ending) < _CROWD // 2:
            self.due_s = 0.0
        if self.left.pop(pid, None) is not None and not self.left:
            self.due_s = 0.0

    def work(self) -> bool:
        """Do one step; return whether it is finished: nothing is left, or what is left cannot be ended."""
        begun_s = time.monotonic()
        if begun_s < self.due_s:
            return False
        if begun_s >= self._end_s:
            self.left = {pid: process for pid, process in self.left.items() if procfs.lives_on(process)}
            return True
        if begun_s >= self._kill_s and self._number != signal.SIGKILL:
            self._number = signal.SIGKILL
            self._pass, self._took_s = itertools.chain(self._kill_known(), self._look_and_end()), 0.0
        elif self._pass is None:
            self._pass, self._took_s = self._look_and_end(), 0.0
        for pause_s in self._pass:
            now_s = time.monotonic()
            if pause_s or now_s - begun_s >= _TURN_S:
                self._took_s += now_s - begun_s
                self.due_s = now_s + pause_s
                return False
        self._pass = None
        self._took_s += time.monotonic() - begun_s
        return self._finish_pass()

    def _look_and_end(self) -> Iterator[float]:
        """Find all processes, then signal them; the other order would let exits compete with the search for CPU time.

        Yields after each small piece of work the pause that is due, in seconds.
        """
        self._found = {}
        for process in self._find():
            if process is not None:
                self._found[process.pid] = process
            yield 0.0
        # A process whose parent ended meanwhile was reparented to a part of the tree that was searched before.
        for pid, process in [*self.left.items()]:
            if pid not in self._found and procfs.lives_on(process):
                self._found[pid] = process
            yield 0.0
        yield from self._end_found()

    def _kill_known(self) -> Iterator[float]:
        """Kill what was found before: searching thousands takes seconds on a busy machine."""
        own = os.getpid()
        self.left |= self._found
        self._found = {}
        for pid, process in [*self.left.items()]:
            # A child keeps its pid until it is reaped, which ``forget`` tells; another's may have been given away.
            if pid in self.left and (process.parent == own or procfs.lives_on(process)):
                self._found[pid] = process
            yield 0.0
        yield from self._end_found()

    def _end_found(self) -> Iterator[float]:
        """Send the due signal to everything that was found, a limited number at once."""
        self._ending.clear()
        room = _CROWD
        for pid, process in [*self._found.items()]:
            if pid in self._found and self._end(process):
                self._ending.add(pid)
                room -= 1
            if room > 0 or time.monotonic() >= self._until_s:
                yield 0.0
            else:
                yield _PAUSE_S[self._number]
                room = max(_CROWD - len(self._ending), _CROWD // 2)

    def _end(self, process: Process) -> bool:
        """Send the current signal; return whether this process gets it for the first time."""
        pid, number = process.pid, self._number
        self.seen.setdefault(pid, process.name)
        if number == signal.SIGKILL:
            self.killed.add(pid)
        new = (pid, process.born, number) not in self._sent
        if new:
            self._sent.add((pid, process.born, number))
            send(pid, number)
        if process.stopped:
            send(pid, signal.SIGCONT)
        return new

    def _finish_pass(self) -> bool:
        """Set the time of the next pass and of giving up; return whether nothing is left."""
        self.left, self._found = self._found, {}
        now_s = time.monotonic()
        if self._number == signal.SIGKILL:
            patience_s = KILL_GRACE_S + len(self.left) * _KILL_GRACE_EACH_S
            self._end_s = min(self._end_s, now_s + patience_s, max(now_s, self._until_s))
        next_s = self._end_s if self._number == signal.SIGKILL else self._kill_s
        self.due_s = min(now_s + max(_LOOK_AGAIN_S, self._took_s * _REST_FACTOR), next_s)
        return not self.left


class Headcount:
    """Counts the live processes that ``find`` yields, again and again, one step with each call of ``work``.

    While the first ones are counted, ``count`` has those found so far. ``due_s`` is the time of the next step; the
    first is due ``after_s`` from now.
    """

    def __init__(self, find: Callable[[], Iterable[Process | None]], after_s: float = 0.0) -> None:
        self._find = find
        self._pass: Iterator[Process | None] | None = None
        self._found = 0
        self.count = 0
        self.due_s = time.monotonic() + after_s

    def work(self) -> None:
        """Do one step, if it is due."""
        begun_s = now_s = time.monotonic()
        if begun_s < self.due_s:
            return
        if self._pass is None:
            self._pass, self._found = iter(self._find()), 0
        pause_s = _COUNT_AGAIN_S
        for process in self._pass:
            self._found += process is not None
            now_s = time.monotonic()
            if now_s - begun_s >= _TURN_S:
                pause_s = 0.0
                break
        else:
            self._pass = None
        self.count = self._found if self._pass is None else max(self.count, self._found)
        self.due_s = now_s + max(pause_s, (now_s - begun_s) * _REST_FACTOR)
