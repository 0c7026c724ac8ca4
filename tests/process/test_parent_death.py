"""Children end with a supervisor that was killed; and with nothing less."""

from __future__ import annotations

import os
import pwd
import signal

import pytest

from tests.process.running import Run, running
from tests.process.test_stop import alive
from tests.support.waiting import wait_until

STAYS = 'echo ready; trap "" TERM HUP; while :; do sleep 0.1; done'
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as another user")


def kill_supervisor(run: Run) -> int:
    """Kill it as the kernel would for want of memory, and return its child's pid."""
    run.wait_for("ready")
    pid = int(run.wait_for("started")["pid"])
    assert alive(pid)
    run.send(signal.SIGKILL)
    wait_until(lambda: not alive(pid), what="the child's end")
    return pid


def test_a_child_ends_with_a_killed_supervisor() -> None:
    """No process is left on the port and the state that a successor needs."""
    with running("sh", "-c", STAYS) as run:
        kill_supervisor(run)


@as_root
def test_a_child_of_another_user_ends_too() -> None:
    """The kernel clears the parent-death signal at a change of user: it has to be set after that."""
    with running("sh", "-c", STAYS, env={"SUPERVISOR_APP_USER": "nobody"}) as run:
        run.wait_for("ready")
        pid = int(run.wait_for("started")["pid"])
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["Uid"].split()[0] == str(pwd.getpwnam("nobody").pw_uid)
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == 0
        kill_supervisor(run)


def test_a_child_outlives_the_threads_of_the_supervisor() -> None:
    """The kernel sends the signal when the creating *thread* ends: successors are made on the main thread too.

    The first child is started before there is a thread; the later ones while the worker threads, which load the
    rest, come and go.
    """
    with running("sh", "-c", "echo ready; exec sleep 300") as run:
        wait_until((run.run_dir / "http").exists, what="the port file")
        for count in (1, 2, 3):
            run.wait_count(count, "started")
            os.kill(run.all("started")[-1]["pid"], signal.SIGKILL)
        run.wait_count(4, "started")
        last = run.all("started")[-1]["pid"]
        wait_until(lambda: threads_of(run.pid, at_most=3), what="the worker threads' end", deadline_s=20)
        assert alive(last)
        assert len(run.all("started")) == 4


def threads_of(pid: int, at_most: int) -> bool:
    """Tell whether a process has so few threads."""
    return len(os.listdir(f"/proc/{pid}/task")) <= at_most
