"""Looks at the way out: names, the control server, relays by UDP and TCP, and TLS. Blocking, each with its deadline."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import select
import socket
import ssl
import struct
import threading
import time
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.tailnet.wire import DerpMap, DerpNode

CONNECT_S = 3.0
STUN_S = 1.5
_HTTPS = 443
_HTTP = 80
_NO_CONTENT = 204
_SUCCESSES, _REDIRECTS = range(200, 300), range(300, 400)
# Answered by Tailscale's servers with 204 and nothing else, so that a captive portal shows.
_PORTAL_PATH = "/generate_204"
# linux/in.h; the socket module has no name for it.
_IP_MTU = 14
_IPV6_MTU = 24
# What is given out of IPv6 to the public (RFC 4291), without 6to4, which embeds any IPv4 address (RFC 3056); and NAT64,
# which embeds them too (RFC 6052), and is what names resolve to in a network of IPv6 alone.
_GLOBAL_V6, _6TO4 = ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("2002::/16")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# RFC 8489; Tailscale's servers answer a request alone that calls itself `tailnode` and ends with its fingerprint.
_STUN_PORT = 3478
_STUN_MAGIC = b"\x21\x12\xa4\x42"
_STUN_SOFTWARE = struct.pack("!HH8s", 0x8022, 8, b"tailnode")
_STUN_FINGERPRINT = 0x5354554E
_STUN_MAPPED = 0x0020

K = TypeVar("K")
T = TypeVar("T")


def in_parallel(work: Mapping[K, Callable[[], T]], deadline_s: float) -> dict[K, T]:
    """Do all of it at once, each in a thread; what is not done by then, or fails, is not in the answer."""
    done: dict[K, T] = {}

    def do(key: K, one: Callable[[], T]) -> None:
        with contextlib.suppress(Exception):
            done[key] = one()

    end_s = time.monotonic() + deadline_s
    threads = []
    for item in work.items():
        thread = threading.Thread(target=do, args=item, daemon=True)
        # At the container's limit of processes: the rest of the report says so.
        with contextlib.suppress(RuntimeError):
            thread.start()
            threads.append(thread)
    for thread in threads:
        thread.join(max(0.0, end_s - time.monotonic()))
    return dict(done)


class Resolved(NamedTuple):
    """The addresses of a name, or ``why`` there are none."""

    addresses: tuple[str, ...] = ()
    why: str = ""


def resolve(host: str) -> Resolved:
    """Look a name up, as every program here does."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Resolved(why=getattr(error, "strerror", None) or str(error))
    return Resolved(tuple(dict.fromkeys(str(each[4][0]) for each in found)))


class ControlSeen(NamedTuple):
    """How the control server is reached. What is not known is empty or None.

    ``why`` says why there was no answer, ``untrusted`` why its certificate is not accepted, and ``portal`` who answered
    in its place. ``skew_s`` is how far this clock is ahead of the server's.
    """

    names: Resolved = Resolved()
    why: str = ""
    untrusted: str = ""
    portal: str = ""
    skew_s: float | None = None
    mtu: int | None = None


