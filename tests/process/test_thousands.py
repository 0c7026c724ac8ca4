"""Thousands of processes left behind do not delay health or the stop."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import threading

import pytest

from supervisor.runtime.stop import RESERVE_EACH_S
from tests.process.running import Run, running
from tests.support.crowded import Stopwatch
from tests.support.waiting import wait_until

# Orphans that ignore TERM, each in its own session.
APP = (
    "import os,signal,sys\n"
    "signal.signal(signal.SIGTERM,signal.SIG_IGN)\n"
    "if os.fork()==0:\n"
    "    for _ in range(int(sys.argv[1])):\n"
    "        if os.fork()==0:\n"
    "            os.setsid()\n"
    "            while True: signal.pause()\n"
    "    os._exit(0)\n"
    "os.wait()\n"
    "signal.signal(signal.SIGTERM,signal.SIG_DFL)\n"
    "print('ready',flush=True)\n"
    "while True: signal.pause()"
)
# Ignores TERM itself, and so do its live children, each in its own session.
PARENT = (
    "import os,signal,sys\n"
    "signal.signal(signal.SIGTERM,signal.SIG_IGN)\n"
    "for _ in range(int(sys.argv[1])):\n"
    "    if os.fork()==0:\n"
    "        os.setsid()\n"
    "        while True: signal.pause()\n"
    "print('ready',flush=True)\n"
    "while True: signal.pause()"
)
COUNTS = [1000, pytest.param(5000, marks=[pytest.mark.slow_fault, pytest.mark.timeout(120)])]


class Health:
    """Requests the supervisor's health repeatedly; records the longest response time, less waits for a processor."""

    def __init__(self, run: Run) -> None:
        self.slowest_s = 0.0
        self.answers = 0
        self._pid = run.pid
        self._address = ":".join(wait_until((run.run_dir / "http").read_text).split())
        wait_until(self._ask_once, what="a first answer")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.wait(0.02):
            watch = Stopwatch(self._pid)
            assert self._ask_once()
            self.slowest_s = max(self.slowest_s, watch.net_s)
            self.answers += 1

    def _ask_once(self) -> bool:
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=30)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200

    def close(self) -> None:
        """Stop the requests."""
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("count", COUNTS)
def test_health_is_answered_while_they_are_ended(count: int) -> None:
    """Health is answered within 0.2 s, not counting the time that both sides wait for a processor."""
    env = {"SUPERVISOR_BACKOFF_INITIAL": "10m", "SUPERVISOR_BACKOFF_MAX": "10m"}
    with running(sys.executable, "-c", APP, str(count), env=env) as run:
        run.wait_for("ready", deadline_s=60)
        health = Health(run)
        try:
            # Passed on to the app, which it kills.
            run.send(signal.SIGUSR1)
            ended = run.wait_for("ended what it left behind", deadline_s=60)
        finally:
            health.close()
        print(f"{count}: slowest answer {health.slowest_s:.3f} s of {health.answers}")
        assert (ended["count"], ended["killed"], ended["still_alive"]) == (count, count, 0)
        # Ending them takes two seconds, in which a crowded machine may answer ten times less often than an idle one.
        assert health.answers > 5
        assert health.slowest_s < 0.2


@pytest.mark.parametrize("count", COUNTS)
def test_the_stop_is_over_in_time(count: int) -> None:
    """The app exits at once, what it left ignores TERM; the test's limit allows for a loaded machine."""
    with running(sys.executable, "-c", APP, str(count), env={"SUPERVISOR_STOP_TIMEOUT": "8s"}) as run:
        run.wait_for("ready", deadline_s=60)
        took_s = run.stop_net_s()
        assert run.wait() == 0
        print(f"{count}: {took_s:.3f} s")
        assert took_s < 8.5


@pytest.mark.parametrize(
    ("count", "limit_s"),
    [(1000, 3), pytest.param(5000, 8, marks=[pytest.mark.slow_fault, pytest.mark.timeout(120)])],
)
def test_an_app_that_ignores_term_is_killed_early_enough_to_end_its_children(count: int, limit_s: int) -> None:
    """They have to be found and killed after it, within the same limit."""
    with running(sys.executable, "-c", PARENT, str(count), env={"SUPERVISOR_STOP_TIMEOUT": f"{limit_s}s"}) as run:
        run.wait_for("ready", deadline_s=60)
        watch = Stopwatch(run.pid)
        run.send(signal.SIGTERM)
        run.wait_for("killed")
        killed_s = watch.net_s
        # Not reaped yet: then its waits could no longer be read.
        os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)
        took_s = watch.net_s
        assert run.wait() == 0
        print(f"{count}: killed after {killed_s:.3f} s, {took_s:.3f} s")
        assert killed_s < limit_s - count * RESERVE_EACH_S / 3
        assert took_s < limit_s + 0.5
