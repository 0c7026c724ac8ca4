"""Checks the outbound network: DNS, the control server, clock skew, UDP, relays, the visitor's path, and the MTU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from supervisor.doctor import network_probes as probes
from supervisor.doctor.facts import home_relay
from supervisor.doctor.finding import Check
from supervisor.doctor.mtu_probe import large_by_udp, look_for_hole
from supervisor.doctor.subject import NetworkSeen
from supervisor.tailnet.preferences import DEFAULT_CONTROL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.doctor.finding import Diagnosis
    from supervisor.doctor.network_probes import ControlSeen, UdpSeen
    from supervisor.doctor.subject import Subject
    from supervisor.tailnet.wire import DerpNode

_PAGE = "how-to/find-what-is-wrong.md"
DNS = Check("tailnet", "dns", "the control server's name", "without DNS nothing outside can be found", _PAGE)
CONTROL = Check(
    "tailnet",
    "control",
    "a request to the control server (TS_EXTRA_ARGS --login-server, or Tailscale's own)",
    "without it no device can log in, and a logged-in one learns of no changes",
    _PAGE,
)
INTERCEPTED = Check(
    "tailnet",
    "tls",
    "the certificate of the control server",
    "something on the path that decrypts TLS keeps tailscaled from the control server, or reads its traffic",
    _PAGE,
)
PORTAL = Check(
    "tailnet",
    "captive-portal",
    "who answers plain HTTP in the control server's place",
    "a network with a sign-in page blocks everything else until somebody signs in",
    _PAGE,
)
CLOCK = Check(
    "machine",
    "clock",
    "this clock, compared with the control server's",
    "with a wrong clock, certificates and signed requests to a bucket are rejected, and expiry times are wrong",
    _PAGE,
)
UDP = Check(
    "tailnet",
    "udp",
    "answers by UDP from the tailnet's relays (STUN)",
    "without UDP every connection goes through a relay, which is slower",
    "explanation/userspace-networking.md",
)
RELAY = Check(
    "tailnet",
    "relay",
    "this device's relay (DERP), and its latency",
    "peers without a direct path use it, and so does the first packet of every peer",
    _PAGE,
)
VISITOR = Check(
    "tailnet",
    "your-path",
    "the path between this device and the one that requests this report",
    "a relayed path is slower; the finding says on which side UDP is blocked",
    "explanation/userspace-networking.md",
)
MTU = Check(
    "tailnet",
    "mtu",
    "the outgoing MTU: what the kernel knows, and whether large packets are answered by TCP and UDP",
    "Tailscale's packets have up to 1,360 bytes with headers: with a smaller MTU large ones vanish, small ones pass",
    _PAGE,
)
CHECKS = (DNS, CONTROL, INTERCEPTED, PORTAL, UDP, RELAY, VISITOR, MTU, CLOCK)
_DEADLINE_S = 7.0
_MOST_SKEW_S = 60.0
# Tailscale's own MTU of 1280, and the overhead of WireGuard, UDP and IPv6.
_LEAST_MTU = 1360
_NO_ANSWER = "tailscaled has reported no relays"


def look(subject: Subject) -> NetworkSeen:
    """Run all probes concurrently; it takes some seconds if there are no answers."""
    work: dict[str, Callable[[], Any]] = {}
    if subject.plan.settings.tailnet.mode != "off":
        work["control"] = partial(probes.look_at_control, control_url(subject))
        work["large"] = partial(look_for_hole, control_url(subject))
    relays, node = subject.tailnet.relays, _relay_node(subject)
    if relays is not None:
        work["udp"] = partial(probes.ask_by_udp, relays)
    if node is not None and node.stun_port >= 0 and probes.stun_address(node):
        work["large_by_udp"] = partial(large_by_udp, probes.stun_address(node), node.stun_port or probes.STUN_PORT)
    if node is not None:
        work["relay_s"] = partial(probes.connect_s, probes.stun_address(node) or node.host_name, node.derp_port or 443)
    hosts: dict[str, Callable[[], Any]] = {
        f"host {host}": partial(probes.shake_hands, host) for host in set(subject.app.hosts.values())
    }
    seen: dict[str, Any] = probes.in_parallel({**work, **hosts}, _DEADLINE_S)
    providers = {key.removeprefix("host "): seen.pop(key) for key in hosts if key in seen}
    return NetworkSeen(**seen, providers=providers)


def control_url(subject: Subject) -> str:
    """Return the control server's URL."""
    return subject.plan.settings.tailnet.prefs.login_server or DEFAULT_CONTROL


