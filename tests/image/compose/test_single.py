"""deploy/docker: the single image, run by Compose as its file says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.image.compose.project import PASSWORD, TOKEN
from tests.image.conftest import KEY
from tests.support.docker import PATIENCE_S, docker
from tests.support.peer import peer

if TYPE_CHECKING:
    from tests.image.compose.project import Project
    from tests.support.control import Control


def test_up_to_down(single: Project, control: Control) -> None:
    """It is healthy, in the tailnet, reached by a peer, keeps no secret where Docker shows it, and ends in time."""
    single.compose("up", "--detach", "--wait", "--wait-timeout", "100")
    box = single.container("moltis")
    with peer(control) as other:
        view = single.wait_view("moltis", state="connected", mode="serve")
        ip = view["tailscale_ip"]
        other.wait_path(ip)
        assert other.fetch(ip, 80, host_header=view["hostname"]).status == 200
        assert other.fetch(ip, 8080, "/healthz").status == 200
    shown = docker("inspect", box.name).stdout
    for secret in (KEY, TOKEN, PASSWORD):
        assert secret not in shown
        assert secret not in box.logs()
    assert not box.inspect()["NetworkSettings"]["Ports"].get("8080/tcp")
    assert single.down() < PATIENCE_S / 2
