"""Asks for health without a pause, and takes off what the machine itself made both sides wait for a processor."""

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
# A crowded machine may let nobody run for seconds.
_TIMEOUT_S = 30.0
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n"


def _schedstats(*pids: int) -> Iterator[tuple[str, list[int]]]:
    """Yield of each thread of these processes how long it ran, how long it waited, both in ns, and how often."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                # Those of a process that is just ending have nothing left in it.
                with contextlib.suppress(OSError, IndexError):
                    yield thread, [*map(int, Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split())]


def waits_s(*pids: int) -> dict[str, float]:
    """Return how long each thread of these processes has waited for a processor so far."""
    return {thread: figures[1] / 1e9 for thread, figures in _schedstats(*pids) if figures}


@cache
def carriers() -> tuple[int, ...]:
    """Return the kernel's own threads that carry packets on a busy machine, and wait for a processor as others do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith("ksoftirqd/"):
                found.append(int(path.parent.name))
    return tuple(found)


def cpu_s(pid: int) -> float:
    """Return how long all threads of a process have had a processor so far."""
    return sum(figures[0] / 1e9 for _, figures in _schedstats(pid) if figures)


def _work_s() -> float:
    """Return how long a processor works here for something that is always the same."""
    begun_s = time.thread_time()
    sum(range(_WORK))
    return time.thread_time() - begun_s


@cache
def _usual_work_s() -> float:
    return min(_work_s() for _ in range(50))


def slowness() -> float:
    """Return how much more a processor takes for the same work now than at its best, as beside a busy sibling."""
    _usual_work_s()
    return max(1.0, sorted(_work_s() for _ in range(5))[2] / _usual_work_s())


class Prober:
    """Asks, from a thread of its own; ``problems`` are answers that were late, wrong or none."""

    def __init__(self, address: tuple[str, int], pid: int, most_s: float = MOST_S) -> None:
        self.problems: list[str] = []
        self.answers = 0
        self.last_s = 0.0
        self._pid = pid
        self._address = address
        self._most_s = most_s
        self._excused = 0
        # An answer may be excused between its question and its end.
        self._changes = 0
        self._ending = False
        self._connected_s = 0.0
        # What is going on, for whoever reads of a problem.
        self.now = ""
        self._over = threading.Event()
        self._socket = socket.socket()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def excuse(self, change: int) -> None:
        """Take no notice while it is held still; the sum of all changes decides."""
        self._excused += change
        self._changes += 1

    def end(self) -> None:
        """Let it refuse from now on: it stops."""
        self._ending = True

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        # Nobody refuses a connection to a container that is gone.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._ask_always()
        except Exception:
            self.problems.append(f"nobody asks for health any more: {traceback.format_exc()}")

    def _ask_always(self) -> None:
        while not self._over.wait(_PAUSE_S):
            before, changes, now = self._excused, self._changes, self.now
            waited_s, cpu_before_s = waits_s(self._pid, os.getpid(), *carriers()), cpu_s(self._pid)
            begun_s = time.monotonic()
            why = self._ask()
            took_s = time.monotonic() - begun_s
            now_s = waits_s(self._pid, os.getpid(), *carriers())
            net_s = took_s - sum(each_s - waited_s.get(thread, 0.0) for thread, each_s in now_s.items())
            if before or changes != self._changes or (why and (self._ending or not self.answers)):
                continue
            # The first answer comes when the loop turns for the first time.
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
        """Return what is wrong with the answer."""
        try:
            with socket.socket() as connection:
                self._socket = connection
                connection.settimeout(_TIMEOUT_S)
                connection.connect(self._address)
                self._connected_s = time.monotonic()
                connection.sendall(_REQUEST)
                answer = connection.recv(4096)
        except OSError as error:
            return repr(error)
        return "" if answer.startswith(b"HTTP/1.1 200") else f"the answer {answer[:100]!r}"
