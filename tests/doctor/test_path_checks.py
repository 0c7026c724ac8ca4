"""The checks of the network path, with real faults, in network namespaces or on loopback."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.doctor.network_probes import (
    ask_by_udp,
    is_public,
    look_at_control,
    mapped_port,
    proxy_of,
    stun_request,
)
from supervisor.tailnet.wire import DerpMap, DerpNode, DerpRegion
from tests.doctor.asking import NEEDS_ROOT, doctor, environment
from tests.support.clock import WALL_CLOCK_ALONE
from tests.support.control import controlling
from tests.tailnet.node import at

if TYPE_CHECKING:
    from collections.abc import Iterator

ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
NETWORK = "ip link add d0 type veth peer name d1 && ip addr add 192.0.2.2/24 dev d0 && ip link set d1 up"
NARROW = ("unshare", "--net", "sh", "-c", f'{NETWORK} && ip link set d0 mtu 1000 up && exec "$@"', "sh")


# Two hosts at a bridge of which one port takes 1200 bytes, and silently drops larger packets; the second host
# answers HTTP, HTTPS and STUN. Packets leave singly, not in bundles, which a bridge would let through.
HOLE_NETWORK = """
set -e
mount -t tmpfs none /run
ip link set lo up
ip link add name lan type bridge
for at in 1 2; do
  ip netns add host$at
  ip link add name port$at type veth peer name eth0 netns host$at
  ip link set port$at master lan up
  ip -n host$at link set lo up
  ip -n host$at link set eth0 gso_max_segs 1 up
  ip -n host$at addr add 192.0.2.$at/24 dev eth0
done
ip link set port2 mtu 1200
ip link set lan up
ip netns exec host2 {python} {server} "$1" "$2" >/run/said & server=$!
until grep -qs ready /run/said; do sleep 0.05; done
shift 2
set +e; ip netns exec host1 "$@"; code=$?; kill $server; exit $code
"""
LARGE_SERVER = Path(__file__).with_name("large_server.py")
HOLE = (
    *("unshare", "--net", "--mount", "sh", "-c"),
    *(HOLE_NETWORK.format(python=sys.executable, server=LARGE_SERVER), "sh"),
)


class _Portal(http.server.BaseHTTPRequestHandler):
    """Redirects every request to its own page."""

    def do_GET(self) -> None:
        """Send the response."""
        self.send_response(302)
        self.send_header("Location", "http://portal.example/sign-in")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        """Log nothing."""


@contextlib.contextmanager
def portal(certificate: tuple[str, str] | None = None) -> Iterator[str]:
    """Serve on loopback for the length of a block; yield the URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Portal)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """Create a self-signed certificate; return its file and the key's."""
    files = str(folder / "certificate.pem"), str(folder / "key.pem")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    made = [*words, "-addext", f"subjectAltName=DNS:{name}", "-out", files[0], "-keyout", files[1]]
    subprocess.run(made, check=True, capture_output=True)
    return files


def tailnet(folder: Path, url: str = "", **more: str) -> dict[str, str]:
    """Return settings for a device that logs in at a control server."""
    led = {"TS_EXTRA_ARGS": f"--login-server={url}"} if url else {}
    return environment(folder, SUPERVISOR_TAILSCALE="embedded", TS_STATE_DIR=str(folder / "state"), **led, **more)


@NEEDS_ROOT
def test_names_that_are_not_found(tmp_path: Path) -> None:
    """A container that cannot reach its DNS server has this problem."""
    report = doctor(tailnet(tmp_path), prefix=ALONE)
    assert "controlplane.tailscale.com" in report.problem("dns")


def test_a_control_server_that_does_not_answer(tmp_path: Path) -> None:
    """The connection is refused; with a proxy, which tailscaled would use, that is not a problem."""
    url = "http://127.0.0.1:1"
    report = doctor(tailnet(tmp_path, url))
    assert "refused" in report.problem("control")
    assert (report.level("mtu"), "unknown, as nobody answers" in report.of("mtu")[0]["found"]) == ("note", True)
    beside = doctor(tailnet(tmp_path, url, HTTPS_PROXY="http://127.0.0.1:2"))
    assert beside.level("control") == "note"
    assert "HTTPS_PROXY" in beside.of("control")[0]["found"]


def test_a_captive_portal(tmp_path: Path) -> None:
    """Another server answers, and redirects to its own page."""
    with portal() as url:
        assert "portal.example" in doctor(tailnet(tmp_path, url)).problem("captive-portal")


def test_tls_that_is_intercepted(tmp_path: Path) -> None:
    """A certificate that no authority of this machine has signed is a problem."""
    with portal(certificate(tmp_path, "127.0.0.1")) as url:
        assert "self-signed" in doctor(tailnet(tmp_path, url)).problem("tls").replace("self signed", "self-signed")


