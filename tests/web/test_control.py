"""The control socket of a real supervisor: for its operators, and not for the processes below it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.running import AS_PROCESS_1, running
from tests.process.test_process_1 import as_process_1
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.running import Run

# Sends a request to the control socket and prints the response.
CLIENT = (
    "import http.client,socket,sys\n"
    "connection=http.client.HTTPConnection('localhost')\n"
    "connection.sock=socket.socket(socket.AF_UNIX)\n"
    "connection.sock.connect(sys.argv[1])\n"
    "connection.request('GET','/api/processes')\n"
    "answer=connection.getresponse()\n"
    "print(answer.status,answer.read().decode(),flush=True)\n"
)
# The same from itself, from a child, and from an orphan in its own session, like a daemon.
INSIDE = (
    f"import os,subprocess,sys,time\nCLIENT={CLIENT!r}\nsupervisor=os.getppid()\n"
    "def ask(*prefix):\n"
    "    subprocess.run([*prefix,sys.executable,'-c',CLIENT,sys.argv[1]])\n"
    "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    "exec(CLIENT)\n"
    "ask()\n"
    "if os.fork()==0:\n"
    "    os.setsid()\n"
    "    if os.fork()==0:\n"
    "        while os.getppid()!=supervisor: time.sleep(0.01)\n"
    "        ask()\n"
    "        exec(CLIENT)\n"
    "        print('all asked',flush=True)\n"
    "    os._exit(0)\n"
    "os.wait()\n"
    "time.sleep(300)"
)


def ask(socket_path: Path, *prefix: str) -> tuple[int, Any]:
    """Send a request from a process that is not below the supervisor."""
    words = [*prefix, sys.executable, "-c", CLIENT, str(socket_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    status, _, body = done.stdout.partition(" ")
    return int(status), json.loads(body)


def socket_of(run: Run) -> Path:
    """Return the control socket once the web server responds."""
    path = run.run_dir / "control.sock"
    wait_until(lambda: run.find("sign in to the panel with this code"), what="the web server")
    return path


def test_an_operator_needs_no_token() -> None:
    """The socket's mode excludes others, and it is removed with the supervisor."""
    with running("sleep", "300", env={"SUPERVISOR_TOKEN": ""}) as run:
        path = socket_of(run)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        status, body = ask(path)
        assert (status, body["processes"][0]["name"]) == (200, "moltis")
        assert run.stop() == 0
        assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be someone else")
def test_another_user_is_refused() -> None:
    """The kernel identifies the peer, so this applies even if the mode admits it."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if subprocess.run([*nobody, sys.executable, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody else run our interpreter")
    with running("sleep", "300") as run:
        path = socket_of(run)
        with pytest.raises(subprocess.CalledProcessError):
            ask(path, *nobody)
        path.chmod(0o666)
        for folder in (run.folder, run.run_dir):
            folder.chmod(0o755)
        status, body = ask(path, *nobody)
        assert (status, body["code"]) == (403, "CONTROL_REFUSED")
        assert "user 65534" in body["error"]


@pytest.mark.parametrize("prefix", [pytest.param(AS_PROCESS_1, marks=as_process_1), ()], ids=["process 1", "subreaper"])
def test_what_runs_under_it_is_refused(tmp_path: Path, prefix: tuple[str, ...]) -> None:
    """The app, its children, and a daemon that it has left behind are all below the supervisor."""
    path = tmp_path / "control.sock"
    env = {"SUPERVISOR_RUN_DIR": str(tmp_path)}
    with running(sys.executable, "-c", INSIDE, str(path), prefix=prefix, env=env) as run:
        run.wait_for("all asked")
        answers = [text for text in (record["message"] for record in run.records) if text[:3].isdecimal()]
        assert len(answers) == 4
        assert all(answer.startswith('403 {"code":"CONTROL_REFUSED"') for answer in answers), answers
        assert not run.find("order received")


@as_process_1
def test_a_console_of_the_container_may() -> None:
    """A process that enters from outside has no parent inside; one that is not visible from inside is refused."""
    with running("sleep", "300", prefix=AS_PROCESS_1) as run:
        path = socket_of(run)
        status, body = ask(path, "nsenter", f"--target={run.pid}", "--pid", "--mount")
        assert (status, body["processes"][0]["name"]) == (200, "moltis")
        status, body = ask(path, "nsenter", f"--target={run.pid}", "--pid", "--mount", "sh", "-c", '"$@"; true', "sh")
        assert status == 200
        status, body = ask(path)
        assert (status, body["code"]) == (403, "CONTROL_REFUSED")


def test_what_a_killed_one_left_is_replaced(tmp_path: Path) -> None:
    """The socket's file remains; the next supervisor still listens there."""
    env = {"SUPERVISOR_RUN_DIR": str(tmp_path / "run")}
    with running("sleep", "300", env=env) as first:
        wait_until((tmp_path / "run" / "control.sock").exists)
        first.send(signal.SIGKILL)
        first.wait()
    assert (tmp_path / "run" / "control.sock").exists()
    with running("sleep", "300", env=env) as second:
        wait_until(lambda: second.find("sign in to the panel with this code"))
        assert ask(tmp_path / "run" / "control.sock")[0] == 200


def test_a_second_one_leaves_the_first_ones_alone(tmp_path: Path) -> None:
    """It may not start with the same folder, and removes nothing when it exits."""
    env = {"SUPERVISOR_RUN_DIR": str(tmp_path / "run")}
    with running("sleep", "300", env=env) as first:
        wait_until(lambda: first.find("sign in to the panel with this code"))
        with running("sleep", "300", env=env) as second:
            assert second.wait() == 78
        assert ask(tmp_path / "run" / "control.sock")[0] == 200
        assert (tmp_path / "run" / "http").exists()
