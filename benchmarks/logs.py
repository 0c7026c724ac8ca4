"""Merged logs: the cost of a line, whether all arrive intact, and how health responds during a flood or a stall."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Bench, Measure, Result
from benchmarks.peers import Job, Peer
from benchmarks.running import cpu_ns, free_port, http_ms, running, wait_for, wait_while_moving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOOD = "flood"
NAMES = ("alpha", "beta")
LINES = {"burst": 1_000_000, "line": 200_000}
STALL_S = 5.0
SETTLE_S = 2.0
HEALTH_PATHS = {"ours": "/health", "supervisord": "/"}
_WHOLE = re.compile(rb"(alpha|beta) (\d{10}) (x{80,90})(?=\"|\n|$)")


def _flood(bench: Bench, mode: str, *, json_logs: bool) -> dict[str, Result]:
    lines = LINES[mode] // (10 if bench.quick else 1)
    peers = [peer for peer in bench.peers if peer.many and (not json_logs or peer.name == "ours")]
    return {peer.name: _take(bench, peer, mode, lines, json_logs=json_logs) for peer in peers}


def _take(bench: Bench, peer: Peer, mode: str, lines: int, *, json_logs: bool) -> Result:
    """Let two children write, and count what arrives."""
    with _folder() as folder:
        children = {name: _words(bench, name, lines, mode, folder) for name in NAMES}
        cpu = merge_cost_ns(peer, Job(children, json_logs=json_logs), folder, lambda: _ended(folder), (FLOOD,))
        return Result(None if cpu is None else cpu / 1000 / (2 * lines), _count(folder / "merged", lines))


def merge_cost_ns(
    peer: Peer, job: Job, folder: Path, has_ended: Callable[[], bool], children: tuple[str, ...] = ()
) -> int | None:
    """Have children write a burst once the file `go` exists, and collect the merged log in the file `merged`.

    Return the CPU time in nanoseconds from then until the log stops growing, of all processes but those whose program
    is one of ``children``; None if the children do not end.
    """
    merged = folder / "merged"
    with merged.open("wb") as file:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    with running(peer, job, out=reader.stdin) as run:
        time.sleep(SETTLE_S)
        pids = run.own_pids(children)
        before = sum(map(cpu_ns, pids))
        (folder / "go").touch()
        ended = wait_while_moving(has_ended, lambda: merged.stat().st_size)
        size = -1
        while size != merged.stat().st_size:
            size = merged.stat().st_size
            time.sleep(0.5)
        cpu = sum(map(cpu_ns, pids)) - before
    assert reader.stdin is not None
    reader.stdin.close()
    reader.wait(10)
    return cpu if ended else None


def _ended(folder: Path) -> bool:
    return all((folder / name).exists() for name in NAMES)


def _words(bench: Bench, name: str, lines: int, mode: str, folder: Path) -> list[str]:
    return [bench.programs[FLOOD], name, str(lines), mode, str(folder / name), str(folder / "go")]


def _count(merged: Path, lines: int) -> str:
    """Return how many lines were lost, torn or duplicated."""
    seen = {name.encode(): bytearray(lines) for name in NAMES}
    torn = doubled = 0
    with merged.open("rb") as file:
        for line in file:
            if b"xxxx" not in line:
                continue
            found = _WHOLE.findall(line)
            if len(found) != 1 or len(found[0][0]) + len(found[0][2]) + 12 != 99:
                torn += 1
                continue
            name, number = found[0][0], int(found[0][1])
            doubled += seen[name][number]
            seen[name][number] = 1
    lost = sum(lines - sum(marks) for marks in seen.values())
    return f"lost {lost}, torn {torn}, doubled {doubled}"


def burst(bench: Bench) -> dict[str, Result]:
    """Large writes, prefixed lines."""
    return _flood(bench, "burst", json_logs=False)


def burst_json(bench: Bench) -> dict[str, Result]:
    """Large writes, JSON lines."""
    return _flood(bench, "burst", json_logs=True)


def each(bench: Bench) -> dict[str, Result]:
    """One write per line."""
    return _flood(bench, "line", json_logs=False)


def health_in_flood(bench: Bench) -> dict[str, Result]:
    """The 99th percentile of health's response times while two children write continuously."""
    return {peer.name: _in_flood(bench, peer) for peer in bench.peers if peer.http}