def _relay_node(subject: Subject) -> DerpNode | None:
    relays, code = subject.tailnet.relays, home_relay(subject.tailnet)
    regions = (relays.regions or {}).values() if relays is not None else ()
    nodes = (node for region in regions if region.code == code for node in region.nodes or () if not node.stun_only)
    return next(nodes, None)


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield the findings about the outbound network; none without a tailnet."""
    if subject.plan.settings.tailnet.mode == "off":
        return
    seen = subject.network
    yield from _control(subject, seen.control)
    if seen.control is not None:
        yield from _clock(seen.control)
        yield from _mtu(seen)
    yield _udp(seen.udp)
    yield from _relay(subject, seen)
    yield from _visitor(subject)


def _control(subject: Subject, seen: ControlSeen | None) -> Iterator[Diagnosis]:
    host = urlsplit(control_url(subject)).hostname or ""
    proxy = probes.proxy_of(subject.environ, host)
    if seen is None:
        yield CONTROL.problem(f"{host}: no answer in time", "check the container's internet access")
        return
    if seen.names.why:
        yield DNS.problem(f"{host}: {seen.names.why}", "check the container's DNS servers (/etc/resolv.conf)")
        return
    yield DNS.ok(f"{host} resolves")
    if seen.portal:
        yield PORTAL.problem(f"{seen.portal} answers", "sign in to that network, or use another one")
    elif not seen.why:
        yield PORTAL.ok("nobody")
    if seen.untrusted:
        yield INTERCEPTED.problem(
            f"{host}: {seen.untrusted}",
            "exempt that host from TLS inspection, or install its authority in the image (SSL_CERT_FILE)",
        )
    elif seen.why and proxy:
        told = f"{host}: {seen.why} without the proxy that {proxy} names, which tailscaled uses"
        yield CONTROL.note(told, "nothing, as long as the proxy lets tailscaled through")
    elif seen.why:
        yield CONTROL.problem(f"{host}: {seen.why}", "allow outgoing connections to it on port 443")
    else:
        yield CONTROL.ok(f"{host} answers")


def _clock(seen: ControlSeen) -> Iterator[Diagnosis]:
    if seen.skew_s is None or seen.portal:
        return
    if abs(seen.skew_s) < _MOST_SKEW_S:
        yield CLOCK.ok("they agree within a minute")
        return
    word = "ahead" if seen.skew_s > 0 else "behind"
    yield CLOCK.problem(f"it is {abs(seen.skew_s):.0f} s {word}", "set the host's clock (NTP)")


def _mtu(seen: NetworkSeen) -> Iterator[Diagnosis]:
    mtu = seen.control.mtu if seen.control is not None else None
    if mtu is None:
        return
    if mtu < _LEAST_MTU:
        yield MTU.problem(f"{mtu} bytes", f"raise the network's MTU to {_LEAST_MTU} or more")
    elif seen.large.passes is False:
        yield MTU.problem(
            f"packets of more than {seen.large.most} bytes vanish on the way to the control server; small ones pass",
            f"let ICMP (*fragmentation needed*) through, or set the container network's MTU to {seen.large.most}",
        )
    elif seen.large_by_udp.passes is False:
        yield MTU.problem(
            f"packets of {_LEAST_MTU} bytes vanish by UDP on the way to the relay; small ones pass",
            "let them through: a tunnel or a firewall on the way is too narrow for them",
        )
    elif seen.large.passes or seen.large_by_udp.passes:
        yield MTU.ok(f"{mtu} bytes, and large packets are answered")
    else:
        told = f"{mtu} bytes to the next hop; beyond it the MTU is unknown, as nobody answers"
        yield MTU.note(told, "check again once the control server or a relay answers")


def _udp(seen: UdpSeen | None) -> Diagnosis:
    if seen is None or not seen.asked:
        return UDP.note(_NO_ANSWER, "check again once the device has logged in")
    if not seen.latencies_s:
        return UDP.note(
            f"none of {seen.asked} regions answered: UDP is blocked",
            "allow outgoing UDP, above all to ports 3478 and 41641, if the platform permits it; relays work without",
        )
    near = sorted(seen.latencies_s.items(), key=lambda each: each[1])[:3]
    told = ", ".join(f"{code} in {_ms(latency_s)}" for code, latency_s in near)
    if len(seen.mapped) > 1:
        told = f"it works ({told}), through a hard NAT: each destination sees another port"
        return UDP.note(told, "nothing, unless peers are behind one too: these use a relay")
    return UDP.ok(f"it works: {told}")


def _relay(subject: Subject, seen: NetworkSeen) -> Iterator[Diagnosis]:
    code = home_relay(subject.tailnet)
    if not code:
        return
    by_udp = seen.udp.latencies_s.get(code) if seen.udp is not None else None
    if by_udp is not None:
        yield RELAY.ok(f"{code}, {_ms(by_udp)} away")
    elif seen.relay_s is not None:
        yield RELAY.ok(f"{code}, {_ms(seen.relay_s)} away by TCP")
    else:
        yield RELAY.problem(f"{code} does not answer", "allow outgoing connections to port 443")


def _visitor(subject: Subject) -> Iterator[Diagnosis]:
    visitor, ping = subject.tailnet.visitor, subject.tailnet.ping
    if visitor is None:
        return
    name = visitor.name.partition(".")[0]
    if ping is None or ping.error:
        told = f"{name} does not answer a ping: {'' if ping is None else ping.error}".rstrip(": ")
        yield VISITOR.note(told, "check whether the tailnet's policy allows this device to reach that one")
    elif ping.endpoint:
        yield VISITOR.ok(f"direct to {name}, {_ms(ping.latency_s)} away")
    else:
        why, what_to_do = _why_relayed(subject)
        yield VISITOR.note(f"over the relay {ping.region} to {name}, {_ms(ping.latency_s)} away: {why}", what_to_do)


def _why_relayed(subject: Subject) -> tuple[str, str]:
    """Return why the path is relayed, and what to do."""
    udp = subject.network.udp
    if udp is not None and udp.asked and not udp.latencies_s:
        return "UDP is blocked here", "allow outgoing UDP for this container, if the platform permits it"
    if udp is not None and len(udp.mapped) > 1:
        return "this side has a hard NAT", "allow UDP in the other side's network, or accept the relay"
    why = "UDP works here, so it is blocked on the other side, or the two have only just connected"
    return why, "check again in a minute; if it persists, allow UDP in the other side's network"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
