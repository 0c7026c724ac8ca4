"""Which of the container's ports another node of the tailnet reaches: serve and $PORT, with the policy no others."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.image.conftest import KEY
from tests.support.control import ROOT
from tests.support.peer import peer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from tests.support.control import Control
    from tests.support.docker import Container
    from tests.support.peer import Peer

    Run = Callable[..., AbstractContextManager[Container]]

SERVED, PANEL, PROXY = 80, 8080, 18791
# Moltis' forward proxy, tailscaled's proxies, web client and debug port, containerboot's health, ours in public mode.
KNOWN = {22, 443, 1055, 1080, 3128, 5252, 8081, 9002, 9090, 13131, 13132, 1455, 41112, 41641, PROXY}
LISTENING = "0A"
OPEN = f"import socket, time; kept = socket.create_server(('127.0.0.1', {PROXY})); time.sleep(600)"


def test_only_serve_and_port_answer_a_peer(run: Run, login: dict[str, str], control: Control) -> None:
    """Even without a policy no other port of the image answers, whatever listens inside."""
    with run(**login, SUPERVISOR_SERVE="http") as box, peer(control, key=KEY) as other:
        ip = _joined(box, other)
        asked = _listening(box) | KNOWN | set(range(1, 1025))
        own = _peer_api(other, ip)
        assert _answering(other, ip, asked - {own}) == {SERVED, PANEL}
        # tailscaled's peer API stays open: it gives no access to the LocalAPI.
        for host in ("local-tailscaled.sock", f"{ip}:{own}"):
            assert other.fetch(ip, own, "/localapi/v0/status", host_header=host).status in {403, 404}


def test_with_the_policy_every_other_port_is_closed(run: Run, login: dict[str, str], control: Control) -> None:
    """A port opened on 127.0.0.1 is open to peers without deploy/tailnet-policy.hujson, and closed with it."""
    granted = re.findall(r'"tcp:(\d+)"', (ROOT / "deploy/tailnet-policy.hujson").read_text())
    with run(**login, SUPERVISOR_SERVE="http") as box, peer(control, key=KEY) as other:
        ip = _joined(box, other)
        box.start_inside("python3", "-c", OPEN)
        wait_until(lambda: other.connects(ip, PROXY), 60, "the open port")
        control.order("policy", ports=",".join(granted))
        wait_until(lambda: not other.connects(ip, PROXY, 1), 60, "the policy in force")
        # tailscaled opens its peer API to peers even if the policy does not list its port.
        asked = _listening(box) | {22, SERVED, 443, PANEL, 9090, 13131, PROXY}
        assert _answering(other, ip, asked - {_peer_api(other, ip)}) == {SERVED, PANEL}


def _joined(box: Container, other: Peer) -> str:
    """Wait until the app is published and can be reached, and return the container's address in the tailnet."""
    box.settled()
    ip = box.address()
    other.wait_path(ip)
    wait_until(lambda: other.connects(ip, SERVED), 60, "serve")
    return ip


def _listening(box: Container) -> set[int]:
    """Return all TCP ports with a listener inside, at any address."""
    lines = box.execute("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.splitlines()
    rows = [words for words in map(str.split, lines) if len(words) > 3 and words[3] == LISTENING]
    return {int(words[1].rpartition(":")[2], 16) for words in rows}


def _peer_api(other: Peer, ip: str) -> int:
    """Return the port of the container's peer API."""
    (told,) = [node for node in other.peers().values() if ip in node["TailscaleIPs"]]
    return int(next(url for url in told["PeerAPIURL"] if ip in url).rpartition(":")[2])


def _answering(other: Peer, ip: str, ports: Iterable[int]) -> set[int]:
    """Return the ports that accept a connection through the tailnet."""
    asked = sorted(ports)
    with ThreadPoolExecutor(8) as pool:
        taken = pool.map(lambda port: other.connects(ip, port), asked)
        return {port for port, took in zip(asked, taken, strict=True) if took}
