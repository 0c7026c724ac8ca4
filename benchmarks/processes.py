"""Starts, restarts, stops and orphans: a supervisor's work on processes."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Bench, Measure, Result, at_most
from benchmarks.peers import Job, Peer, python
from benchmarks.running import DEADLINE_S, alive, below, running, stamps, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

BARE = "bare python3 -I -c pass"
ORPHANS = 5000
MANY = 200
LIMIT_S = 1
STUBBORN = "trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 0.1; done\" & while :; do sleep 0.1; done"


def medians(bench: Bench, take: Callable[[Peer], float | None], peers: list[Peer]) -> dict[str, Result]:
    """Measure the peers in turn for several rounds, and return the medians; one that fails is not measured again."""
    found: dict[str, list[float]] = {peer.name: [] for peer in peers}
    failed: set[str] = set()
    for _ in range(bench.rounds):
        for peer in peers:
            value = None if peer.name in failed else take(peer)
            if value is None:
                failed.add(peer.name)
            else:
                found[peer.name].append(value)
    return {name: _median(values, whole=name not in failed) for name, values in found.items()}


def _median(values: list[float], *, whole: bool) -> Result:
    if whole:
        return Result(statistics.median(values))
    return Result(None, f"failed after {len(values)} good rounds" if values else "")


def start(bench: Bench) -> dict[str, Result]:
    """Time from the supervisor's exec to the first child's first instruction."""

    def take(peer: Peer) -> float | None:
        with running(peer, Job({"one": ["/bin/true"]})) as run:
            stamp = run.folder / "stamp"
        with running(peer, Job({"one": [bench.programs["tick"], str(stamp.parent) + ".stamp", "stay"]})) as run:
            first = wait_for(lambda: stamps(Path(str(stamp.parent) + ".stamp")))
            Path(str(stamp.parent) + ".stamp").unlink(missing_ok=True)
            return (first[0] - run.began_ns) / 1e6 if first else None

    def bare() -> float:
        begin = time.monotonic_ns()
        subprocess.run([python(), "-I", "-c", "pass"], check=True)
        return (time.monotonic_ns() - begin) / 1e6

    pure = [bare() for _ in range(3 * bench.rounds)]
    found = medians(bench, take, list(bench.peers))
    pure += [bare() for _ in range(3 * bench.rounds)]
    return {BARE: Result(statistics.median(pure)), **found}


def restart(bench: Bench) -> dict[str, Result]:
    """A child that exits immediately, repeatedly: the time from one first instruction to the next."""

    def take(peer: Peer) -> float | None:
        stamp = Path(f"/tmp/bench-restart-{os.getpid()}")
        stamp.unlink(missing_ok=True)
        with running(peer, Job({"one": [bench.programs["tick"], str(stamp)]}, restart=True)):
            wait_for(lambda: len(stamps(stamp)) > 300, 8)
        times = stamps(stamp)[5:]
        stamp.unlink(missing_ok=True)
        gaps = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(times)]
        return statistics.median(gaps) if gaps else None

    return medians(bench, take, [peer for peer in bench.peers if peer.restarts])


def stop(bench: Bench) -> dict[str, Result]:
    """Time from TERM to the supervisor's exit, with two children that exit at once."""

    def take(peer: Peer) -> float | None:
        names = ("one", "two") if peer.many else ("one",)
        stamp = Path(f"/tmp/bench-stop-{os.getpid()}")
        stamp.unlink(missing_ok=True)
        words = [bench.programs["tick"], str(stamp), "stay"]
        with running(peer, Job(dict.fromkeys(names, words))) as run:
            wait_for(lambda: len(stamps(stamp)) >= len(names))
            stamp.unlink(missing_ok=True)
            time.sleep(1.0)
            begin = time.monotonic_ns()
            run.process.terminate()
            try:
                run.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                return None
            return (time.monotonic_ns() - begin) / 1e6

    return medians(bench, take, list(bench.peers))


