"""The image started for real: its first answer, its health as Docker sees it, its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.peer import peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.control import Control
    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]


def test_it_is_healthy_and_stops_in_time(run: Run) -> None:
    """Docker sees it starting, then healthy, and `docker stop` ends it with 0 long before it would kill."""
    with run() as box:
        assert box.health() == "starting"
        box.wait_health("healthy")
        assert box.stop() < 6
        assert box.wait_end() == 0
        assert "stopped" in box.logs()


def test_a_peer_reaches_the_app_through_serve(run: Run, login: dict[str, str], control: Control) -> None:
    """With a key it joins the tailnet by itself, and a second node gets the app's page."""
    with run(**login, TS_HOSTNAME="boxed") as box, peer(control) as other:
        box.settled()
        ip = box.address()
        other.wait_path(ip)
        assert json.loads(other.fetch(ip, 80, host_header=box.status()["tailscale"]["hostname"]).body) == {
            "page": "This is a stand-in for Moltis."
        }
        assert box.stop() < 8
