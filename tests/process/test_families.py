"""Machines with IPv4, with IPv6, and with both: each is a network namespace with the real supervisor in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.running import running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.process.running import Run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip"), reason="takes root and iproute2 for network namespaces"
)
HEALTHCHECK = Path(__file__).parents[2] / "healthcheck"
# An app that listens where HOST says; like most, it takes an address with colons for IPv6.
APP = """
import os, socket
family = socket.AF_INET6 if ":" in os.environ["HOST"] else socket.AF_INET
listener = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), family=family)
print("listening on", os.environ["HOST"], flush=True)
while True:
    listener.accept()[0].close()
"""
ASK = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
connection.request("GET", sys.argv[3])
print(connection.getresponse().status)
"""
BOTH = ":"
IPV6_ALONE = "ip address del 127.0.0.1/8 dev lo"
IPV6_WITH_A_WAY_OUT = f"{IPV6_ALONE} && ip -6 route add default dev lo"
# Internal networks, as containers have them among themselves: no route leads out.
INNER_IPV6 = "ip -6 address add fd00::5/128 dev lo"
INNER_IPV4 = "ip route add 10.1.2.0/24 dev lo"
IPV4_ALONE = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"


def namespace(setup: str) -> tuple[str, ...]:
    """Return a prefix that runs a command in its own network namespace, with loopback set up by ``setup``."""
    return ("env", "unshare", "--net", "sh", "-c", f'ip link set lo up && {setup} && exec "$@"', "sh")


def inside(run: Run, *command: str, **env: str) -> str:
    """Run a command in the supervisor's network; return its output."""
    done = subprocess.run(
        ["nsenter", f"--target={run.pid}", "--net", *command],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout.strip() or done.stderr


def ask(run: Run, host: str, path: str = "/healthz") -> str:
    """Return the status of a response from the supervisor at this address, or the error."""
    port = (run.run_dir / "http").read_text().split()[1]
    return inside(run, sys.executable, "-I", "-c", ASK, host, port, path)


def answers(run: Run, host: str, path: str = "/healthz") -> bool:
    """Return whether the supervisor answers 200 at this address."""
    return ask(run, host, path) == "200"


@pytest.fixture(params=["tailnet", "public"])
def expose(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings for who gets the platform's port: the panel or the app."""
    ports = {"SUPERVISOR_PORT": "0"} if request.param == "public" else {"SUPERVISOR_APP_PORT": "0"}
    return {"SUPERVISOR_EXPOSE": str(request.param), "SUPERVISOR_APP_HEALTH_URL": None, **ports}


@pytest.mark.parametrize(
    ("setup", "reached", "app"),
    [
        (BOTH, {"127.0.0.1", "::1"}, {"tailnet": "127.0.0.2", "public": "0.0.0.0"}),
        (IPV4_ALONE, {"127.0.0.1"}, {"tailnet": "127.0.0.2", "public": "0.0.0.0"}),
        (IPV6_ALONE, {"::1"}, {"tailnet": "::1", "public": "::"}),
        (IPV6_WITH_A_WAY_OUT, {"::1"}, {"tailnet": "::1", "public": "::"}),
        (f"{IPV6_ALONE} && {INNER_IPV6}", {"::1", "fd00::5"}, {"tailnet": "::1", "public": "::"}),
        (INNER_IPV6, {"127.0.0.1", "fd00::5"}, {"tailnet": "127.0.0.2", "public": "::"}),
        (f"{INNER_IPV6} && {INNER_IPV4}", {"127.0.0.1", "fd00::5"}, {"tailnet": "127.0.0.2", "public": "0.0.0.0"}),
    ],
)
def test_whichever_family_the_machine_has(
    setup: str, reached: set[str], app: dict[str, str], expose: dict[str, Any]
) -> None:
    """Panel, app, health check and probe all work with the machine's families, with default settings."""
    with running(sys.executable, "-I", "-c", APP, env=expose, prefix=namespace(setup)) as run:
        run.wait_for(f"listening on {app[expose['SUPERVISOR_EXPOSE']]}", process="moltis")
        assert run.wait_for("starting")["listen"].startswith("*:")
        for host in reached:
            assert wait_until(partial(answers, run, host), what=host)
        assert wait_until(partial(answers, run, min(reached), "/readyz"), what="the app")
        assert inside(run, str(HEALTHCHECK), SUPERVISOR_RUN_DIR=str(run.run_dir)) == "pass"
        assert run.stop() == 0


@pytest.mark.parametrize(
    ("bind", "reached", "closed"),
    [("127.0.0.1", "127.0.0.1", "::1"), ("::1", "::1", "127.0.0.1"), ("::", "127.0.0.1", "")],
)
def test_one_address_alone(bind: str, reached: str, closed: str) -> None:
    """The supervisor listens only on the address given; `::` accepts both families, as in most programs."""
    with running("sleep", "600", env={"SUPERVISOR_BIND": bind}, prefix=namespace(BOTH)) as run:
        run.wait_for("starting")
        assert wait_until(partial(answers, run, reached), what=reached)
        if closed:
            assert "refused" in ask(run, closed)
        assert inside(run, str(HEALTHCHECK), SUPERVISOR_RUN_DIR=str(run.run_dir)) == "pass"


def test_a_health_check_of_a_hung_supervisor_ends_without_ipv4() -> None:
    """The health check's time limit does not need IPv4 either."""
    with running("sleep", "600", prefix=namespace(IPV6_ALONE)) as run:
        run.wait_for("starting")
        assert wait_until(partial(answers, run, "::1"), what="the panel")
        run.send(signal.SIGSTOP)
        said = inside(run, str(HEALTHCHECK), SUPERVISOR_RUN_DIR=str(run.run_dir))
        run.send(signal.SIGCONT)
        assert said == "unhealthy: no answer within 3 s"
