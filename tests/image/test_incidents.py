"""Incidents in the image: real causes, on Linux and in gVisor, and what the next container reports of a killed one."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.test_doctor import said
from tests.support.docker import docker, unique
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

TOKEN = "a-token-of-the-tests"
STATE = "/var/lib/tailscale"
QUICK = {"SUPERVISOR_TOKEN": TOKEN, "SUPERVISOR_BACKOFF_INITIAL": "100ms", "SUPERVISOR_GIVE_UP": "never"}
ALONE = {"SUPERVISOR_TAILSCALE": "embedded", "TS_EXTRA_ARGS": "--login-server=http://127.0.0.1:1"}


@pytest.fixture
def volume() -> Iterator[str]:
    """A volume that outlives containers."""
    name = unique("volume")
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", name)


@pytest.fixture(params=["Linux", "gVisor"])
def sandbox(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The docker options for either kernel."""
    if request.param == "Linux":
        return ()
    found: tuple[str, ...] = request.getfixturevalue("gvisor")
    return found


def test_each_cause(run: Run, sandbox: tuple[str, ...], volume: str) -> None:
    """A panic, a KILL, a hang and an unexpected exit with 0 are recorded in one run, each with its cause."""
    options = (*sandbox, "--volume", f"{volume}:{STATE}")
    with run(options=options, SUPERVISOR_APP_HUNG="4s", **QUICK, **ALONE) as box:
        for name, signal, kind, cause in (
            ("tailscaled", "ABRT", "crash", "it panicked: SIGABRT: abort"),
            ("moltis", "KILL", "killed", "the KILL came from outside"),
            ("moltis", "STOP", "hang", "it was stopped by a signal (SIGSTOP)"),
            ("moltis", "TERM", "exit", "it exited with success although it should keep running"),
        ):
            _settle(box, name)
            box.execute("sh", "-c", f"kill -{signal} {box.processes()[name]['pid']}")
            told = _wait_incident(box, kind)
            assert told["subject"] == name
            assert cause in told["cause"], told
        wait_until(lambda: _incident(box, "exit")["done"], 30, "what was done")
        assert box.stop() < 10
        assert box.wait_end() == 0
        last = json.loads(box.logs().splitlines()[-1].partition("│")[2])
        assert (last["kind"], last["why"]) == ("end", "SIGTERM received")


def test_the_next_container_tells_of_a_killed_one(run: Run, image: str, volume: str) -> None:
    """The container was killed without a stop, or while stopping; the doctor reports it before the next start."""
    options = ("--volume", f"{volume}:{STATE}")
    env = {"TS_STATE_DIR": STATE, "SUPERVISOR_APP_HEALTH_URL": "", "SUPERVISOR_STOP_TIMEOUT": "60s"}
    stubborn = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    with run(*stubborn, options=options, **env) as box:
        box.wait_log("previous run")
        box.signal("KILL")
        assert box.wait_end() == 137
    words = ("--env", f"TS_STATE_DIR={STATE}", "--env", "SUPERVISOR_TAILSCALE=off", "--entrypoint", "moltis-supervisor")
    report = said(docker("run", "--rm", *options, *words, image, "doctor", "--json", may_fail=True).stdout)
    assert report["incidents"][0][0] == "problem"
    assert "the container was killed; it was not told to stop" in report["incidents"][0][1]
    with run(*stubborn, options=options, **env) as box:
        assert "sent it KILL" in box.wait_log("previous run")
        box.wait_log("ready")
        box.stop(patience_s=2)
        assert box.wait_end() == 137
    with run(*stubborn, options=options, **env) as box:
        assert "raise the platform's grace period" in box.wait_log("previous run")
        box.signal("KILL")


def test_a_full_disk(run: Run, sandbox: tuple[str, ...]) -> None:
    """Incidents stay in memory, with the reason; the doctor names the disk."""
    options = (*sandbox, "--tmpfs", f"{STATE}:size=1m")
    env = {**QUICK, "TS_STATE_DIR": STATE, "SUPERVISOR_APP_HEALTH_URL": ""}
    with run("sh", "-c", "sleep 2; exit 3", options=options, **env) as box:
        box.wait_log("previous run")
        box.execute("sh", "-c", f"cat /dev/zero >{STATE}/filler", may_fail=True)
        assert "disk is full" in box.wait_log("incidents are not kept")
        assert _wait_incident(box, "crash")["code"] == 3
        found = said(box.execute("moltis-supervisor", "doctor", "--json", may_fail=True).stdout)
        assert [level for level, text in found["disk"] if STATE in text] == ["problem"]


def _settle(box: Container, name: str) -> None:
    """Wait until a process is running, and the app is ready."""

    def is_ready() -> bool:
        with contextlib.suppress(ConnectionError):
            process = box.processes()[name]
            return process["state"] == "running" and (process["ready"] or name == "tailscaled")
        return False

    wait_until(is_ready, 60, f"{name} to run")


def _incident(box: Container, kind: str) -> Any:
    status, text = box.get("/api/incidents", token=TOKEN)
    assert status == 200, text
    return next((each for each in json.loads(text)["incidents"] if each["kind"] == kind), None)


def _wait_incident(box: Container, kind: str) -> Any:
    return wait_until(lambda: _incident(box, kind), 60, f"an incident {kind}")
