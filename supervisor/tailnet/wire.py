"""The parts of tailscaled's responses that are used here; others are ignored.

Types are those of tailscaled 1.102: tailscale.com/ipn/ipnstate, tailscale.com/ipn.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.core.tailnet import Backend

Json = dict[str, Any]


class Node(msgspec.Struct):
    """A device in `status`, this one or a peer (ipnstate.PeerStatus)."""

    public_key: str = msgspec.field(default="", name="PublicKey")
    dns_name: str = msgspec.field(default="", name="DNSName")
    host_name: str = msgspec.field(default="", name="HostName")
    ips: tuple[str, ...] | None = msgspec.field(default=None, name="TailscaleIPs")
    online: bool = msgspec.field(default=False, name="Online")
    expired: bool = msgspec.field(default=False, name="Expired")
    key_expiry: str | None = msgspec.field(default=None, name="KeyExpiry")
    tags: tuple[str, ...] | None = msgspec.field(default=None, name="Tags")
    user_id: int = msgspec.field(default=0, name="UserID")
    direct: str = msgspec.field(default="", name="CurAddr")
    relay: str = msgspec.field(default="", name="Relay")
    endpoints: tuple[str, ...] | None = msgspec.field(default=None, name="Addrs")
    last_seen: str = msgspec.field(default="", name="LastSeen")
    peer_api_urls: tuple[str, ...] | None = msgspec.field(default=None, name="PeerAPIURL")


class UserProfile(msgspec.Struct):
    """The owner of a device (tailcfg.UserProfile)."""

    login_name: str = msgspec.field(default="", name="LoginName")


class Tailnet(msgspec.Struct):
    """The tailnet of the device (ipnstate.TailnetStatus)."""

    name: str = msgspec.field(default="", name="Name")


class Status(msgspec.Struct):
    """The response to `GET status` (ipnstate.Status)."""

    version: str = msgspec.field(default="", name="Version")
    backend_state: str = msgspec.field(default=Backend.NO_STATE, name="BackendState")
    have_node_key: bool = msgspec.field(default=False, name="HaveNodeKey")
    auth_url: str = msgspec.field(default="", name="AuthURL")
    ips: tuple[str, ...] | None = msgspec.field(default=None, name="TailscaleIPs")
    node: Node | None = msgspec.field(default=None, name="Self")
    health: tuple[str, ...] | None = msgspec.field(default=None, name="Health")
    tailnet: Tailnet | None = msgspec.field(default=None, name="CurrentTailnet")
    cert_domains: tuple[str, ...] | None = msgspec.field(default=None, name="CertDomains")
    peers: dict[str, Node] | None = msgspec.field(default=None, name="Peer")
    users: dict[str, UserProfile] | None = msgspec.field(default=None, name="User")


class DerpNode(msgspec.Struct):
    """A relay server (tailcfg.DERPNode)."""

    host_name: str = msgspec.field(default="", name="HostName")
    ipv4: str = msgspec.field(default="", name="IPv4")
    stun_port: int = msgspec.field(default=0, name="STUNPort")
    stun_only: bool = msgspec.field(default=False, name="STUNOnly")
    derp_port: int = msgspec.field(default=0, name="DERPPort")
    test_ip: str = msgspec.field(default="", name="STUNTestIP")


class DerpRegion(msgspec.Struct):
    """A region of relay servers (tailcfg.DERPRegion)."""

    code: str = msgspec.field(default="", name="RegionCode")
    name: str = msgspec.field(default="", name="RegionName")
    nodes: tuple[DerpNode, ...] | None = msgspec.field(default=None, name="Nodes")


class DerpMap(msgspec.Struct):
    """All relays of the tailnet (tailcfg.DERPMap)."""

    regions: dict[str, DerpRegion] | None = msgspec.field(default=None, name="Regions")


class WhoisNode(msgspec.Struct):
    """The device at the other end of a connection (tailcfg.Node)."""

    name: str = msgspec.field(default="", name="Name")
    addresses: tuple[str, ...] | None = msgspec.field(default=None, name="Addresses")
    endpoints: tuple[str, ...] | None = msgspec.field(default=None, name="Endpoints")


class Whois(msgspec.Struct):
    """The response to `GET whois` (apitype.WhoIsResponse)."""

    node: WhoisNode | None = msgspec.field(default=None, name="Node")


class Ping(msgspec.Struct):
    """The response to `POST ping` (ipnstate.PingResult); ``endpoint`` is set if the path is direct."""

    error: str = msgspec.field(default="", name="Err")
    latency_s: float = msgspec.field(default=0.0, name="LatencySeconds")
    endpoint: str = msgspec.field(default="", name="Endpoint")
    region: str = msgspec.field(default="", name="DERPRegionCode")


class Something(msgspec.Struct):
    """An object that is only checked for presence; msgspec.Raw combined with None does not accept objects."""


class Notify(msgspec.Struct):
    """A frame of the IPN bus (ipn.Notify); most fields are usually absent."""

    error: str | None = msgspec.field(default=None, name="ErrMessage")
    state: int | None = msgspec.field(default=None, name="State")
    browse_to_url: str | None = msgspec.field(default=None, name="BrowseToURL")
    prefs: Something | None = msgspec.field(default=None, name="Prefs")
    login_finished: Something | None = msgspec.field(default=None, name="LoginFinished")
    self_change: Something | None = msgspec.field(default=None, name="SelfChange")
