"""The table of figures: each row is printed once measured, and a program that never exits does not block it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks import __main__ as command
from benchmarks import processes
from benchmarks.measure import INTERRUPTED, Bench, Measure, Result
from benchmarks.peers import Job, One, Peer, script
from benchmarks.running import alive, wait_while_moving
from tests.conventions.tree import ROOT
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# Completes one measure, and hangs in the next.
ONE_OF_TWO = """
import signal, sys, threading
from benchmarks.__main__ import take_all
from benchmarks.measure import INTERRUPTED, Bench, Measure, Result
signal.signal(signal.SIGTERM, signal.default_int_handler)
def never(_bench):
    print("begun", file=sys.stderr, flush=True)
    threading.Event().wait()
first = Measure("first", "what is quick", "s", "any", lambda _: True, lambda _: {"ours": Result(1.0)})
sys.exit(take_all([first, first._replace(name="second", take=never)], Bench({}, (), 1, True), sys.argv[1]))
"""
BENCH = Bench({}, (), 3, quick=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_outlives_an_interruption(tmp_path: Path, number: int) -> None:
    """After Ctrl-C or `timeout`, the row is there, in the JSON too, and the interrupted measure is named."""
    words = [sys.executable, "-c", ONE_OF_TWO, str(tmp_path / "json")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert "what is quick | 1.0 s" in run.stdout.readline()
        assert [run.stderr.readline() for _ in range(3)][-1] == "begun\n"
        os.kill(run.pid, number)
        assert "interrupted while measuring second" in run.stderr.read()
        assert run.wait(20) == INTERRUPTED
    assert '"first"' in (tmp_path / "json").read_text()


@pytest.mark.parametrize("error", [OSError, AssertionError, KeyError, subprocess.TimeoutExpired("x", 1)])
def test_a_measure_that_fails_takes_no_other_along(
    capsys: pytest.CaptureFixture[str], error: Exception | type[Exception]
) -> None:
    """A failed measure's row has the reason, and it does not reach its target."""

    def fail(_bench: Bench) -> dict[str, Result]:
        raise error

    good = Measure("good", "a good one", "s", "any", lambda _: True, lambda _: {"ours": Result(1.0)})
    assert command.take_all([good._replace(title="a bad one", take=fail), good], BENCH) == 1
    bad, after = capsys.readouterr().out.splitlines()
    assert bad.startswith("| a bad one | never (failed: ")
    assert "| **no** |" in bad
    assert after.startswith("| a good one | 1.0 s | any | yes |")


def test_a_peer_that_fails_is_waited_for_once() -> None:
    """A failed peer is not run again in later rounds, and its earlier rounds do not count as its figure."""
    asked = []

    def take(peer: Peer) -> float | None:
        asked.append(peer.name)
        return None if asked.count("bad") == 2 and peer.name == "bad" else 1.0

    found = processes.medians(BENCH._replace(rounds=9), take, [One("good"), One("bad")])
    assert found == {"good": Result(1.0), "bad": Result(None, "failed after 1 good rounds")}
    assert (asked.count("good"), asked.count("bad")) == (9, 2)


class Stubborn(One):
    """Exits only when killed."""

    def start(self, job: Job, folder: Path) -> list[str]:
        """Return the command."""
        words = " ".join(super().start(job, folder)[2:])
        return ["sh", "-c", f"trap '' TERM; {words} & while :; do sleep 0.1; done"]


def test_a_peer_that_never_ends_costs_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real peer's figure is `never`, and it is gone afterwards."""
    monkeypatch.setattr(processes, "DEADLINE_S", 0.5)
    tick = tmp_path / "tick"
    script(tick, 'echo $PPID $$ >"$0.pids"; date +%s%N >>"$1"; exec sleep 300')
    bench = BENCH._replace(programs={"tick": str(tick)}, peers=(Stubborn("stubborn"),))
    begun_s = time.monotonic()
    assert processes.stop(bench) == {"stubborn": Result(None)}
    assert time.monotonic() - begun_s < 20
    pids = (tmp_path / "tick.pids").read_text().split()
    assert len(pids) == 2
    wait_until(lambda: not any(alive(int(pid)) for pid in pids), what="its end")


def test_what_moves_on_is_waited_for() -> None:
    """It is waited for as long as it makes progress, however slow it is."""
    steps = iter(range(100))
    assert wait_while_moving(lambda: next(steps) > 5, itertools.count().__next__, still_s=0.01)
    begun_s = time.monotonic()
    assert not wait_while_moving(lambda: False, lambda: 1, still_s=0.2)
    assert time.monotonic() - begun_s < 10
