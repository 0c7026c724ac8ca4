"""The commands against a real supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.client import commands
from tests.client.calling import DEADLINE_S, PROGRAM, call, environment
from tests.client.following import following
from tests.process.running import running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.running import Run

COUNTING = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.02; done")
QUIET = ("sh", "-c", "echo ready; exec sleep 300")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders have time: a crowded machine is slow, and exit code 75 is tested elsewhere."""
    monkeypatch.setattr(commands, "SETTLE_S", DEADLINE_S)


@contextmanager
def supervised(*command: str, **options: Any) -> Iterator[Run]:
    """Run a supervisor, and wait until its control socket answers."""
    with running(*command, **options) as run:
        wait_until(lambda: call(run.run_dir, "status").code in {0, 1}, what="an answer at the control socket")
        yield run


def test_status() -> None:
    """The output has the running process, its memory, and health."""
    with supervised(*QUIET) as run:
        run.wait_for("ready")
        wait_until(lambda: "pass" in call(run.run_dir, "status").out, what="health")
        said = call(run.run_dir, "status").out
        row = next(line.split() for line in said.splitlines() if line.startswith("moltis"))
        assert row[1:3] == ["running", str(run.wait_for("started", child="moltis")["pid"])]
        assert row[-1] in {"KiB", "MiB"}
        document = json.loads(call(run.run_dir, "status", "--json").out)
        assert document["processes"][0]["state"] == "running"
        assert document["tailscale"]["state"] == "off"


def test_orders() -> None:
    """Stop, start and restart work, the last with another process; unknown names are refused."""
    with supervised(*QUIET) as run:
        run.wait_for("ready")
        assert call(run.run_dir, "stop", "moltis") == (0, "moltis is inactive\n", "")
        started = call(run.run_dir, "start", "moltis")
        restarted = call(run.run_dir, "restart", "moltis")
        assert (started.code, restarted.code) == (0, 0)
        assert started.out != restarted.out
        for name in ("nobody", "../moltis", "mol/tis", "a?b#c", "%2e%2e", os.fsdecode(b"\xff")):
            for words in (("restart", name), ("logs", "--process", name), ("logs", "-f", "--process", name)):
                called = call(run.run_dir, *words, "--json")
                assert called.code == 1
                assert json.loads(called.out)["code"] == "UNKNOWN_PROCESS"
                assert "there is no process" in called.err


def test_following_over_a_restart_of_the_supervisor() -> None:
    """From one supervisor no line is lost or duplicated, and the next one is followed from its first line."""
    with (
        supervised(*COUNTING) as run,
        following(run.run_dir, "--process", "moltis", "--json", "-n", "1000") as follower,
    ):
        follower.wait_for('"tick 20"')
        assert run.stop() == 0
        follower.wait_for("waiting for the next one")
        with running(*COUNTING, env={"SUPERVISOR_RUN_DIR": str(run.run_dir)}) as _next:
            wait_until(lambda: sum('"tick 20"' in line for line in follower.lines) == 2, what="the next supervisor's")
        assert follower.interrupt() == 130
        told = [json.loads(line)["message"] for line in follower.lines]
    at = told.index("tick 1", 1)
    lives = told[:at], told[at:]
    assert all(life == [f"tick {number}" for number in range(1, len(life) + 1)] for life in lives)
    assert [note for note in follower.notes if "waiting" not in note] == []


def test_following_a_flood() -> None:
    """Every line is shown in order, or counted as lost."""
    flood = ("sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); echo $i; done; echo over; exec sleep 300")
    with supervised(*flood, env={"SUPERVISOR_LOG_HISTORY": "100000"}) as run:
        with following(run.run_dir, "--process", "moltis", "--json", "-n", "1000000") as follower:
            follower.wait_for('"over"')
            told = [json.loads(line) for line in follower.lines]
        lost = sum(line.get("lost", 0) for line in told)
        numbers = [int(line["message"]) for line in told if line.get("message", "over") != "over"]
        assert numbers == sorted(set(numbers))
        assert len(numbers) + lost >= 50000


def test_what_runs_under_the_supervisor_may_not_command_it(tmp_path: Path) -> None:
    """The exit code is 77: a shell in the app does not act for the owner."""
    folder = tmp_path / "run"
    waiting = f"while [ ! -S {folder}/control.sock ]; do sleep 0.05; done"
    order = f"SUPERVISOR_RUN_DIR={folder} {sys.executable} -I -m supervisor stop moltis"
    command = f"{waiting}; {order}; echo ended with $?; exec sleep 300"
    with running("sh", "-c", command, env={"SUPERVISOR_RUN_DIR": str(folder)}) as run:
        run.wait_for("ended with 77")
        assert run.find("order received") is None


def test_ctrl_c_is_quiet() -> None:
    """The exit code is 130, without a message."""
    with supervised(*QUIET) as run, following(run.run_dir) as follower:
        follower.wait_for("ready")
        assert follower.interrupt() == 130
        assert follower.notes == []


def test_a_reader_that_goes_away_ends_it() -> None:
    """It exits quietly at the next line, as in `logs -f | head`."""
    with supervised(*COUNTING) as run:
        process = subprocess.Popen(
            [*PROGRAM, "logs", "-f"], env=environment(run.run_dir), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(DEADLINE_S) == 128 + signal.SIGPIPE
            assert process.stderr.read() == b""
