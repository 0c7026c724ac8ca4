"""Compares the name that control gave with the one that was asked for. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.tailnet.wire import Node

_FOREIGN = re.compile(r"[^a-z0-9-]+")
_LONGEST = 63


def label(dns_name: str) -> str:
    """Return the first part of a DNS name: the device's own."""
    return dns_name.partition(".")[0]


def wished(hostname: str) -> str:
    """Return what a host name becomes in a tailnet (tailscale.com/util/dnsname.SanitizeHostname)."""
    return _FOREIGN.sub("-", hostname.lower()).strip("-")[:_LONGEST].rstrip("-")


def is_suffixed(dns_name: str, hostname: str) -> bool:
    """Tell whether control put a number behind the name because another device has it: `moltis-1` for `moltis`."""
    plain = wished(hostname)
    return bool(plain) and re.fullmatch(re.escape(plain) + r"-[0-9]{1,4}", label(dns_name)) is not None


def holder(hostname: str, peers: Iterable[Node]) -> Node | None:
    """Return the device that has the plain name."""
    plain = wished(hostname)
    return next((peer for peer in peers if label(peer.dns_name) == plain), None)