def look_at_control(url: str) -> ControlSeen:
    """Ask the control server for nothing much, as tailscaled would reach it without a proxy."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    names = resolve(host)
    if names.why:
        return ControlSeen(names)
    mtu = route_mtu(names.addresses[0])
    plain = _get(http.client.HTTPConnection(host, (parts.port if not secure else None) or _HTTP, timeout=CONNECT_S))
    seen = ControlSeen(names, plain.why, portal=plain.portal, skew_s=plain.skew_s, mtu=mtu)
    if not secure:
        return seen
    context = ssl.create_default_context()
    told = _get(http.client.HTTPSConnection(host, parts.port or _HTTPS, timeout=CONNECT_S, context=context))
    skew_s = told.skew_s if told.skew_s is not None else plain.skew_s
    return seen._replace(why=told.why, untrusted=told.untrusted, skew_s=skew_s)


class _Told(NamedTuple):
    why: str = ""
    untrusted: str = ""
    portal: str = ""
    skew_s: float | None = None


def _get(connection: http.client.HTTPConnection) -> _Told:
    try:
        connection.request("GET", _PORTAL_PATH, headers={"Connection": "close"})
        begun = datetime.now(UTC)
        answer = connection.getresponse()
        ended = datetime.now(UTC)
        location = answer.headers.get("Location", "")
    except ssl.SSLCertVerificationError as error:
        return _Told(untrusted=error.verify_message)
    except (OSError, http.client.HTTPException) as error:
        return _Told(why=_reason(error))
    finally:
        connection.close()
    there = urlsplit(location).hostname
    elsewhere = answer.status in _REDIRECTS and there not in {None, connection.host}
    filled = answer.status in _SUCCESSES and answer.status != _NO_CONTENT
    portal = str(there) if elsewhere else f"a page with status {answer.status}" if filled else ""
    return _Told(portal=portal, skew_s=_skew_s(answer.headers.get("Date", ""), begun, ended))


def _skew_s(date: str, begun: datetime, ended: datetime) -> float | None:
    try:
        there = parsedate_to_datetime(date)
    except ValueError:
        return None
    # The header has whole seconds: half of one is the best guess.
    return (begun + (ended - begun) / 2 - there).total_seconds() - 0.5


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def route_mtu(address: str) -> int | None:
    """Return the largest packet that the way to an address takes, as far as the kernel knows; nothing is sent."""
    is_v6 = ":" in address
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if is_v6 else (socket.IPPROTO_IP, _IP_MTU)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _HTTPS))
            return probe.getsockopt(level, option)
    except OSError:
        return None


class UdpSeen(NamedTuple):
    """What came back by UDP: the time to each region's relay in seconds, and how many were asked.

    ``mapped`` are the ports that this socket had in the eyes of the relays: more than one where a hard NAT is between.
    """

    asked: int = 0
    latencies_s: Mapping[str, float] = {}
    mapped: frozenset[int] = frozenset()


def ask_by_udp(relays: DerpMap) -> UdpSeen:
    """Send a STUN request to one relay of each region, and take the answers for a moment."""
    targets = {}
    for region in (relays.regions or {}).values():
        node = next((each for each in region.nodes or () if each.stun_port >= 0 and _stun_address(each)), None)
        if node is not None:
            targets[region.code] = (_stun_address(node), node.stun_port or _STUN_PORT)
    waiting: dict[bytes, tuple[str, float]] = {}
    latencies_s: dict[str, float] = {}
    mapped = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for code, target in targets.items():
            number = os.urandom(12)
            with contextlib.suppress(OSError):
                sock.sendto(stun_request(number), target)
                waiting[number] = (code, time.monotonic())
        end_s = time.monotonic() + STUN_S
        while waiting and (left_s := end_s - time.monotonic()) > 0:
            if not select.select([sock], [], [], left_s)[0]:
                break
            with contextlib.suppress(OSError):
                answer = sock.recv(2048)
                code, sent_s = waiting.pop(answer[8:20], ("", 0.0))
                if code:
                    latencies_s[code] = time.monotonic() - sent_s
                    mapped.add(mapped_port(answer) or 0)
    return UdpSeen(len(targets), latencies_s, frozenset(mapped - {0}))


def _stun_address(node: DerpNode) -> str:
    return node.test_ip or node.ipv4


def stun_request(number: bytes) -> bytes:
    """Return a binding request with this transaction number, of 12 bytes."""
    head = struct.pack("!HH", 0x0001, len(_STUN_SOFTWARE) + 8) + _STUN_MAGIC + number
    body = head + _STUN_SOFTWARE
    return body + struct.pack("!HHI", 0x8028, 4, zlib.crc32(body) ^ _STUN_FINGERPRINT)


def mapped_port(answer: bytes) -> int | None:
    """Return the port that a STUN answer says the request came from."""
    at = 20
    while at + 8 <= len(answer):
        kind, length = struct.unpack_from("!HH", answer, at)
        if kind == _STUN_MAPPED:
            port: int = struct.unpack_from("!H", answer, at + 6)[0]
            return port ^ int.from_bytes(_STUN_MAGIC[:2], "big")
        at += 4 + (length + 3) // 4 * 4
    return None


def connect_s(host: str, port: int) -> float:
    """Return how long a TCP connection takes. Raises OSError."""
    begun_s = time.monotonic()
    with socket.create_connection((host, port), timeout=CONNECT_S):
        return time.monotonic() - begun_s


class TlsSeen(NamedTuple):
    """How a host is reached by TLS on port 443: ``why`` not, ``untrusted``: why its certificate is not accepted.

    ``private`` says that its addresses are none of the public internet, and that it was left alone for that.
    """

    why: str = ""
    untrusted: str = ""
    private: bool = False


def shake_hands(host: str) -> TlsSeen:
    """Make a TLS handshake with a public host and no request; anything but a public address is left alone."""
    names = resolve(host)
    if names.why:
        return TlsSeen(f"its name is not found: {names.why.lower()}")
    public = [each for each in names.addresses if is_public(each)]
    if not public:
        return TlsSeen(private=True)
    context = ssl.create_default_context()
    why = ""
    for address in public[:2]:
        try:
            with (
                socket.create_connection((address, _HTTPS), timeout=CONNECT_S) as plain,
                context.wrap_socket(plain, server_hostname=host),
            ):
                return TlsSeen()
        except ssl.SSLCertVerificationError as error:
            return TlsSeen(untrusted=error.verify_message)
        except OSError as error:
            why = _reason(error)
    return TlsSeen(why)


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public internet; one that embeds another is what it embeds."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
        if found not in _GLOBAL_V6 or found in _6TO4:
            return False
    return found.is_global and not found.is_multicast


def proxy_of(environ: Mapping[str, Any], host: str) -> str:
    """Return the setting by which a proxy stands between here and a host; nothing where none does."""
    left_out: Iterable[str] = (environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(",")
    if any(part.strip() and host.endswith(part.strip().lstrip(".*")) for part in left_out):
        return ""
    return next((name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if environ.get(name)), "")
