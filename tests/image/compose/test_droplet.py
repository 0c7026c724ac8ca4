"""deploy/droplet: Moltis, a sidecar's tailscaled and the panel, run by Compose as their file says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from supervisor.moltis import DEFAULTS
from tests.image.compose.project import PASSWORD, TOKEN
from tests.image.conftest import KEY
from tests.support.docker import PATIENCE_S, docker
from tests.support.peer import peer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.image.compose.project import Project
    from tests.support.control import Control
    from tests.support.peer import Peer

FIRST = ("compose.yaml", "first-login.yaml")


@pytest.fixture
def visitor(control: Control) -> Iterator[Peer]:
    """Another node of the tailnet."""
    with peer(control, "visitor") as other:
        yield other


def start(droplet: Project, *, first: bool = True) -> str:
    """Bring it up and wait until it is in the tailnet; return its address there."""
    droplet.compose("up", "--detach", files=FIRST if first else ("compose.yaml",))
    return str(droplet.wait_view("panel", state="connected", mode="serve")["tailscale_ip"])


def page(other: Peer, ip: str, name: str) -> int:
    """Return the status of the app's page, 0 where there is none."""
    try:
        return other.fetch(ip, 80, host_header=name, timeout_s=5).status
    except OSError:
        return 0


def wait_page(other: Peer, ip: str, name: str) -> None:
    """Wait until a peer gets the app's page."""
    wait_until(lambda: page(other, ip, name) == 200, PATIENCE_S, "the app's page")


def test_from_the_first_login_to_the_end(droplet: Project, visitor: Peer) -> None:
    """A key logs it in once, then it is deleted; app and panel are reached, and nothing else; all ends in time."""
    ip = start(droplet)
    name = droplet.view("panel")["hostname"]
    visitor.wait_path(ip)
    wait_page(visitor, ip, name)
    assert visitor.fetch(ip, 8080, "/healthz", host_header=f"{name}:8080").status == 200
    for port in (13131, 18791, 9090):
        assert not visitor.connects(ip, port)
    (droplet.folder / "secrets/ts-authkey").unlink()
    assert start(droplet, first=False) == ip
    wait_page(visitor, ip, name)
    for service in ("tailscale", "moltis", "panel"):
        box = droplet.container(service)
        shown = docker("inspect", box.name).stdout
        for secret in (KEY, TOKEN, PASSWORD):
            assert secret not in shown
            assert secret not in box.logs()
        assert not any((box.inspect()["NetworkSettings"]["Ports"] or {}).values())
    assert droplet.down() < PATIENCE_S / 2


def test_the_app_gets_what_the_contract_lists(droplet: Project) -> None:
    """And its password, for the first start only, which its user may read and no `docker inspect` shows."""
    droplet.compose("up", "--detach", "moltis")
    box = droplet.container("moltis")
    box.wait_health("healthy")
    environs = "cat /proc/[0-9]*/environ | tr '\\0' '\\n'"
    seen = box.execute("bash", "-c", f"{environs}; cat /proc/self/status").stdout.splitlines()
    assert {f"{name}={text}" for name, text in DEFAULTS.items()} <= set(seen)
    assert f"MOLTIS_PASSWORD={PASSWORD}" in seen
    assert "NoNewPrivs:\t1" in seen
    assert box.execute("sudo", "-n", "true", may_fail=True).status != 0
    droplet.compose("restart", "moltis")
    box.wait_health("healthy")
    assert "MOLTIS_PASSWORD" not in box.execute("bash", "-c", environs).stdout


def test_a_restart_of_the_sidecar(droplet: Project, visitor: Peer) -> None:
    """Nobody loses a network, the new socket is found through its folder, and the app is reached again."""
    ip = start(droplet)
    name = droplet.view("panel")["hostname"]
    visitor.wait_path(ip)
    wait_page(visitor, ip, name)
    started = {service: droplet.container(service).state()["StartedAt"] for service in ("moltis", "panel")}
    # Not by `docker kill`, after which no restart policy counts.
    droplet.container("tailscale").execute("sh", "-c", "kill -TERM 1", may_fail=True)
    wait_until(lambda: droplet.container("tailscale").inspect()["RestartCount"] == 1, PATIENCE_S, "its restart")
    droplet.wait_view("panel", state="connected", mode="serve")
    wait_page(visitor, ip, name)
    # Made anew, as an update does it: another container with another address.
    droplet.compose("up", "--detach", "--force-recreate", "--no-deps", "tailscale")
    droplet.wait_view("panel", state="connected", mode="serve", tailscale_ip=ip)
    wait_page(visitor, ip, name)
    assert visitor.fetch(ip, 8080, "/healthz", host_header=f"{name}:8080").status == 200
    assert started == {service: droplet.container(service).state()["StartedAt"] for service in started}


def test_a_restart_of_the_app(droplet: Project, visitor: Peer) -> None:
    """It has another address afterwards, and is found by its name."""
    ip = start(droplet)
    name = droplet.view("panel")["hostname"]
    visitor.wait_path(ip)
    wait_page(visitor, ip, name)
    droplet.compose("up", "--detach", "--force-recreate", "--no-deps", "moltis")
    wait_page(visitor, ip, name)


def test_disconnect_and_connect(droplet: Project, visitor: Peer) -> None:
    """Through the panel's API: the sidecar goes on running, the app with it, and comes back as the same device."""
    ip = start(droplet)
    name = droplet.view("panel")["hostname"]
    visitor.wait_path(ip)
    wait_page(visitor, ip, name)
    sidecar = droplet.container("tailscale").state()["StartedAt"]
    status, _ = droplet.api("panel", "POST", "/api/tailscale/disconnect", {"confirm": True})
    assert status == 202
    droplet.wait_view("panel", state="disconnected by you")
    assert page(visitor, ip, name) == 0
    assert droplet.container("moltis").state()["Status"] == "running"
    assert droplet.api("panel", "POST", "/api/tailscale/connect")[0] == 202
    droplet.wait_view("panel", state="connected", mode="serve", tailscale_ip=ip)
    wait_page(visitor, ip, name)
    assert droplet.container("tailscale").state()["StartedAt"] == sidecar


def test_the_panel_waits_for_the_sidecar(droplet: Project) -> None:
    """It starts when the sidecar answers, and not before; the app waits for neither."""
    plan = json.loads(droplet.compose("config", "--format", "json"))["services"]
    assert plan["panel"]["depends_on"] == {"tailscale": {"condition": "service_healthy", "required": True}}
    droplet.compose("up", "--detach", files=FIRST)
    assert droplet.container("tailscale").health() == "healthy"
    assert droplet.container("panel").state()["Status"] == "running"
