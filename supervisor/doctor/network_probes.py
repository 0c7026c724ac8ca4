"""Probes the outbound network: DNS, the control server, relays by UDP and TCP, and TLS. Blocking, with deadlines."""

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

from supervisor.config.parsers import is_ip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.tailnet.wire import DerpMap, DerpNode

CONNECT_S = 3.0
STUN_S = 1.5
_HTTPS = 443
_HTTP = 80
_NO_CONTENT = 204
_SUCCESSES, _REDIRECTS = range(200, 300), range(300, 400)
# Tailscale's servers answer it with an empty 204, so that a captive portal is detected.
PORTAL_PATH = "/generate_204"
# From linux/in.h; the socket module does not define it.
_IP_MTU = 14
_IPV6_MTU = 24
# The public range of IPv6 (RFC 4291), without 6to4, which embeds any IPv4 address (RFC 3056); and NAT64, which embeds
# them too (RFC 6052), and to which names resolve in an IPv6-only network.
_GLOBAL_V6, _6TO4 = ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("2002::/16")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# RFC 8489; Tailscale's servers answer only requests with the software `tailnode` and a fingerprint at the end.
STUN_PORT = 3478
_STUN_MAGIC = b"\x21\x12\xa4\x42"
_STUN_SOFTWARE = struct.pack("!HH8s", 0x8022, 8, b"tailnode")
_STUN_FINGERPRINT = 0x5354554E
_STUN_MAPPED = 0x0020
# RFC 5780; a server that does not know it answers all the same.
_STUN_PADDING = 0x0026

K = TypeVar("K")
T = TypeVar("T")


def in_parallel(work: Mapping[K, Callable[[], T]], deadline_s: float) -> dict[K, T]:
    """Run all tasks concurrently, each in a thread; those that fail or miss the deadline are not in the result."""
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
    """The addresses of a name, or ``why`` it was not resolved."""

    addresses: tuple[str, ...] = ()
    why: str = ""


def resolve(host: str) -> Resolved:
    """Resolve a name with the system's resolver."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Resolved(why=getattr(error, "strerror", None) or str(error))
    return Resolved(tuple(dict.fromkeys(str(each[4][0]) for each in found)))


class ControlSeen(NamedTuple):
    """How the control server is reached. Unknown values are empty or None.

    ``why`` is why there was no answer, ``untrusted`` why its certificate is not accepted, and ``portal`` who answered
    in its place. ``skew_s`` is how far this clock is ahead of the server's.
    """

    names: Resolved = Resolved()
    why: str = ""
    untrusted: str = ""
    portal: str = ""
    skew_s: float | None = None
    mtu: int | None = None


def look_at_control(url: str) -> ControlSeen:
    """Send a minimal request to the control server, directly, as tailscaled does without a proxy."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    names = resolve(host)
    if names.why:
        return ControlSeen(names)
    mtu = route_mtu(names.addresses[0])
    plain = _get(http.client.HTTPConnection(host, (parts.port if not secure else None) or _HTTP, timeout=CONNECT_S))
    seen = plain._replace(names=names, mtu=mtu)
    if not secure:
        return seen
    context = ssl.create_default_context()
    told = _get(http.client.HTTPSConnection(host, parts.port or _HTTPS, timeout=CONNECT_S, context=context))
    skew_s = told.skew_s if told.skew_s is not None else plain.skew_s
    return seen._replace(why=told.why, untrusted=told.untrusted, skew_s=skew_s)


def _get(connection: http.client.HTTPConnection) -> ControlSeen:
    try:
        connection.request("GET", PORTAL_PATH, headers={"Connection": "close"})
        begun = datetime.now(UTC)
        answer = connection.getresponse()
        ended = datetime.now(UTC)
        location = answer.headers.get("Location", "")
    except ssl.SSLCertVerificationError as error:
        return ControlSeen(untrusted=error.verify_message)
    except (OSError, http.client.HTTPException) as error:
        return ControlSeen(why=_reason(error))
    finally:
        connection.close()
    try:
        there = urlsplit(location).hostname
    except ValueError:
        there = "something with an invalid address"
    elsewhere = answer.status in _REDIRECTS and there not in {None, connection.host}
    filled = answer.status in _SUCCESSES and answer.status != _NO_CONTENT
    portal = str(there) if elsewhere else f"a page with status {answer.status}" if filled else ""
    return ControlSeen(portal=portal, skew_s=_skew_s(answer.headers.get("Date", ""), begun, ended))