@pytest.mark.skipif(shutil.which("faketime") is None, reason="takes faketime")
def test_a_clock_that_is_wrong(tmp_path: Path) -> None:
    """A clock that is an hour ahead of the control server's is a problem."""
    with controlling() as control:
        env = {**tailnet(tmp_path), **at(control), **WALL_CLOCK_ALONE}
        assert "ahead" in doctor(env, prefix=("faketime", "-f", "+1h")).problem("clock")
        assert doctor(env).level("clock") == "ok"


@NEEDS_ROOT
def test_packets_that_are_too_large(tmp_path: Path) -> None:
    """A network with an MTU of 1000 is a problem."""
    report = doctor(tailnet(tmp_path, "http://192.0.2.1"), prefix=NARROW)
    assert "1000" in report.problem("mtu")
    assert "no answer" in report.problem("control")


@NEEDS_ROOT
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_large_packets_that_vanish(tmp_path: Path, scheme: str) -> None:
    """A bridge silently drops packets too large for its port: the size that passes is found by trying."""
    url = f"{scheme}://192.0.2.2"
    report = doctor(tailnet(tmp_path, url), prefix=(*HOLE, *certificate(tmp_path, "192.0.2.2")))
    assert "packets of more than 1200 bytes vanish" in report.problem("mtu")


@NEEDS_ROOT
def test_large_packets_that_vanish_by_udp(tmp_path: Path) -> None:
    """Small packets are answered; if a relay answers none, nothing is concluded."""
    code = (
        "from supervisor.doctor.mtu_probe import large_by_udp\n"
        "print([large_by_udp('192.0.2.2', port).passes for port in (3478, 3479)])"
    )
    words = [*HOLE, *certificate(tmp_path, "192.0.2.2"), sys.executable, "-I", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[False, None]\n"


def test_without_a_tailnet_nobody_is_asked(tmp_path: Path) -> None:
    """Without a tailnet there are no such checks."""
    report = doctor(environment(tmp_path))
    assert not [name for name in ("dns", "control", "udp", "relay", "mtu") if report.of(name)]


@pytest.mark.parametrize(("zone", "is_time"), [("-0000", True), ("+99999999999999999999", False)])
def test_an_odd_answer_is_one_all_the_same(zone: str, *, is_time: bool) -> None:
    """A date with an odd zone, or a redirect to an invalid address, still counts as an answer."""
    date = f"Thu, 01 Jan 2026 00:00:00 {zone}"
    odd = f"HTTP/1.1 302 Found\r\nDate: {date}\r\nLocation: http://[\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(odd)

        thread = threading.Thread(target=answer)
        thread.start()
        seen = look_at_control(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert seen.portal == "something with an invalid address"
    assert (seen.skew_s is not None) is is_time


def test_relays_are_asked_at_their_address_or_by_their_name() -> None:
    """A relay without an address is found by its name, as headscale's may be; an invalid address counts as none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            for _ in range(2):
                request, source = server.recvfrom(2048)
                server.sendto(b"\x01\x01\0\0" + request[4:20], source)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        nodes = [("by-name", ""), ("by-address", "127.0.0.1"), ("no-address", "none")]
        regions = {code: DerpRegion(code, code, (DerpNode("localhost", address, port),)) for code, address in nodes}
        seen = ask_by_udp(DerpMap(regions))
        thread.join()
    assert seen.asked == 2
    assert set(seen.latencies_s) == {"by-name", "by-address"}


def test_public_addresses() -> None:
    """Only addresses of the internet are public, whatever a name resolves to."""
    private = (
        "127.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "::ffff:100.100.100.200",
        "64:ff9b::10.0.0.1",
        "64:ff9b::100.100.100.200",
        "64:ff9b:1::1.1.1.1",
        "2002:7f00:1::1",
        "2001::1",
        "fec0::1",
        "ff02::1",
        "224.0.0.1",
        "::1.2.3.4",
        "",
        "no address",
    )
    public = ("1.1.1.1", "2606:4700::1111", "64:ff9b::1.1.1.1")
    assert not [each for each in private if is_public(each)]
    assert all(map(is_public, public))


def test_proxies() -> None:
    """The setting that names the proxy is found, and excluded hosts have none."""
    env = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "localhost, .example.com"}
    assert proxy_of(env, "controlplane.tailscale.com") == "HTTPS_PROXY"
    assert proxy_of(env, "control.example.com") == ""
    assert proxy_of({}, "controlplane.tailscale.com") == ""


def test_answers_that_are_none() -> None:
    """No port is read from an invalid response."""
    assert [mapped_port(data) for data in (b"", b"\0" * 19, b"\1\1\0\4" + b"\0" * 16 + b"\0\x20\0\x08")] == [None] * 3
    assert len(stun_request(b"\0" * 12)) == 40
