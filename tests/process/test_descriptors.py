"""With few file descriptors and many clients, health is answered, processes start, and the log stays readable."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from tests.backup.world import World
from tests.client.calling import PROGRAM, call
from tests.process.running import Run, running
from tests.support.crowded import Stopwatch
from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEP = ("sleep", "600")
SAYS_ITS_LIMIT = (
    "sh",
    "-c",
    'read -r line </proc/self/limits; echo "soft $(ulimit -Sn) hard $(ulimit -Hn)"; sleep 600',
)


def limited(words: str) -> tuple[str, ...]:
    """Return a prefix that runs a command with a limit on open files."""
    return ("sh", "-c", f'ulimit {words}; exec "$@"', "sh")


def port_of(run: Run) -> int:
    """Return the panel's port, once it answers."""

    def answering() -> int:
        port = int((run.run_dir / "http").read_text().split()[1])
        return port if health(port) == 200 else 0

    run.wait_for("starting")
    return wait_until(answering)


def health(port: int) -> int:
    """Return the status of /healthz on a port; 0 if no answer arrives in time."""
    try:
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return int(client.recv(100).split()[1])
    except (OSError, IndexError):
        return 0


@contextlib.contextmanager
def idle(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Hold ``count`` idle connections open for the length of a block."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(count)]


def restart(run: Run) -> None:
    """Kill the app, and wait until it has been started again."""
    count = len(run.all("started", child="moltis"))
    os.kill(run.all("started", child="moltis")[-1]["pid"], signal.SIGKILL)
    run.wait_count(count + 1, "started", child="moltis")


def test_children_begin_with_the_limit_that_the_supervisor_began_with() -> None:
    """The supervisor raises its own limit to the maximum; children start with the original one, at a restart too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(*SAYS_ITS_LIMIT, prefix=limited("-Sn 300")) as run:
        run.wait_for(f"soft 300 hard {hard}", process="moltis")
        restart(run)
        run.wait_count(2, f"soft 300 hard {hard}", process="moltis")
        with open(f"/proc/{run.pid}/limits", encoding="utf-8") as file:
            limits = next(line.split() for line in file if line.startswith("Max open files"))
        assert limits[3:5] == [str(hard), str(hard)]
        assert run.stop() == 0


@pytest.mark.parametrize(("files", "connections"), [(64, 200), (256, 240), (1024, 1400)])
def test_many_connections_do_no_harm(files: int, connections: int) -> None:
    """However low the limit and however fast clients connect: health is answered, starts work, the log stays quiet."""
    with running(*SLEEP, prefix=limited(f"-n {files}")) as run:
        port = port_of(run)
        with idle(port, connections):
            for _ in range(3):
                assert health(port) == 200
                restart(run)
        with idle(port, connections):
            assert health(port) == 200
        assert len(run.all("too few file descriptors")) <= 2
        if files == 64:
            told = run.wait_for("too few file descriptors")
            assert (told["limit"], "ulimit -n" in told["what_to_do"]) == (64, True)
        assert run.stop() == 0
        assert not [record for record in run.records if "internal error" in str(record) or "raceback" in str(record)]
        assert not [record for record in run.records if record["message"] == "cannot start"]
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize("path", ["/api/processes", "/api/events"])
def test_who_is_signed_in_does_not_starve_health(path: str) -> None:
    """Idle ones and event streams are closed when nothing else can be: health, operator and new clients go on."""
    token = "an-admin-token-of-good-length"
    asked = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    files, count = (48, 30) if path == "/api/events" else (256, 300)
    with running(*SLEEP, prefix=limited(f"-n {files}"), env={"SUPERVISOR_TOKEN": token}) as run:
        port = port_of(run)
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
                client.sendall(asked)
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
            for _ in range(3):
                assert health(port) == 200
                assert call(run.run_dir, "status").code == 0
                restart(run)
        assert run.stop() == 0
        # Once a minute, and what was counted since at the end.
        assert len(run.all("too few file descriptors")) == 2
        assert not [record for record in run.records if "internal error" in str(record) or "raceback" in str(record)]


def test_many_connections_to_the_port_of_a_held_app_do_no_harm() -> None:
    """It is one more port of the supervisor's: both answer, the operator too, and one line a minute tells the lack."""
    app_port = free_port("127.0.0.1")
    unreachable = World("s3:http://127.0.0.1:1/bucket", prefix=limited("-n 128"))
    public = {"SUPERVISOR_EXPOSE": "public", "PORT": str(app_port), "SUPERVISOR_PORT": "0"}
    with unreachable.running(*SLEEP, **public) as run:
        port = port_of(run)
        with idle(app_port, 250), idle(port, 50):
            for _ in range(3):
                assert (health(port), health(app_port)) == (200, 503)
                assert call(run.run_dir, "status").code in {0, 1}
        assert run.stop() == 0
        # Once a minute, and what was counted since at the end.
        assert len(run.all("too few file descriptors")) == 2
        assert not [record for record in run.records if "internal error" in str(record) or "raceback" in str(record)]


def test_a_limit_that_is_lowered_meanwhile_stops_nothing() -> None:
    """An operator may lower it with prlimit(1): processes still start, and the limit is not raised again."""
    with running("sleep", "600", prefix=limited("-Hn 4096; ulimit -Sn 2048")) as run:
        port_of(run)
        resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (1024, 1024))
        os.kill(run.wait_for("started", child="moltis")["pid"], signal.SIGKILL)
        run.wait_count(2, "started", child="moltis")
        assert resource.prlimit(run.pid, resource.RLIMIT_NOFILE) == (1024, 1024)
        assert run.stop() == 0


