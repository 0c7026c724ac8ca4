"""Finds a path that drops large packets silently: if its ICMP is lost too, the kernel does not know the limit.

None of this requires privileges. By TCP the largest segment can be chosen for each connection, in both directions: what
stalls with large segments and passes with small ones is a path that drops the large ones.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from supervisor.doctor.network_probes import PORTAL_PATH, in_parallel, resolve, stun_request
from supervisor.doctor.subject import LargeSeen

if TYPE_CHECKING:
    from collections.abc import Callable

# For each step of an exchange, in seconds; a second round follows a stall.
_STEP_S = 1.5
_ROUND_S = 4.0
# Several full packets on the way there; on the way back the server's certificates are.
_PADDING = "x" * 4000
_HEADERS = {socket.AF_INET: 40, socket.AF_INET6: 60}
# Sizes of packets to try after a stall: what every path takes, and what tunnels leave of 1500.
_SIZES = (576, 1000, 1200, 1280, 1320, 1360, 1380, 1400, 1420, 1440, 1460, 1480)
# The largest packet of Tailscale by IPv4, without the headers of IP and UDP; and one that passes everywhere.
_LARGE_BYTES, _SMALL_BYTES = 1360 - 28, 200
_UDP_S = 1.0
# From linux/in.h; the socket module does not define them. The packet has to go as it is, whatever the kernel knows.
_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3
_PASSED, _STALLED, _FAILED = "passed", "stalled", "failed"


def look_for_hole(url: str) -> LargeSeen:
    """Exchange large packets with a server by TCP; after a stall, find the size that passes."""
    parts = urlsplit(url)
    names = resolve(parts.hostname or "")
    if names.why:
        return LargeSeen()
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = names.addresses[0]

    def attempt(size: int) -> Callable[[], str]:
        return partial(_exchange, address, port, parts.hostname if secure else None, size)

    usual = attempt(0)
    first = usual()
    if first != _STALLED:
        return LargeSeen(True if first == _PASSED else None)
    seen = in_parallel({size: attempt(size) for size in (0, *_SIZES)}, _ROUND_S)
    passed = {size for size, how in seen.items() if how == _PASSED}
    most = max(passed, default=0)
    # A server that is merely slow or busy lets some through and some not, whatever their size.
    if not most or 0 in passed or passed != {size for size in _SIZES if size <= most}:
        return LargeSeen()
    return LargeSeen(False, most)


def _exchange(address: str, port: int, host: str | None, size: int) -> str:
    """Send a large request, by TLS if there is a ``host``, in packets of this size at most; 0 is the path's own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.settimeout(_STEP_S)
        try:
            if size:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, size - _HEADERS[family])
            plain.connect((address, port))
        except OSError:
            return _FAILED
        try:
            return _PASSED if _ask(plain, host) else _FAILED
        except TimeoutError:
            return _STALLED
        except OSError:
            return _FAILED


def _ask(plain: socket.socket, host: str | None) -> bool:
    request = f"GET {PORTAL_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Padding: {_PADDING}\r\n\r\n"
    if host is None:
        plain.sendall(request.encode())
        return bool(plain.recv(1))
    # No secret is sent, and another check verifies the certificate.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(plain, server_hostname=host) as secure:
        secure.sendall(request.encode())
        return bool(secure.recv(1))


def large_by_udp(address: str, port: int) -> LargeSeen:
    """Send a relay STUN requests as large as Tailscale's packets, and small ones; all answers are small."""
    waiting: dict[bytes, int] = {}
    answered: set[int] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        # Twice, since one of them may be lost.
        sizes = (_LARGE_BYTES, _SMALL_BYTES)
        for size in sizes * 2:
            number = os.urandom(12)
            waiting[number] = size
            sock.sendto(stun_request(number, size), (address, port))
        end_s = time.monotonic() + _UDP_S
        while len(answered) < len(sizes) and (left_s := end_s - time.monotonic()) > 0:
            if select.select([sock], [], [], left_s)[0]:
                answered.add(waiting.get(sock.recv(2048)[8:20], 0))
                answered.discard(0)
    if _LARGE_BYTES in answered:
        return LargeSeen(True)
    return LargeSeen(False if _SMALL_BYTES in answered else None)
