"""The cost of an idle supervisor: memory, processor time, and one health check."""

from __future__ import annotations

import os
import signal
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.log_shapes import REAL
from benchmarks.measure import Bench, Measure, Result, at_most
from benchmarks.peers import CACHE, PEERS, ROOT, Job, Ours, Peer, python
from benchmarks.running import DEADLINE_S, below, cpu_ns, free_port, http_ms, running, wait_for

if TYPE_CHECKING:
    from benchmarks.running import Run

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
IDLE_S = 60
# Of the child that writes, exits, and is restarted.
RESTARTS, LINES_EACH, REQUESTS_EACH = 1000, 300, 10
RESTARTS_UNTIL_FULL = 100
TALKED = b"sleep\0001000\0"
CHILDREN = {"one": ["sleep", "1000"], "two": ["sleep", "1000"]}
NULL = subprocess.DEVNULL
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1


def memory(bench: Bench) -> dict[str, Result]:
    """Distinct pages of all its processes, in MB, a few seconds after the start."""
    found = {}
    for peer in bench.peers:
        with _settled(bench, peer) as run:
            found[peer.name] = Result(distinct_bytes(run.own_pids(("sleep",))) / 1e6)
    return found


def memory_with_panel(bench: Bench) -> dict[str, Result]:
    """The same after the panel was opened and the API was used."""
    peer = next(peer for peer in bench.peers if peer.name == "ours")
    port = free_port()
    with _settled(bench, peer, port) as run:
        for path in ("/", "/panel/main.js", "/api/processes", "/api/logs"):
            wait_for(partial(http_ms, port, path), 20)
        time.sleep(2)
        return {"ours": Result(distinct_bytes(run.own_pids(("sleep",))) / 1e6)}


def memory_kept(bench: Bench) -> dict[str, Result]:
    """Return the growth of memory over restarts, each with lines and requests, once the history is full."""
    port, restarts = free_port(), 100 if bench.quick else RESTARTS
    with tempfile.TemporaryDirectory(prefix="bench-kept-") as name:
        lines = Path(name) / "lines"
        lines.write_text("".join(f"{REAL[0].line(number)}\n" for number in range(LINES_EACH)))
        words = {"moltis": ["sh", "-c", f"cat {lines}; exec sleep 1000"], "idle": ["sleep", "2000"]}
        with running(Ours(), Job(words, restart=True, http_port=port)) as run:
            before = _worn_bytes(run, port, RESTARTS_UNTIL_FULL)
            after = _worn_bytes(run, port, restarts)
    note = f"{before / 1e6:.1f} to {after / 1e6:.1f} MB, {restarts} restarts, {restarts * LINES_EACH:,} lines"
    return {"ours": Result((after - before) / 1e6, note)}


def _worn_bytes(run: Run, port: int, restarts: int) -> int:
    """Return its memory after this many exits of the child that writes, with ten requests in each of its runs."""

    def has_talked() -> int | None:
        talked = (pid for pid in below(run.process.pid) if Path(f"/proc/{pid}/cmdline").read_bytes() == TALKED)
        return next(talked, None)

    for _ in range(restarts):
        pid = wait_for(has_talked, 60)
        assert pid, "the child did not come back"
        for _ in range(REQUESTS_EACH):
            assert wait_for(lambda: http_ms(port, "/health")), "no answer from /health"
        os.kill(pid, signal.SIGKILL)
        assert wait_for(partial(_is_gone, pid)), "the child was not reaped"
    assert wait_for(has_talked, 60), "the child did not come back"
    time.sleep(5)
    return distinct_bytes(run.own_pids(("sleep",)))


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def idle(bench: Bench) -> dict[str, Result]:
    """Processor time of an idle minute."""
    found = {}
    for peer in bench.peers:
        with _settled(bench, peer) as run:
            found[peer.name] = minute(bench, run.own_pids(("sleep",)))
    return found