def stubborn(bench: Bench) -> dict[str, Result]:
    """A child, and a grandchild in its own session, that ignore TERM: the time beyond the limit, and what is left."""
    left: dict[str, int] = {}

    def take(peer: Peer) -> float | None:
        with running(peer, Job({"one": ["sh", "-c", STUBBORN]}, stop_timeout_s=LIMIT_S)) as run:
            wait_for(lambda: len(below(run.process.pid)) >= 2)
            time.sleep(0.5)
            pids = below(run.process.pid)
            begin = time.monotonic_ns()
            run.process.terminate()
            try:
                run.wait(LIMIT_S + 6)
            except subprocess.TimeoutExpired:
                left[peer.name] = len(pids)
                return None
            finally:
                taken = (time.monotonic_ns() - begin) / 1e6
                survivors = [pid for pid in pids if alive(pid)]
                left.setdefault(peer.name, len(survivors))
                for pid in survivors:
                    os.kill(pid, 9)
        return taken - LIMIT_S * 1000

    found = medians(bench._replace(rounds=min(bench.rounds, 3)), take, list(bench.peers))
    return {name: result._replace(note=f"{left.get(name, 0)} left alive") for name, result in found.items()}


def orphans(bench: Bench) -> dict[str, Result]:
    """Orphans that exit at once, as process 1: the time until none is left."""
    notes: dict[str, str] = {}

    def take(peer: Peer) -> float | None:
        stamp = Path(f"/tmp/bench-orphans-{os.getpid()}")
        stamp.unlink(missing_ok=True)
        job = Job({"one": [bench.programs["orphans"], str(stamp), str(ORPHANS)]})
        with running(peer, job, process_1=True) as run:
            moment = wait_for(lambda: stamps(stamp), pause_s=0.0005)
            if moment is None:
                notes[peer.name] = "they did not end"
                return None
            (first,) = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()[:1] or ["0"]

            def few() -> bool:
                return len(Path(f"/proc/{first}/task/{first}/children").read_text().split()) <= 8

            gone = wait_for(few, pause_s=0)
            taken = (time.monotonic_ns() - moment[0]) / 1e6
        stamp.unlink(missing_ok=True)
        notes[peer.name] = "" if gone else f"some are left after {DEADLINE_S:.0f} s"
        return taken if gone else None

    found = medians(bench._replace(rounds=min(bench.rounds, 5)), take, list(bench.peers))
    return {name: result._replace(note=notes.get(name, "")) for name, result in found.items()}


def many(bench: Bench) -> dict[str, Result]:
    """Two hundred children: the time from exec to the last one's first instruction."""

    def take(peer: Peer) -> float | None:
        stamp = Path(f"/tmp/bench-many-{os.getpid()}")
        stamp.unlink(missing_ok=True)
        children = {f"n{number}": [bench.programs["tick"], str(stamp), "stay"] for number in range(MANY)}
        with running(peer, Job(children)) as run:
            wait_for(lambda: len(stamps(stamp)) >= MANY, pause_s=0.01)
            times = stamps(stamp)
            taken = (max(times) - run.began_ns) / 1e9 if len(times) >= MANY else None
        stamp.unlink(missing_ok=True)
        return taken

    rounds = bench._replace(rounds=min(bench.rounds, 3))
    return medians(rounds, take, [peer for peer in bench.peers if peer.many])


MEASURES = (
    Measure(
        "start",
        "start to the first child's first instruction",
        "ms",
        "≤ 4.5 times the bare interpreter",
        lambda found: at_most(found, 4.5 * (found[BARE].value or 0)),
        start,
    ),
    Measure("restart", "crash to the successor", "ms", "≤ 5 ms", lambda found: at_most(found, 5), restart),
    Measure("stop", "stop, children that end at once", "ms", "≤ 15 ms", lambda found: at_most(found, 15), stop),
    Measure(
        "stubborn",
        "a child that ignores TERM: time beyond the limit",
        "ms",
        "≤ 50 ms, none left alive",
        lambda found: at_most(found, 50) and found["ours"].note.startswith("0 "),
        stubborn,
    ),
    Measure(
        "orphans",
        f"{ORPHANS} orphans as process 1",
        "ms",
        "≤ 3 times tini's, none left",
        lambda found: at_most(found, 3 * (found["tini"].value or 0)) if "tini" in found else False,
        orphans,
    ),
    Measure("many", f"{MANY} children started", "s", "≤ 0.9 s", lambda found: at_most(found, 0.9), many, 2),
)
