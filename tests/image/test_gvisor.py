"""The conditions of App Platform: the image in gVisor, with 512 MB, the least capabilities, and a small disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.image.conftest import KEY
from tests.image.test_doctor import said
from tests.support.docker import docker
from tests.support.peer import peer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.control import Control
    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

CRASH = """
import urllib.request
urllib.request.urlopen(urllib.request.Request("http://127.0.0.2:13131/stand-in/crash", b"{}"))
"""
NO_MORE_FILES = """
import os, resource
_, hard = resource.prlimit(1, resource.RLIMIT_NOFILE)
resource.prlimit(1, resource.RLIMIT_NOFILE, (len(os.listdir("/proc/1/fd")), hard))
"""
# What is written goes to file systems with a limit, like the platform's disk of 2 GiB.
DISK = ("--tmpfs", "/var/lib/tailscale:size=64m", "--tmpfs", "/tmp:size=64m")


def test_it_starts_is_reached_survives_crashes_and_stops(
    run: Run, login: dict[str, str], control: Control, gvisor: tuple[str, ...]
) -> None:
    """Start, login, a peer's request, a crash of each process, recovery, and a stop in time work as on Linux."""
    options = (*gvisor, *DISK)
    with run(options=options, SUPERVISOR_SERVE="http", **login) as box, peer(control, key=KEY) as other:
        assert "gVisor" in box.execute("dmesg").stdout
        box.wait_health("healthy")
        box.settled()
        ip = box.address()
        other.wait_path(ip)
        _reached(box, ip, other.fetch)
        box.execute("python3", "-c", CRASH, may_fail=True)
        wait_until(lambda: box.processes()["moltis"]["restarts"] == 1, 60, "the app's restart")
        box.execute(
            "sh",
            "-c",
            "kill -KILL $(pidof tailscaled || grep -la tailscaled /proc/[0-9]*/cmdline | cut -d/ -f3)",
            may_fail=True,
        )
        wait_until(lambda: box.processes()["tailscaled"]["restarts"] == 1, 60, "tailscaled's restart")
        box.settled()
        assert box.address() == ip
        other.wait_path(ip)
        wait_until(lambda: _reached(box, ip, other.fetch), 60, "the app, after both crashes")
        # The control socket accepts orders from outside: the peer's process must not be taken for a child.
        box.execute("moltis-supervisor", "restart", "moltis")
        wait_until(lambda: box.processes()["moltis"]["ready"], 60, "the app, restarted by hand")
        assert box.stop() < 8
        assert box.wait_end() == 0


def test_a_lack_of_descriptors_costs_no_client(run: Run, gvisor: tuple[str, ...]) -> None:
    """If a listener has no free descriptor, this kernel drops connections; here they wait, and are answered."""
    with run(options=gvisor) as box:
        box.settled()
        docker("exec", "--privileged", "--user", "root", box.name, "python3", "-c", NO_MORE_FILES)
        assert [box.get("/healthz")[0] for _ in range(20)] == [200] * 20


def test_as_a_user_without_any_capability(run: Run, login: dict[str, str], gvisor: tuple[str, ...]) -> None:
    """If the platform gives no capability at all, the image runs as user 1000 in the sandbox too."""
    options = (*gvisor[:4], "--cap-drop", "ALL", "--user", "1000")
    with run(options=options, **login) as box:
        box.wait_health("healthy")
        box.address()
        assert box.stop() < 8
        assert box.wait_end() == 0


def test_the_doctor_knows_where_it_is(image: str, gvisor: tuple[str, ...]) -> None:
    """The doctor reports the sandbox, and what is unknown in it; outside it reports Linux."""
    words = ("--network", "none", "--entrypoint", "moltis-supervisor", image, "doctor", "--json")
    inside = said(docker("run", "--rm", *gvisor[:4], *words, may_fail=True).stdout)
    assert inside["sandbox"][0][0] == "note"
    assert inside["sandbox"][0][1].startswith("gVisor")
    for check in ("memory", "processes"):
        assert inside[check][0][0] == "note"
        assert "no limit" in inside[check][0][1]
    outside = said(docker("run", "--rm", *words, may_fail=True).stdout)
    assert outside["sandbox"] == [("ok", "Linux")]


def _reached(box: Container, ip: str, fetch: Callable[..., object]) -> bool:
    name = box.status()["tailscale"]["hostname"]
    body = getattr(fetch(ip, 80, host_header=name), "body", b"")
    return bool(json.loads(body) == {"page": "This is a stand-in for Moltis."})