def _skew_s(date: str, begun: datetime, ended: datetime) -> float | None:
    try:
        there = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if there.tzinfo is None:
        # A zone of -0000, or none at all: HTTP's dates are in UTC.
        there = there.replace(tzinfo=UTC)
    # The header has whole seconds: adding half a second is the best estimate.
    return (begun + (ended - begun) / 2 - there).total_seconds() - 0.5


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def route_mtu(address: str) -> int | None:
    """Return the path MTU to an address in bytes, as far as the kernel knows; no packet is sent."""
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
    """The result over UDP: the round-trip time to each region's relay in seconds, and the number of relays asked.

    ``mapped`` are the source ports that the relays saw for this socket: more than one behind a hard NAT.
    """

    asked: int = 0
    latencies_s: Mapping[str, float] = {}
    mapped: frozenset[int] = frozenset()


def ask_by_udp(relays: DerpMap) -> UdpSeen:
    """Send a STUN request to one relay of each region, and collect the answers for a short time."""
    targets = {}
    for region in (relays.regions or {}).values():
        node = next((each for each in region.nodes or () if each.stun_port >= 0 and stun_address(each)), None)
        if node is not None:
            targets[region.code] = (stun_address(node), node.stun_port or STUN_PORT)
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


def stun_address(node: DerpNode) -> str:
    """Return a relay's IPv4 address or name for STUN; empty if it has none.

    An ``ipv4`` of another form, such as `none`, says that IPv4 is not used (tailcfg.DERPNode).
    """
    if node.test_ip or not node.ipv4:
        return node.test_ip or node.host_name
    return node.ipv4 if is_ip(node.ipv4) else ""


def stun_request(number: bytes, size_bytes: int = 0) -> bytes:
    """Return a binding request with this transaction id of 12 bytes, padded to a size (a multiple of 4)."""
    room = size_bytes - 20 - len(_STUN_SOFTWARE) - 8 - 4
    padding = struct.pack("!HH", _STUN_PADDING, room) + bytes(room) if room > 0 else b""
    head = struct.pack("!HH", 0x0001, len(_STUN_SOFTWARE) + len(padding) + 8) + _STUN_MAGIC + number
    body = head + _STUN_SOFTWARE + padding
    return body + struct.pack("!HHI", 0x8028, 4, zlib.crc32(body) ^ _STUN_FINGERPRINT)


def mapped_port(answer: bytes) -> int | None:
    """Return the source port that a STUN response reports."""
    at = 20
    while at + 8 <= len(answer):
        kind, length = struct.unpack_from("!HH", answer, at)
        if kind == _STUN_MAPPED:
            port: int = struct.unpack_from("!H", answer, at + 6)[0]
            return port ^ int.from_bytes(_STUN_MAGIC[:2], "big")
        at += 4 + (length + 3) // 4 * 4
    return None


def connect_s(host: str, port: int) -> float:
    """Return how long a TCP connection takes to open, in seconds. Raises OSError."""
    begun_s = time.monotonic()
    with socket.create_connection((host, port), timeout=CONNECT_S):
        return time.monotonic() - begun_s


class TlsSeen(NamedTuple):
    """How a host is reached by TLS on port 443: ``why`` it is not, ``untrusted``: why its certificate is not accepted.

    ``private`` is true if it has no public address, and therefore was not contacted.
    """

    why: str = ""
    untrusted: str = ""
    private: bool = False


def shake_hands(host: str) -> TlsSeen:
    """Make a TLS handshake with a public host, without a request; other addresses are not contacted."""
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
    """Return whether an address is public; one that embeds another counts as the embedded one."""
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
    """Return the name of the setting that puts a proxy before a host; empty if there is none."""
    left_out: Iterable[str] = (environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(",")
    if any(part.strip() and host.endswith(part.strip().lstrip(".*")) for part in left_out):
        return ""
    return next((name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if environ.get(name)), "")