def _in_flood(bench: Bench, peer: Peer) -> Result:
    with _folder() as folder, open(os.devnull, "wb") as null:
        port, path = free_port(), HEALTH_PATHS[peer.name]
        children = {name: _words(bench, name, 0, "endless", folder) for name in NAMES}
        with running(peer, Job(children, http_port=port), out=null):
            wait_for(lambda: http_ms(port, path))
            (folder / "go").touch()
            time.sleep(1)
            times = _asked(port, path, 300)
    answered = [taken for taken in times if taken is not None]
    value = statistics.quantiles(answered, n=100)[98] if len(answered) > 1 else None
    return Result(value, f"{len(answered)} of {len(times)} answered")


def stall(bench: Bench) -> dict[str, Result]:
    """A consumer that reads nothing for five seconds: the slowest health response, and the lines lost."""
    return {peer.name: _stalled(bench, peer) for peer in bench.peers if peer.http}


def _stalled(bench: Bench, peer: Peer) -> Result:
    with _folder() as folder:
        port, lines = free_port(), 300_000
        read_fd, write_fd = os.pipe()
        children = {name: _words(bench, name, lines, "burst", folder) for name in NAMES}
        with running(peer, Job(children, http_port=port), out=write_fd):
            os.close(write_fd)
            wait_for(lambda: http_ms(port, HEALTH_PATHS[peer.name]))
            (folder / "go").touch()
            end_s = time.monotonic() + STALL_S
            times = []
            while time.monotonic() < end_s:
                times.append(http_ms(port, HEALTH_PATHS[peer.name], 1.0))
                time.sleep(0.05)
            with (folder / "merged").open("wb") as file:
                reader = subprocess.Popen(["cat"], stdin=read_fd, stdout=file)
            os.close(read_fd)
            wait_while_moving(lambda: _ended(folder), lambda: (folder / "merged").stat().st_size)
            time.sleep(1.5)
        reader.wait(20)
        answered = [taken for taken in times if taken is not None]
        note = f"{len(answered)} of {len(times)} answered, {_count(folder / 'merged', lines)}"
        return Result(max(answered, default=None), note)


def _asked(port: int, path: str, times: int) -> list[float | None]:
    found = []
    for _ in range(times):
        found.append(http_ms(port, path))
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="bench-logs-") as name:
        yield Path(name)


def _clean(found: dict[str, Result], most: float) -> bool:
    value, note = found["ours"]
    return value is not None and value <= most and "lost 0, torn 0, doubled 0" in note


MEASURES = (
    Measure(
        "burst",
        "merged logs with prefixes, bursts: CPU a line",
        "µs",
        "≤ 0.85 µs, none lost",
        lambda found: _clean(found, 0.85),
        burst,
        2,
    ),
    Measure("json", "the same as JSON", "µs", "≤ 1.7 µs, none lost", lambda found: _clean(found, 1.7), burst_json, 2),
    Measure("each", "the same, one write a line", "µs", "≤ 1.5 µs, whole", lambda found: _clean(found, 1.5), each, 2),
    Measure(
        "flood",
        "health p99 during a log flood",
        "ms",
        "≤ 10 ms",
        lambda found: (found["ours"].value or 99) <= 10,
        health_in_flood,
    ),
    Measure(
        "stall",
        "log consumer stalled for 5 s: slowest health",
        "ms",
        "all answered, ≤ 10 ms, none lost",
        lambda found: _clean(found, 10) and found["ours"].note.split(" of ")[0] == found["ours"].note.split()[2],
        stall,
    ),
)