def minute(bench: Bench, pids: list[int]) -> Result:
    """Return the processor time of these processes in a minute, in ms."""
    seconds = 10 if bench.quick else IDLE_S
    before = sum(map(cpu_ns, pids))
    time.sleep(seconds)
    return Result((sum(map(cpu_ns, pids)) - before) / 1e6 * 60 / seconds)


def check(bench: Bench) -> dict[str, Result]:
    """The duration of a container's health check, from the start of its program to its exit."""
    port = free_port()
    ours = next(peer for peer in PEERS if peer.name == "ours")
    with running(ours, Job(CHILDREN, http_port=port)) as run:
        wait_for(lambda: http_ms(port, "/health"))
        ways = {
            "ours": [str(ROOT / "healthcheck")],
            "curl": ["curl", "-fsS", f"http://127.0.0.1:{port}/health"],
            "bare python3 -I -c pass": [python(), "-I", "-c", "pass"],
            "supervisorctl --help": [str(CACHE / "bench-peers/bin/supervisorctl"), "--help"],
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        env = {"PATH": os.environ["PATH"], "SUPERVISOR_RUN_DIR": str(run.folder / "run")}
        for _ in range(3 * bench.rounds):
            for name, words in list(ways.items()):
                took_ms = _took_ms(words, env)
                if took_ms is None:
                    del ways[name]
                else:
                    times[name].append(took_ms)
    return {name: Result(statistics.median(values) if values else None) for name, values in times.items()}


def _took_ms(words: list[str], env: dict[str, str]) -> float | None:
    """Return the duration of a program that succeeds in time; None for any other."""
    begin = time.monotonic_ns()
    try:
        process = subprocess.Popen(words, env=env, stdout=NULL, stderr=NULL)
    except OSError:
        return None
    # A wait with a time limit looks again after pauses that double, which would be most of what is measured.
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    code = process.wait()
    end = time.monotonic_ns()
    watchdog.cancel()
    return None if code else (end - begin) / 1e6


class _settled:  # noqa: N801 - used as a function
    """Run with two idle children until everything that is loaded late is loaded."""

    def __init__(self, bench: Bench, peer: Peer, port: int = 0) -> None:
        self._quick = bench.quick
        port = port or (free_port() if peer.http else 0)
        self._context = running(peer, Job(CHILDREN if peer.many else {"one": CHILDREN["one"]}, http_port=port))

    def __enter__(self) -> Run:
        run = self._context.__enter__()
        time.sleep(2 if self._quick else 5)
        return run

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]


def distinct_bytes(pids: list[int]) -> int:
    """Count the distinct page frames of these processes (proc(5), pagemap)."""
    frames: set[int] = set()
    for pid in pids:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "[vsyscall]" in line:
                    continue
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                pagemap.seek(begin // PAGE_BYTES * 8)
                data = pagemap.read((end - begin) // PAGE_BYTES * 8)
                entries = struct.unpack(f"{len(data) // 8}Q", data)
                frames.update(entry & _FRAME for entry in entries if entry & _PRESENT)
    frames.discard(0)
    return len(frames) * PAGE_BYTES


MEASURES = (
    Measure("memory", "memory, two idle children, web on", "MB", "≤ 30 MB", lambda found: at_most(found, 30), memory),
    Measure(
        "memory-panel",
        "the same, once the panel was opened",
        "MB",
        "≤ 42 MB",
        lambda found: at_most(found, 42),
        memory_with_panel,
    ),
    Measure(
        "memory-kept",
        "the same after 1,000 restarts, 300,000 lines and 10,000 requests: growth from a full history",
        "MB",
        "≤ 2 MB",
        lambda found: at_most(found, 2),
        memory_kept,
    ),
    Measure("idle", "idle CPU a minute", "ms", "≤ 12 ms", lambda found: at_most(found, 12), idle),
    Measure("check", "one container health check", "ms", "≤ 6 ms", lambda found: at_most(found, 6), check),
)
