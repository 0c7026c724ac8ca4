"""The parts of tailscaled's answers that are used here; whatever else is in them is ignored."""

from __future__ import annotations

import msgspec


class Node(msgspec.Struct):
    """This device, as `status` tells it (tailscale.com/ipn/ipnstate.PeerStatus)."""

    dns_name: str = msgspec.field(default="", name="DNSName")
    host_name: str = msgspec.field(default="", name="HostName")
    online: bool = msgspec.field(default=False, name="Online")
    expired: bool = msgspec.field(default=False, name="Expired")
    key_expiry: str | None = msgspec.field(default=None, name="KeyExpiry")
    tags: tuple[str, ...] | None = msgspec.field(default=None, name="Tags")


class Status(msgspec.Struct):
    """The answer to `GET status` (tailscale.com/ipn/ipnstate.Status)."""

    version: str = msgspec.field(default="", name="Version")
    backend_state: str = msgspec.field(default="NoState", name="BackendState")
    auth_url: str = msgspec.field(default="", name="AuthURL")
    ips: tuple[str, ...] | None = msgspec.field(default=None, name="TailscaleIPs")
    node: Node | None = msgspec.field(default=None, name="Self")
    health: tuple[str, ...] | None = msgspec.field(default=None, name="Health")
