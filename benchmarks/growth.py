"""How our processor time grows with ten times as many children, lines or open streams."""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import signal
import socket
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.log_shapes import REAL
from benchmarks.logs import merge_cost_ns
from benchmarks.measure import Bench, Measure, Result
from benchmarks.peers import Job, Ours
from benchmarks.running import below, cpu_ns, running, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.running import Run

COUNTS = (1, 10, 100, 1000)
# A supervisor accepts 256 connections.
STREAMS = (1, 10, 100, 240)
LINES = (1_000, 10_000, 100_000, 1_000_000)
MOST_TIMES = 11.0
DEADLINE_S = 60.0
STREAMED_S = 10.0
# Fifty lines a second, without a process for each.
_TALK = "$| = 1; while (1) { print 'a line as programs write them', qq(\\n); select undef, undef, undef, 0.02 }"
_TALKER = ("perl", "-e", _TALK)
_ASK = b"GET /api/events?last=0 HTTP/1.1\r\nHost: bench\r\n\r\n"


class _Cost(NamedTuple):
    start_ms: float
    restart_ms: float


def children(bench: Bench) -> dict[str, Result]:
    """Return the worst growth of the cost for ten times as many children; the note has all figures."""
    costs: dict[int, _Cost] = {}
    for count in COUNTS[:-1] if bench.quick else COUNTS:
        words = {f"n{number}": ["sleep", "1000"] for number in range(count)}
        with running(Ours(), Job(words, restart=True)) as run:
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
    """Wait until this many new children live, and return them."""
    found = wait_for(lambda: len(now := set(below(pid)) - former) >= count and now, DEADLINE_S, 0.05)
    assert found, f"{count} children were not started"
    return set(found)


def _settled_ms(pid: int) -> float:
    """Return its processor time so far, once it is idle."""
    last_ns = -1
    while (now_ns := cpu_ns(pid)) - last_ns > 1e6 or last_ns < 0:
        last_ns = now_ns
        time.sleep(1.0)
    return now_ns / 1e6


def lines(bench: Bench) -> dict[str, Result]:
    """Return the worst growth of the cost for ten times as many lines; the note has all figures."""
    shape = REAL[0]
    costs: dict[int, float] = {}
    for count in LINES[:-1] if bench.quick else LINES:
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as name:
            folder = Path(name)
            done = folder / "done"
            (folder / "lines").write_text("".join(f"{shape.line(number)}\n" for number in range(1000)))
            words = [bench.programs["replay"], str(folder / "lines"), str(count // 1000), str(done), str(folder / "go")]
            cpu = merge_cost_ns(Ours(), Job({shape.process: words}), folder, done.exists)
            assert cpu, "the lines did not end"
            costs[count] = cpu / 1e6
    return _grown(costs)


def streams(bench: Bench) -> dict[str, Result]:
    """Return the growth of what open streams add to the cost of the same lines, up to the most streams."""
    costs: dict[int, float] = {}
    for count in (0, *(STREAMS[:-1] if bench.quick else STREAMS)):
        with running(Ours(), Job({"talker": [*_TALKER]})) as run, contextlib.ExitStack() as stack:
            control = str(run.folder / "run/control.sock")
            wait_for(partial(os.path.exists, control))
            time.sleep(1.0)
            selector = stack.enter_context(selectors.DefaultSelector())
            for _ in range(count):
                stream = stack.enter_context(socket.socket(socket.AF_UNIX))
                stream.connect(control)
                stream.sendall(_ASK)
                selector.register(stream, selectors.EVENT_READ)
            _read_for(selector, 2.0)
            before = cpu_ns(run.process.pid)
            assert _read_for(selector, STREAMED_S) >= count * STREAMED_S * 1000, "the streams are incomplete"
            costs[count] = (cpu_ns(run.process.pid) - before) / 1e6
    alone = costs.pop(0)
    return _grown({count: max(cost - alone, 0.1) for count, cost in costs.items()})


def _read_for(selector: selectors.BaseSelector, seconds: float) -> int:
    """Read from all for this time; return the number of bytes received."""
    end_s, size = time.monotonic() + seconds, 0
    while (left_s := end_s - time.monotonic()) > 0:
        for key, _ in selector.select(left_s):
            size += len(os.read(key.fd, 1 << 20))
    return size


def _grown(costs_ms: Mapping[int, float]) -> dict[str, Result]:
    """Return the worst growth of any step, scaled to ten times as many."""
    steps = [
        (last_ms / before_ms) / (last / before) * 10
        for (before, before_ms), (last, last_ms) in itertools.pairwise(costs_ms.items())
    ]
    return {"ours": Result(max(steps), "; ".join(f"{count:,}: {cost:.1f} ms" for count, cost in costs_ms.items()))}


def _within(found: dict[str, Result]) -> bool:
    return (found["ours"].value or 0) <= MOST_TIMES


MEASURES = (
    Measure(
        "growth-children",
        "ten times as many children: times the processor time, at worst",
        "x",
        "≤ 11 x",
        _within,
        children,
    ),
    Measure(
        "growth-lines", "ten times as many lines: times the processor time, at worst", "x", "≤ 11 x", _within, lines
    ),
    Measure(
        "growth-streams",
        "ten times as many open streams: times the processor time that they add, at worst",
        "x",
        "≤ 11 x",
        _within,
        streams,
    ),
)