def test_the_first_lines_are_not_lost_where_no_file_may_be_opened(tmp_path: Path) -> None:
    """The code for lines was loaded with the first of them, which takes a descriptor."""
    script = (
        f'while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo \'{{"message":"first"}}\'; echo second; sleep 600'
    )
    with running("sh", "-c", script, prefix=limited("-Hn 4096; ulimit -Sn 4096")) as run:
        port_of(run)
        used = len(os.listdir(f"/proc/{run.pid}/fd"))
        resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (used - 4, 4096))
        (tmp_path / "go").touch()
        run.wait_for("first", process="moltis")
        run.wait_for("second", process="moltis")
        assert run.stop() == 0
        assert not run.all("internal error")


def test_an_operator_is_recognised_where_hardly_a_file_may_be_opened() -> None:
    """Who is asking is looked up with the reserve's descriptors; a lack of them is not told as a caller unknown."""
    with running(*SLEEP, prefix=limited("-Hn 4096; ulimit -Sn 4096")) as run:
        port_of(run)
        status = [*PROGRAM, "status"]
        subprocess.run(status, env=run.env, check=True, timeout=30)
        used = set(map(int, os.listdir(f"/proc/{run.pid}/fd")))
        unused = [number for number in range(4096) if number not in used]
        # One free descriptor is for the connection; without any, the server makes room for several.
        for free in (2, 1, 0):
            resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (unused[free], 4096))
            subprocess.run(status, env=run.env, check=True, timeout=30)
        assert run.stop() == 0


def test_health_does_not_wait_behind_idle_connections_where_no_file_may_be_opened() -> None:
    """While only four were accepted every 20 ms, an answer took half a second, or the probe's connection was reset."""
    with running(*SLEEP, prefix=limited("-Hn 4096; ulimit -Sn 4096")) as run:
        port = port_of(run)
        used = len(os.listdir(f"/proc/{run.pid}/fd"))
        resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (used - 4, 4096))
        held: deque[list[socket.socket]] = deque()
        watch = Stopwatch(run.pid)
        for _ in range(40):
            # Without waiting: what does not fit into the queue connects once there is room.
            held.append([socket.socket() for _ in range(50)])
            for client in held[-1]:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
            assert health(port) == 200
            for client in held.popleft() if len(held) > 6 else ():
                client.close()
        # It took 22 s with four accepted every 20 ms.
        assert watch.net_s < 11
        assert run.stop() == 0
        assert "Traceback" not in run.stderr
        for client in chain(*held):
            client.close()
