"""Requests health continuously, and subtracts the time that both sides waited for a processor."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_S = 0.2
_PAUSE_S = 0.03
_WORK = 50_000
# For the first answer: the listening socket is there before the loop that answers.
_FIRST_S = 20.0
# On a busy machine a process may not run for seconds.
_TIMEOUT_S = 30.0
_REFUSED = "no answer: "
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n"


def _schedstats(*pids: int) -> Iterator[tuple[str, list[int]]]:
    """Yield each thread's run time and waiting time, both in ns, and the number of its time slices."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                # The file is empty for a process that is just ending.
                with contextlib.suppress(OSError, IndexError):
                    yield thread, [*map(int, Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split())]


def waits_s(*pids: int) -> dict[str, float]:
    """Return how long each thread of these processes has waited for a processor so far."""
    return {thread: figures[1] / 1e9 for thread, figures in _schedstats(*pids) if figures}


@cache
def carriers() -> tuple[int, ...]:
    """Return the kernel's threads that carry packets on a busy machine, which wait for a processor like others."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith("ksoftirqd/"):
                found.append(int(path.parent.name))
    return tuple(found)


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process so far."""
    return sum(figures[0] / 1e9 for _, figures in _schedstats(pid) if figures)


def _work_s() -> float:
    """Return the processor time of a fixed piece of work."""
    begun_s = time.thread_time()
    sum(range(_WORK))
    return time.thread_time() - begun_s


@cache
def _usual_work_s() -> float:
    return min(_work_s() for _ in range(50))


def slowness() -> float:
    """Return how much longer a processor takes for the same work now than at best, such as beside a busy sibling."""
    _usual_work_s()
    return max(1.0, sorted(_work_s() for _ in range(5))[2] / _usual_work_s())


class Prober:
    """Requests health from its own thread; ``problems`` are answers that were late, wrong or missing."""

    def __init__(self, address: tuple[str, int], pid: int, most_s: float = MOST_S) -> None:
        self.problems: list[str] = []
        self.answers = 0
        self.last_s = 0.0
        self._pid = pid
        self._address = address
        self._most_s = most_s
        self._excused = 0
        # A request may be excused while it is under way.
        self._changes = 0
        self._changed_s: list[tuple[float, int]] = []
        self._ending = False
        self._connected_s = 0.0
        # The current phase and fault, for the text of a problem.
        self.now = ""
        self._over = threading.Event()
        # Of the request under way.
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def excuse(self, change: int) -> None:
        """Ignore problems while the supervisor is frozen; nested calls are counted."""
        self._excused += change
        self._changes += 1
        self._changed_s.append((time.monotonic(), self._excused))

    def was_excused(self, begin_s: float, end_s: float) -> bool:
        """Return whether problems were ignored at any time between these."""
        before = [excused for at_s, excused in self._changed_s if at_s <= begin_s]
        return any(before[-1:]) or any(begin_s < at_s <= end_s for at_s, _ in self._changed_s)

    def end(self) -> None:
        """Accept refused connections from now on: it is stopping."""
        self._ending = True

    def close(self) -> None:
        """Stop requesting."""
        self._over.set()
        # A connection to a removed container is not refused, and would wait.
        with contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._ask_always()
        except Exception:
            self.problems.append(f"nothing requests health any more: {traceback.format_exc()}")

    def _ask_always(self) -> None:
        first_until_s = time.monotonic() + _FIRST_S
        while not self._over.wait(_PAUSE_S):
            before, changes, now = self._excused, self._changes, self.now
            waited_s, cpu_before_s = waits_s(self._pid, os.getpid(), *carriers()), cpu_s(self._pid)
            begun_s = time.monotonic()
            why = self._ask()
            took_s = time.monotonic() - begun_s
            now_s = waits_s(self._pid, os.getpid(), *carriers())
            net_s = took_s - sum(each_s - waited_s.get(thread, 0.0) for thread, each_s in now_s.items())
            if before or changes != self._changes:
                first_until_s = time.monotonic() + _FIRST_S
                continue
            refused = why.startswith(_REFUSED)
            if refused and (self._ending or (not self.answers and begun_s < first_until_s)):
                continue
            # The first answer comes once the loop runs.
            self.answers += 1
            self.last_s = net_s
            if why:
                self.problems.append(f"health: {why}; {now}")
            elif net_s > self._most_s and self.answers > 1 and net_s > self._most_s * (slow := slowness()):
                self.problems.append(
                    f"health took {net_s:.3f} s of its own, {took_s:.3f} s in all, {self._connected_s - begun_s:.3f} s "
                    f"to connect; the processor worked {cpu_s(self._pid) - cpu_before_s:.3f} s for it, {slow:.1f} x "
                    f"than at its best; {now}"
                )

    def _ask(self) -> str:
        """Request health and return what is wrong with the answer."""
        try:
            with socket.socket() as connection:
                self._socket = connection
                connection.settimeout(_TIMEOUT_S)
                connection.connect(self._address)
                self._connected_s = time.monotonic()
                connection.sendall(_REQUEST)
                answer = connection.recv(4096)
                if not answer:
                    raise ConnectionError("closed without an answer")
        except OSError as error:
            return f"{_REFUSED}{error!r}"
        return "" if answer.startswith(b"HTTP/1.1 200") else f"the answer {answer[:100]!r}"
