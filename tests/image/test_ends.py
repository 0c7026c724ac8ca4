"""How the container ends, its health in Docker, and what happens when memory runs out."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

TOKEN = "a-token-of-the-tests"
NEVER = {"SUPERVISOR_RESTART": "never", "SUPERVISOR_APP_HEALTH_URL": ""}


@pytest.mark.parametrize(
    ("command", "env", "code"),
    [
        (("sh", "-c", "exit 3"), NEVER, 3),
        (("sh", "-c", "kill -9 $$"), NEVER, 137),
        (("sh", "-c", "kill -6 $$"), NEVER, 134),
        (("true",), NEVER, 0),
        (("no-such-program",), NEVER, 127),
        (("/etc/passwd",), NEVER, 126),
        ((), {"SUPERVISOR_RESTART": "sometimes"}, 78),
        ((), {"SUPERVISOR_APP_USER": "nobody-of-that-name"}, 78),
        (("false",), {"SUPERVISOR_GIVE_UP": "2/1m", "SUPERVISOR_BACKOFF_INITIAL": "10ms"}, 70),
    ],
)
def test_docker_sees_the_exit_code(run: Run, command: tuple[str, ...], env: dict[str, str], code: int) -> None:
    """Docker gets the app's exit code, 128 plus the signal, and the codes for invalid settings and for giving up."""
    with run(*command, **env) as box:
        assert box.wait_end() == code, box.logs()


def test_bad_arguments_are_64(run: Run) -> None:
    """An unknown command exits with 64 when used by hand."""
    with run() as box:
        assert box.execute("moltis-supervisor", "frobnicate", may_fail=True).status == 64


def test_an_app_that_ignores_term_is_killed_in_time(run: Run) -> None:
    """The stop stays within Docker's ten seconds, and the exit code of a requested stop is still 0."""
    with run("sh", "-c", "trap '' TERM; while :; do sleep 1; done", SUPERVISOR_APP_HEALTH_URL="") as box:
        box.wait_log("started")
        assert box.stop() < 10
        assert box.wait_end() == 0


def test_what_docker_kills_is_137(run: Run) -> None:
    """If there is no time for the stop, Docker kills process 1, and the exit code is 137."""
    with run("sh", "-c", "trap '' TERM; sleep 600 & wait", SUPERVISOR_STOP_TIMEOUT="60s") as box:
        box.wait_log("started")
        box.stop(patience_s=1)
        assert box.wait_end() == 137


def test_docker_sees_a_hung_app_and_its_recovery(run: Run) -> None:
    """A hung app makes the container unhealthy; once it is restarted, the container is healthy again."""
    options = ("--health-interval", "1s", "--health-retries", "2", "--health-start-period", "1s")
    with run(options=options, SUPERVISOR_APP_HUNG="35s", SUPERVISOR_TOKEN=TOKEN) as box:
        box.wait_health("healthy")
        box.execute("python3", "-c", HANG)
        box.wait_health("unhealthy")
        assert "fail" in box.state()["Health"]["Log"][-1]["Output"]
        box.wait_health("healthy")
        assert box.processes()["moltis"]["restarts"] == 1
        assert _restarts_by(box, "hung") == 1


def test_an_app_that_runs_out_of_memory_is_restarted(run: Run) -> None:
    """The kernel kills the app, not the supervisor; the log says why, and the container keeps running."""
    eat = "import sys, time\nif __import__('os').path.exists('/tmp/eaten'): time.sleep(600)\n"
    eat += "open('/tmp/eaten', 'w').close()\nall = []\nwhile True: all.append(bytearray(1 << 20))"
    options = ("--memory", "128m", "--memory-swap", "128m")
    env = {"SUPERVISOR_APP_HEALTH_URL": "", "SUPERVISOR_TOKEN": TOKEN}
    with run("python3", "-c", eat, options=options, **env) as box:
        log = box.wait_log("killed by the kernel: out of memory")
        wait_until(lambda: box.processes()["moltis"]["restarts"] == 1, 60, "the app's restart")
        assert box.state()["Status"] == "running", log
        assert box.get("/healthz")[0] == 200
        assert _restarts_by(box, "out_of_memory") == 1
        told = [each for each in _incidents(box) if each["kind"] == "out-of-memory"]
        assert [(each["subject"], each["signal"]) for each in told] == [("moltis", "SIGKILL")]
        assert told[0]["cause"].startswith("the kernel counted an out-of-memory kill")
        assert told[0]["limit_bytes"] == 128 * 2**20


def test_thousands_of_orphans_leave_no_zombie(run: Run) -> None:
    """As many orphans as may occur within an hour are reaped, and the supervisor keeps running."""
    orphans = "i=0; while [ $i -lt 3600 ]; do (true &); i=$((i+1)); done; echo all-made; sleep 600"
    with run("sh", "-c", orphans, SUPERVISOR_APP_HEALTH_URL="") as box:
        box.wait_log("all-made", 120)
        wait_until(lambda: not _zombies(box), 60, "the last zombie's end")
        assert box.get("/healthz")[0] == 200
        assert box.stop() < 8


def _incidents(box: Container) -> list[dict[str, Any]]:
    """Return the incidents that the API lists."""
    status, text = box.get("/api/incidents", token=TOKEN)
    assert status == 200, text
    found: list[dict[str, Any]] = json.loads(text)["incidents"]
    return found


def _restarts_by(box: Container, reason: str) -> float:
    """Return how often the app was restarted for this reason, according to the metrics."""
    status, text = box.get("/metrics", token=TOKEN)
    assert status == 200, text
    labels = f'{{process="moltis",reason="{reason}"}}'
    return sum(float(line.split()[1]) for line in text.splitlines() if labels in line and "_restarts_total" in line)


def _zombies(box: Container) -> int:
    """Count the zombies from outside: a process inside would be another child."""
    first = int(box.state()["Pid"])
    found, todo = 0, [first]
    while todo:
        pid = todo.pop()
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(word) for word in file.read().split()]
        todo += [child for child in children if os.path.exists(f"/proc/{child}")]
        for child in children:
            with open(f"/proc/{child}/stat", encoding="ascii") as file:
                found += file.read().rpartition(") ")[2][0] == "Z"
    return found


HANG = """
import urllib.request
urllib.request.urlopen(urllib.request.Request("http://127.0.0.2:13131/stand-in/hang", b"{}"))
"""
