"""What the system lacks is reported, and the supervisor runs without it if possible."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process.running import Run, running
from tests.process.test_bad_input import refused
from tests.support.refusing import refusing
from tests.support.waiting import wait_until
from tests.web.test_control import CLIENT

if TYPE_CHECKING:
    from collections.abc import Iterator

FOR_EVER = ("sh", "-c", "echo ready; exec sleep 300")
NO_PROC = ("env", "unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
FOREIGN_PROC = ("unshare", "--pid", "--fork", "--kill-child")
ASKING = 'until test -S "$3"; do sleep 0.05; done; "$1" -c "$2" "$3"; exec sleep 300'
LINES = 30_000
# The pids controller, in its own hierarchy (cgroup v1) or in the common one (v2).
GROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change what is mounted")


@pytest.fixture
def few_processes() -> Iterator[Path]:
    """A cgroup whose number of processes can be limited."""
    try:
        group = Path(tempfile.mkdtemp(prefix="few-", dir=next(path for path in GROUPS if path.is_dir())))
    except (OSError, StopIteration):
        pytest.skip("this machine does not let us make a cgroup")
    try:
        if not (group / "pids.max").exists():
            pytest.skip("this machine does not let us limit processes")
        yield group
    finally:
        group.rmdir()


def limited_to(count: int, group: Path) -> tuple[str, ...]:
    """Return a prefix that runs a command with at most ``count`` processes and threads."""
    (group / "pids.max").write_text(str(count))
    return ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group))


def wait_said(run: Run, words: str) -> None:
    """Wait until the log contains these words."""
    wait_until(lambda: any(words in record["message"] for record in run.records), what=words)


def health(run: Run) -> int:
    """Return the status of a response from /healthz."""
    connection = http.client.HTTPConnection("127.0.0.1", int(run.wait_for("starting")["listen"].rpartition(":")[2]))
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status


@as_root
@pytest.mark.parametrize("count", [2, 3])
def test_without_a_thread_everything_goes_on(few_processes: Path, count: int) -> None:
    """One process besides the supervisor is enough for an app: its log is complete and in order, health is answered."""
    script = f"import time\nfor number in range({LINES}): print(number)\nprint('ready',flush=True)\ntime.sleep(300)"
    with running(sys.executable, "-c", script, prefix=limited_to(count, few_processes)) as run:
        wait_said(run, "limit of processes")
        run.wait_for("ready")
        run.wait_for("sign in to the panel with this code")
        assert health(run) == 200
        assert run.stop() == 0
        said = [record["message"] for record in run.records if record["process"] == "moltis"]
        assert said == [*map(str, range(LINES)), "ready"]


@as_root
def test_without_a_process_to_be_had_the_log_says_so(few_processes: Path) -> None:
    """Without the message there would be only an exit code and an empty log."""
    with running(*FOR_EVER, prefix=limited_to(1, few_processes)) as run:
        assert run.wait() == 70
        assert "at its limit of processes" in run.wait_for("given up")["last_failure"]


@as_root
def test_without_proc_it_runs_and_says_what_is_missing() -> None:
    """Programs for another processor are not detected then, and no remains are found."""
    with running(*FOR_EVER, prefix=NO_PROC) as run:
        run.wait_for("ready")
        wait_said(run, "there is no /proc")
        assert run.stop() == 0


@as_root
def test_in_the_proc_of_another_namespace_nobody_is_mistaken(tmp_path: Path) -> None:
    """The pids in /proc are of other processes: a restart does not wait for them, and a client is not taken for one."""
    env = {"SUPERVISOR_RUN_DIR": str(tmp_path), "SUPERVISOR_BACKOFF_MAX": "10ms"}
    toml = '[process.leaver]\ncommand = ["sh", "-c", "sleep 300 & exit 3"]\n'
    asks = ("sh", "-c", ASKING, "sh", sys.executable, CLIENT, f"{tmp_path}/control.sock")
    with running(*asks, prefix=FOREIGN_PROC, toml=toml, env=env) as run:
        run.wait_count(5, "exited", child="leaver")
        wait_said(run, "403 ")
        assert run.stop() == 0
        assert not [*run.all("ended what it left behind"), *run.all("ended everything else")]


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_told_and_lived_with(tmp_path: Path, name: str) -> None:
    """A second supervisor is still detected, by the socket of the first."""
    prefix = refusing(f"flock={name}")
    with running(*FOR_EVER, prefix=prefix, env={"SUPERVISOR_RUN_DIR": str(tmp_path)}) as run:
        run.wait_for("ready")
        wait_said(run, "has no locks")
        with running(*FOR_EVER, prefix=prefix, env={"SUPERVISOR_RUN_DIR": str(tmp_path)}) as second:
            assert "another supervisor runs there" in refused(second)
        assert run.stop() == 0
