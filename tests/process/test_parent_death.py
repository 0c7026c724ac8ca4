"""Children are killed when the supervisor is killed, but not when one of its threads ends."""

from __future__ import annotations

import os
import pwd
import signal
import threading
from pathlib import Path

import pytest

from supervisor.core.process import ProcessSpec
from supervisor.system import kernel
from supervisor.system.spawn import spawn
from tests.process.running import Run, running
from tests.support.processes import alive
from tests.support.waiting import wait_until

STAYS = 'echo ready; trap "" TERM HUP; while :; do sleep 0.1; done'
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as another user")


def kill_supervisor(run: Run) -> int:
    """Kill the supervisor as the kernel would when out of memory; return its child's pid, once the child has ended."""
    run.wait_for("ready")
    pid = int(run.wait_for("started")["pid"])
    assert alive(pid)
    run.send(signal.SIGKILL)
    wait_until(lambda: not alive(pid), what="the child's end")
    return pid


def test_a_child_ends_with_a_killed_supervisor() -> None:
    """No process keeps the port or the state that the next supervisor needs."""
    with running("sh", "-c", STAYS) as run:
        kill_supervisor(run)


@as_root
def test_a_child_of_another_user_ends_too() -> None:
    """The kernel clears the parent-death signal at a change of user: it must be set after that."""
    with running("sh", "-c", STAYS, env={"SUPERVISOR_APP_USER": "nobody"}) as run:
        run.wait_for("ready")
        pid = int(run.wait_for("started")["pid"])
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["Uid"].split()[0] == str(pwd.getpwnam("nobody").pw_uid)
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == 0
        kill_supervisor(run)


def test_the_trap_is_real_and_spawn_does_not_step_into_it() -> None:
    """The kernel sends the signal when the creating *thread* ends, so only the main thread may create children."""
    pids: list[int] = []
    refused: list[BaseException] = []

    def make() -> None:
        words = [*kernel.launcher(), "--", "sleep", "300"]
        pids.append(os.posix_spawn(words[0], words, {"PATH": os.environ["PATH"]}))
        # The signal has been set by now, so the thread may end.
        wait_until(lambda: Path(f"/proc/{pids[0]}/comm").read_text() == "sleep\n")
        try:
            spawn(ProcessSpec("any", ("true",), {}), kernel.launcher())
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == -signal.SIGKILL
    assert len(refused) == 1
