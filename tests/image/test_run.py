"""The image in operation: its programs, its health in Docker, its stop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from supervisor import __version__
from supervisor.tailnet.versions import TESTED
from tests.support.docker import ARCH, SLOWNESS, docker
from tests.support.peer import peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.control import Control
    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]


# The names of the architectures in Docker and in the kernel.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def test_its_programs_are_for_its_processor(image: str) -> None:
    """Each prints its version, `check` finds no problem, and all are for the requested architecture."""
    arch = docker("image", "inspect", "--format", "{{.Architecture}}", image).stdout.strip()
    assert arch == (ARCH or arch)

    def said(program: str, *words: str) -> str:
        return docker("run", "--rm", "--network", "none", "--entrypoint", program, image, *words).stdout

    assert said("uname", "-m").strip() == MACHINES[arch]
    told = dict(line.split(maxsplit=1) for line in said("moltis-supervisor", "--version").splitlines())
    assert told["moltis-supervisor"] == __version__
    assert told["tailscaled"].startswith(TESTED)
    assert told["restic"].startswith("0.")
    assert said("moltis-supervisor", "check")


def test_it_is_healthy_and_stops_in_time(run: Run) -> None:
    """Docker shows it starting, then healthy, and `docker stop` ends it with 0 long before it would kill it."""
    with run() as box:
        assert box.health() == "starting"
        box.wait_health("healthy")
        assert box.stop() < 6 * SLOWNESS
        assert box.wait_end() == 0
        assert "stopped" in box.logs()


def test_a_peer_reaches_the_app_through_serve(run: Run, login: dict[str, str], control: Control) -> None:
    """With a key the device joins the tailnet by itself, and another node gets the app's page."""
    with run(**login, TS_HOSTNAME="boxed") as box, peer(control) as other:
        box.settled()
        ip = box.address()
        other.wait_path(ip, 30 * SLOWNESS)
        assert json.loads(
            other.fetch(ip, 80, host_header=box.status()["tailscale"]["hostname"], timeout_s=10 * SLOWNESS).body
        ) == {"page": "This is a stand-in for Moltis."}
        assert box.stop() < 8 * SLOWNESS
