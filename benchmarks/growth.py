"""What ten times as many children cost: processor time of ours for their start, and for the restart of all."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import Bench, Measure, Result
from benchmarks.peers import PEERS, Job
from benchmarks.running import below, cpu_ns, running, wait_for

if TYPE_CHECKING:
    from benchmarks.running import Run

COUNTS = (1, 10, 100, 1000)
MOST_TIMES = 11.0
DEADLINE_S = 60.0


class _Cost(NamedTuple):
    start_ms: float
    restart_ms: float


def children(bench: Bench) -> dict[str, Result]:
    """Return how many times as much the last ten times of children cost, and all figures as a note."""
    ours = next(peer for peer in PEERS if peer.name == "ours")
    costs: dict[int, _Cost] = {}
    for count in COUNTS[:-1] if bench.quick else COUNTS:
        words = {f"n{number}": ["sleep", "1000"] for number in range(count)}
        with running(ours, Job(words, restart=True)) as run:
            costs[count] = _cost(run, count)
    *_, before, last = costs.values()
    times = max(last.start_ms / before.start_ms, last.restart_ms / before.restart_ms)
    told = [f"{count}: {cost.start_ms:.0f} ms, restart {cost.restart_ms:.0f} ms" for count, cost in costs.items()]
    return {"ours": Result(times, "; ".join(told))}


def _cost(run: Run, count: int) -> _Cost:
    pid = run.process.pid
    first = _all_but(set(), pid, count)
    start_ms = _settled_ms(pid)
    for child in first:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _all_but(first, pid, count)
    return _Cost(start_ms, _settled_ms(pid) - start_ms)


def _all_but(former: set[int], pid: int, count: int) -> set[int]:
    """Wait until so many children live that were not there before, and return them."""
    found = wait_for(lambda: len(now := set(below(pid)) - former) >= count and now, DEADLINE_S, 0.05)
    assert found, f"{count} children did not come"
    return set(found)


def _settled_ms(pid: int) -> float:
    """Return its processor time so far, once it has nothing to do."""
    last_ns = -1
    while (now_ns := cpu_ns(pid)) - last_ns > 1e6 or last_ns < 0:
        last_ns = now_ns
        time.sleep(1.0)
    return now_ns / 1e6


MEASURES = (
    Measure(
        "growth-children",
        "ten times as many children: times the processor time, at worst",
        "x",
        "≤ 11 x",
        lambda found: (found["ours"].value or 0) <= MOST_TIMES,
        children,
    ),
)
