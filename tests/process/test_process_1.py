"""Orphans and remaining processes: as process 1, as subreaper, and if the kernel supports neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.process.running import AS_PROCESS_1, running
from tests.process.test_stop import GRANDCHILD
from tests.support.processes import alive
from tests.support.refusing import refusing
from tests.support.waiting import wait_until

# 36 is PR_SET_CHILD_SUBREAPER.
NO_SUBREAPER = refusing("prctl=EINVAL@36", "pidfd_open=ENOSYS")
ORPHANS = 2000
MAKE_ORPHANS = (
    "import os,sys,time\n"
    f"for n in range({ORPHANS}):\n"
    "    pid=os.fork()\n"
    "    if pid==0:\n"
    "        if os.fork()==0: os._exit(n%256)\n"
    "        os._exit(0)\n"
    "    os.waitpid(pid,0)\n"
    "print('made',flush=True)\n"
    "time.sleep(300)"
)


def _may_be_process_1() -> bool:
    return subprocess.run([*AS_PROCESS_1, "true"], check=False, capture_output=True).returncode == 0


as_process_1 = pytest.mark.skipif(not _may_be_process_1(), reason="this machine does not let us make a pid namespace")


def zombies_of(pid: int) -> list[int]:
    """Return the children of a process that are dead and not reaped."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split() if not alive(int(child))]


@pytest.mark.parametrize("prefix", [pytest.param(AS_PROCESS_1, marks=as_process_1), ()], ids=["process 1", "subreaper"])
def test_orphans_are_reaped_and_no_status_is_lost(prefix: tuple[str, ...]) -> None:
    """Thousands of orphans exit while processes exit too: each exit code is reported, and no zombie remains."""
    toml = "".join(
        f'[process.n{code}]\ncommand = ["sh", "-c", "exit {code}"]\nrestart = "never"\n' for code in range(1, 101)
    )
    with running(sys.executable, "-c", MAKE_ORPHANS, toml=toml, prefix=prefix) as run:
        run.wait_for("made", deadline_s=60, process="moltis")
        run.wait_count(100, "exited", deadline_s=60)
        assert {record["child"]: record["code"] for record in run.all("exited")} == {
            f"n{code}": code for code in range(1, 101)
        }
        wait_until(lambda: not zombies_of(run.pid), what="no zombies")
        assert run.stop() == 0


@as_process_1
def test_process_1_takes_everything_with_it() -> None:
    """What the app left running in the container is ended too, and the exit code is 0."""
    with running(sys.executable, "-c", GRANDCHILD, prefix=AS_PROCESS_1, env={"SUPERVISOR_STOP_TIMEOUT": "1s"}) as run:
        wait_until(lambda: any(record["message"].startswith("grandchild") for record in run.records), what="grandchild")
        assert run.wait_for("starting")["pid"] == 1
        assert run.stop() == 0


@as_process_1
@pytest.mark.parametrize("status", [0, 7, 137])
def test_process_1_ends_with_the_apps_status(status: int) -> None:
    """A container that runs once exits with its app's exit code."""
    with running("sh", "-c", f"exit {status}", prefix=AS_PROCESS_1, options=("--restart=never",)) as run:
        assert run.wait() == status


@pytest.mark.parametrize(
    ("prefix", "note"),
    [(NO_SUBREAPER, "orphans are not handed"), (refusing("prctl=EPERM@15"), "cannot be given a name")],
    ids=["subreaper", "name"],
)
def test_without_a_role_it_works_and_says_what_is_missing(prefix: tuple[str, ...], note: str) -> None:
    """If the kernel refuses the role of subreaper, or a name, children are still supervised."""
    with running("sh", "-c", "echo ready; exec sleep 300", prefix=prefix) as run:
        started = run.wait_for("started")
        run.wait_for("ready")
        assert any(note in record["message"] for record in run.records)
        os.kill(started["pid"], signal.SIGKILL)
        run.wait_count(2, "started")
        assert run.stop() == 0
