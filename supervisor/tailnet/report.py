"""Makes what every reader gets of the tailnet out of tailscaled's account and what the link knows. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.snapshot import PeerView, ServeView, TailnetView
from supervisor.tailnet.course import CONNECTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.core.counts import Counts
    from supervisor.secret import Secret
    from supervisor.tailnet.states import Meaning
    from supervisor.tailnet.wire import Node, Status

EXPIRY_NOTE = timedelta(days=28)
EXPIRY_WARNING = timedelta(days=7)
NEW_DEVICE = (
    "TS_STATE_DIR held no record of an earlier start: this is a new device, or the folder was lost; where it is not a "
    "volume, a choice to stay disconnected is lost with the container"
)
_NEVER = "0001-01-01"


class Extra(NamedTuple):
    """What the link knows beside tailscaled's account."""

    choice: str = CONNECTED
    last_error: str = ""
    last_error_s: float | None = None
    login_url: Secret | None = None
    routes: tuple[str, ...] = ()
    peers: tuple[PeerView, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    before_disconnect: str = ""
    serve: ServeView = ServeView()
    logins: Counts = ()


def view(meaning: Meaning, status: Status | None, extra: Extra, before: TailnetView, now_s: float) -> TailnetView:
    """Return the next view: since when counts from a change of state, away from the last time it was up."""
    away_since_s = before.away_since_s if before.away_since_s is not None else now_s
    url_since_s = before.auth_url_since_s if extra.login_url is before.auth_url else now_s
    base = before._replace(
        state=meaning.state,
        since_s=before.since_s if before.state == meaning.state else now_s,
        up=meaning.up,
        why=meaning.why,
        what_to_do=meaning.what_to_do,
        by_owner=meaning.by_owner,
        away_since_s=None if meaning.up else away_since_s,
        choice=extra.choice,
        last_error=extra.last_error,
        last_error_s=extra.last_error_s,
        auth_url=extra.login_url,
        auth_url_since_s=url_since_s if extra.login_url is not None else None,
        routes=extra.routes,
        peers=extra.peers,
        warnings=extra.warnings,
        notes=extra.notes,
        before_disconnect=extra.before_disconnect,
        serve=extra.serve,
        control=False,
        first_up_s=now_s if meaning.up and before.first_up_s is None else before.first_up_s,
        logins=extra.logins,
    )
    return _with_device(base, status) if status is not None else base


def _with_device(base: TailnetView, status: Status) -> TailnetView:
    node = status.node
    known = node is not None and status.have_node_key and status.backend_state != "NeedsLogin"
    user = (status.users or {}).get(str(node.user_id)) if node is not None else None
    return base._replace(
        version=status.version.partition("-")[0],
        hostname=node.dns_name.rstrip(".") if node is not None and known else "",
        addresses=status.ips or () if known else (),
        tailnet=status.tailnet.name if status.tailnet is not None and known else "",
        login_name=user.login_name if user is not None and known else "",
        tags=(node.tags or ()) if node is not None and known else (),
        key_expiry=(node.key_expiry or "") if node is not None and known else "",
        health=tuple(sorted(status.health or ())),
        control=node is not None and node.online,
        peer_api_ports=_ports(node.peer_api_urls or ()) if node is not None else (),
    )


def _ports(urls: Iterable[str]) -> tuple[int, ...]:
    ports = {url.rpartition(":")[2] for url in urls}
    return tuple(sorted(int(port) for port in ports if port.isdecimal()))


def peers_of(status: Status) -> tuple[PeerView, ...]:
    """Return the other devices, the online ones first."""
    found = [_peer(node) for node in (status.peers or {}).values()]
    return tuple(sorted(found, key=lambda peer: (not peer.online, peer.name)))


def _peer(node: Node) -> PeerView:
    return PeerView(
        name=node.dns_name.rstrip(".") or node.host_name,
        address=(node.ips or ("",))[0],
        online=node.online,
        direct=node.direct,
        relay=node.relay,
        last_seen="" if node.online or node.last_seen.startswith(_NEVER) else node.last_seen,
        tags=node.tags or (),
    )


def key_expiry(status: Status) -> datetime | None:
    """Return when the device's key expires; None where it does not, or nobody says."""
    if status.node is None or not status.node.key_expiry:
        return None
    try:
        at = datetime.fromisoformat(status.node.key_expiry)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def has_expired(status: Status, now: datetime) -> bool:
    """Tell whether the device's key has expired."""
    at = key_expiry(status)
    return (status.node is not None and status.node.expired) or (at is not None and at <= now)


def expiry_words(at: datetime | None, now: datetime) -> tuple[str, bool]:
    """Return what to say of a key that will expire, and whether that is a warning; nothing while it is far off."""
    if at is None or not timedelta(0) <= at - now < EXPIRY_NOTE:
        return "", False
    days = (at - now).days
    when = "today" if not days else f"in {days} day{'s' if days > 1 else ''}"
    advice = "connect with a new key before, or tag the device"
    text = f"the device's key expires {when}, at {at:%Y-%m-%d %H:%M} UTC; {advice}"
    return text, at - now < EXPIRY_WARNING
