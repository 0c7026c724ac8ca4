"""Describes the tailnet's state for people: what tailscaled's status means, the reason, and what to do. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.credentials import NODE_KEY, REMEDIES, epoch_of
from supervisor.core.snapshot import PeerView, ServeView, TailnetView
from supervisor.core.tailnet import Action, Backend, Choice, Stage, TailnetMachine
from supervisor.core.tailnet_states import TailnetState
from supervisor.tailnet.versions import untried

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.secret import Secret
    from supervisor.tailnet.state_file import DesiredStateStore
    from supervisor.tailnet.wire import Node, Status


# States that an order would end if it were permitted.
_OURS_TO_END = frozenset({TailnetState.NEEDS_LOGIN, TailnetState.EXPIRED, TailnetState.SWITCHED_OFF, TailnetState.OFF})
# Shown as they are, whatever the owner chose.
NOT_OFF = frozenset({Backend.RUNNING, Backend.STARTING})
BEFORE_DISCONNECT = (
    "if the sidecar runs the official image's own start program (containerboot), it ends when the device is "
    "disconnected or forgotten, is started again by the platform, logs in again, and is disconnected again, in an "
    "endless loop; to stay disconnected, run `tailscaled` itself as the sidecar's command"
)
WHERE_IT_IS = (
    "check that the sidecar runs, that the folder of its socket is mounted here, at TS_SOCKET, and that the "
    "supervisor's user may enter it"
)
MAY_NOT = (
    "run the supervisor as root or as tailscaled's user, or run `tailscale set --operator=USER` beside tailscaled; "
    "then connect again"
)
# A control server that accepts connections without responding causes no error.
SILENCE_S = 10.0


class Meaning(NamedTuple):
    """A state with its reason and remedy; ``up`` is whether the tailnet works, ``by_owner`` whether it was chosen."""

    state: str
    up: bool = False
    why: str = ""
    what_to_do: str = ""
    by_owner: bool = False


class Situation(NamedTuple):
    """What is known beyond tailscaled's status, at ``now_s`` on the monotonic clock.

    ``expired`` is whether the device's key has expired, ``why_unread`` why the owner's choice is unknown.
    """

    machine: TailnetMachine = TailnetMachine()
    now_s: float = 0.0
    has_network: bool = True
    expired: bool = False
    why_unread: str = ""

    @property
    def held_s(self) -> float:
        """The age of tailscaled's state, and of a login under way, in seconds."""
        return self.now_s - max(self.machine.since_s, self.machine.retry.begun_s or 0.0)

    @property
    def goes_back(self) -> bool:
        """Whether the device is returning to its previous login."""
        machine = self.machine
        went_back = machine.went_back_s is not None and self.now_s - machine.went_back_s < SILENCE_S
        return went_back or (machine.replaces and machine.stage is Stage.RELEASING)


_SIGN_IN = "give it an auth key (TS_AUTHKEY, or `moltis-supervisor connect`)"
_OPEN_URL = "open the login URL, which the panel, the container's log and `moltis-supervisor auth-url` show"
_CHECK_NETWORK = "check the container's internet access"
# Health texts of a tailscaled that is stopped or starting, which are normal.
NO_NEWS = (
    "Tailscale is stopped.",
    "Tailscale is starting. Please wait.",
    "You are logged out.",
)
LOGIN_ERROR = "You are logged out. The last login error was: "
STORE_FAILED = "State store failed"
_MEND_STATE = (
    "make TS_STATE_DIR writable, with room on its disk; where tailscaled.state in it is damaged, remove that file and "
    "log in again"
)
UNREACHED = ("fetch control key", "dial tcp", "connection refused", "no such host", "i/o timeout", "control")
_APPROVAL = Meaning(
    TailnetState.NEEDS_APPROVAL,
    why="an admin of the tailnet has to approve the device",
    what_to_do="approve it on the Machines page of the admin console",
)
_NO_INTERFACE = Meaning(
    TailnetState.NO_NETWORK,
    why="the container has no network interface with an address but the loopback",
    what_to_do="attach it to a network",
)


def effective(status: Status) -> str:
    """Return tailscaled's state, corrected for a device that control has removed, which it still calls Running.

    A removed device has a login URL, after a restart of the control client (observed with 1.102).
    """
    removed = status.backend_state == Backend.RUNNING and status.auth_url and not (status.node and status.node.online)
    return Backend.NEEDS_LOGIN if removed else status.backend_state


def of_status(status: Status, about: Situation) -> Meaning:
    """Return the meaning of tailscaled's status."""
    meaning = _of_status(status, about)
    if about.machine.may_not and meaning.state in _OURS_TO_END and not about.machine.pending_url:
        return meaning._replace(why=about.machine.may_not, what_to_do=MAY_NOT)
    return meaning


def _of_status(status: Status, about: Situation) -> Meaning:
    trouble = trouble_of(status)
    state = effective(status)
    if STORE_FAILED in trouble:
        return Meaning(TailnetState.NOT_KEPT, why=trouble, what_to_do=_MEND_STATE)
    if about.machine.choice != Choice.CONNECTED and state not in NOT_OFF:
        return _by_owner(status, about)
    if state == Backend.RUNNING:
        return _running(status, trouble, about)
    if state in {Backend.NEEDS_LOGIN, Backend.NO_STATE} and not about.has_network:
        return _NO_INTERFACE
    if state == Backend.NEEDS_LOGIN:
        return _needs_login(trouble, about)
    return _others(state, trouble, about)


def trouble_of(status: Status) -> str:
    """Return tailscaled's health texts without those that are normal."""
    # tailscaled lists them in varying order.
    return " ".join(sorted(text.removeprefix(LOGIN_ERROR) for text in status.health or () if text not in NO_NEWS))


def down(why: str, *, begun: bool, attached: bool = False, stopped: bool = False) -> Meaning:
    """Return the meaning of a tailscaled that does not respond.

    ``begun`` is whether it was started just now, ``stopped`` whether an owner has stopped it.
    """
    if stopped:
        return Meaning(TailnetState.DOWN, why="it was stopped on purpose", what_to_do="start the process tailscaled")
    what_to_do = WHERE_IT_IS if attached else "read its lines in the log"
    return (
        Meaning(TailnetState.STARTING, why=why) if begun else Meaning(TailnetState.DOWN, why=why, what_to_do=what_to_do)
    )


def unread(why: str) -> str:
    """Return the text about an unknown choice."""
    return f"whether it is to be connected cannot be read from owner.json in TS_STATE_DIR ({why}), so it stays as it is"


def _by_owner(status: Status, about: Situation) -> Meaning:
    if about.machine.choice == Choice.UNKNOWN:
        return Meaning(
            TailnetState.SWITCHED_OFF, why=unread(about.why_unread), what_to_do="connect, or disconnect", by_owner=True
        )
    if about.machine.choice == Choice.DISCONNECTED:
        return Meaning(TailnetState.OFF, why="it was disconnected on purpose", what_to_do="connect", by_owner=True)
    if status.have_node_key or effective(status) not in {Backend.NEEDS_LOGIN, Backend.NO_STATE}:
        why = about.machine.last_error or "the device is being logged out"
        return Meaning(TailnetState.OFF, why=why, what_to_do="wait, or remove it in the admin console", by_owner=True)
    return Meaning(
        TailnetState.OFF, why="the device was forgotten", what_to_do="connect to log in again", by_owner=True
    )


def _running(status: Status, trouble: str, about: Situation) -> Meaning:
    if status.node is not None and status.node.online:
        return Meaning(TailnetState.CONNECTED, up=True)
    if about.machine.retry.under_way:
        return _logging_in(about)
    if about.goes_back:
        return Meaning(TailnetState.CONNECTING, why="the device resumes its existing login")
    return Meaning(
        TailnetState.UNREACHABLE,
        why=trouble or "there is no connection to the control server; peers may still be reached",
        what_to_do=_CHECK_NETWORK,
    )


def _needs_login(trouble: str, about: Situation) -> Meaning:
    attempt = about.machine.retry
    refused = bool(attempt.error)
    if refused and not about.machine.pending_url:
        return _refused(about)
    if is_unreached(trouble) and not refused and not about.machine.pending_url:
        return Meaning(TailnetState.UNREACHABLE, why=trouble, what_to_do=_CHECK_NETWORK)
    if attempt.under_way or about.machine.running in {Action.FETCH_KEY, Action.LOG_IN}:
        return _logging_in(about)
    why = attempt.note or (f"the auth key was refused: {attempt.error}" if refused else "")
    what_to_do = f"{_OPEN_URL}, or {_SIGN_IN}" if about.machine.pending_url else _SIGN_IN
    if about.expired:
        return Meaning(TailnetState.EXPIRED, why=why or "the device's key has expired", what_to_do=what_to_do)
    if about.machine.had_login:
        why = why or "the control server has logged the device out: it was removed, or its key has expired"
    return Meaning(TailnetState.NEEDS_LOGIN, why=why or trouble or "the device is in no tailnet", what_to_do=what_to_do)


def _logging_in(about: Situation) -> Meaning:
    attempt = about.machine.retry
    if attempt.under_way and about.held_s >= SILENCE_S and not attempt.note:
        why = f"the control server has not answered for {about.held_s:.0f} s"
        return Meaning(TailnetState.UNREACHABLE, why=why, what_to_do=_CHECK_NETWORK)
    return Meaning(TailnetState.CONNECTING, why=attempt.note or "logging in with the auth key")


def _refused(about: Situation) -> Meaning:
    attempt = about.machine.retry
    advice = {
        "tag not permitted": "let the key, or the tailnet's policy, permit TS_TAGS",
        "expired": "make a new key in the admin console",
        "used up": "make a new key in the admin console, a reusable one if it is to be used again",
    }.get(attempt.kind, "check the key, or make a new one in the admin console")
    next_s = attempt.next_try_s
    retry_s = max(0.0, (next_s or 0.0) - about.now_s)
    again = "" if next_s is None else f"; the same key is tried again in {_duration(retry_s)}"
    # Some errors already contain it.
    why = attempt.error if attempt.error.startswith(attempt.kind) else f"{attempt.kind}: {attempt.error}"
    return Meaning(TailnetState.REFUSED, why=why, what_to_do=f"{advice}, and give it here{again}")


def _others(state: str, trouble: str, about: Situation) -> Meaning:
    if state == Backend.NO_STATE:
        if is_unreached(trouble) or about.held_s >= SILENCE_S:
            why = trouble or f"the control server has not answered for {about.held_s:.0f} s"
            return Meaning(TailnetState.UNREACHABLE, why=why, what_to_do=_CHECK_NETWORK)
        return Meaning(TailnetState.STARTING, why=trouble or "tailscaled is starting")
    if state == Backend.NEEDS_APPROVAL:
        return _APPROVAL
    if state == Backend.STARTING:
        return Meaning(TailnetState.CONNECTING, why=trouble or "it is connecting")
    if state == Backend.STOPPED:
        return Meaning(TailnetState.SWITCHED_OFF, why="the tailnet is switched off here", what_to_do="connect")
    # A state of a later version is shown as it is.
    return Meaning(state or "unknown", why=trouble)


def is_unreached(trouble: str) -> bool:
    """Return whether a health text is about reaching the control server."""
    return any(sign in trouble for sign in UNREACHED)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - as people say it


EXPIRY_NOTE = timedelta(days=28)
NEW_DEVICE = (
    "TS_STATE_DIR held no record of an earlier start: this is a new device, or the folder was lost, and with it a "
    "choice to stay disconnected; mount a volume there, where containers are replaced"
)
_NEVER = "0001-01-01"


class DeviceDetails(NamedTuple):
    """Results of the maintenance of the device and of its keys."""

    url: Secret | None = None
    peers: tuple[PeerView, ...] = ()
    routes: tuple[str, ...] = ()
    serve: ServeView = ServeView()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def with_details(
    before: TailnetView,
    machine: TailnetMachine,
    status: Status | None,
    found: DeviceDetails,
    store: DesiredStateStore,
    now_s: float,
    *,
    new: bool,
) -> TailnetView:
    """Return the view with everything but the state; ``new`` is whether there is no record of an earlier start."""
    expires = expiry_words(key_expiry(status) if status is not None else None, datetime.now(UTC))
    kept, why_unread = store.why_not_kept, store.why_unread
    notes = [
        NEW_DEVICE if new else "",
        f"your choice is not kept over a restart: {kept}; set TS_STATE_DIR to a folder that is" if kept else "",
        expires,
        untried(status.version) if status is not None else "",
        *found.notes,
    ]
    told = why_unread and machine.state in NOT_OFF
    warnings = [
        f"{machine.may_not}; {MAY_NOT}" if machine.may_not else "",
        f"{unread(why_unread)}: connect, or disconnect" if told else "",
        *found.warnings,
    ]
    url = found.url if machine.choice is Choice.CONNECTED else None
    url_since_s = None if url is None else before.auth_url_since_s if url is before.auth_url else now_s
    return before._replace(
        choice=machine.choice,
        last_error=machine.last_error,
        last_error_s=machine.last_error_s,
        auth_url=url,
        auth_url_since_s=url_since_s,
        routes=found.routes,
        peers=found.peers if machine.state == Backend.RUNNING else (),
        warnings=tuple(text for text in warnings if text),
        notes=tuple(text for text in notes if text),
        before_disconnect=BEFORE_DISCONNECT if machine.attached else "",
        serve=found.serve,
        logins=machine.results,
    )


def with_state(before: TailnetView, meaning: Meaning, status: Status | None, now_s: float) -> TailnetView:
    """Return the view with the state. ``since_s`` changes with the state; ``away_since_s`` is when it was last up."""
    away_since_s = before.away_since_s if before.away_since_s is not None else now_s
    found = before._replace(
        state=meaning.state,
        since_s=before.since_s if before.state == meaning.state else now_s,
        up=meaning.up,
        why=meaning.why,
        what_to_do=meaning.what_to_do,
        by_owner=meaning.by_owner,
        away_since_s=None if meaning.up else away_since_s,
        control=False,
        first_up_s=now_s if meaning.up and before.first_up_s is None else before.first_up_s,
    )
    return _with_device(found, status) if status is not None else found


def _with_device(base: TailnetView, status: Status) -> TailnetView:
    node = status.node
    known = node is not None and status.have_node_key and status.backend_state != Backend.NEEDS_LOGIN
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
    """Return the peers, the online ones first."""
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
    """Return when the device's key expires, in UTC; None if it does not, or the time is unknown."""
    epoch_s = epoch_of(status.node.key_expiry or "") if status.node is not None else None
    try:
        return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC)
    except ValueError:
        # A time of the year 9999 may be in the next one in UTC.
        return None


def has_expired(status: Status, now: datetime) -> bool:
    """Return whether the device's key has expired."""
    at = key_expiry(status)
    return (status.node is not None and status.node.expired) or (at is not None and at <= now)


def expiry_words(at: datetime | None, now: datetime) -> str:
    """Return a note about a key that expires soon, else an empty text. Health has a warning of its own."""
    if at is None or not timedelta(0) <= at - now < EXPIRY_NOTE:
        return ""
    days = (at - now).days
    when = "today" if not days else f"in {days} day{'s' if days > 1 else ''}"
    return f"the device's key expires {when}, at {at:%Y-%m-%d %H:%M} UTC; {REMEDIES[NODE_KEY]}"


_FOREIGN = re.compile(r"[^a-z0-9-]+")
_LONGEST = 63


def label(dns_name: str) -> str:
    """Return the first label of a DNS name, which names the device."""
    return dns_name.partition(".")[0]


def wished(hostname: str) -> str:
    """Return a host name as the tailnet spells it (tailscale.com/util/dnsname.SanitizeHostname)."""
    return _FOREIGN.sub("-", hostname.lower()).strip("-")[:_LONGEST].rstrip("-")


def is_suffixed(dns_name: str, hostname: str) -> bool:
    """Return whether control appended a number because another device has the name: `moltis-1` for `moltis`."""
    plain = wished(hostname)
    return bool(plain) and re.fullmatch(re.escape(plain) + r"-[0-9]{1,4}", label(dns_name)) is not None


def holder(hostname: str, peers: Iterable[Node]) -> Node | None:
    """Return the device that has the plain name."""
    plain = wished(hostname)
    return next((peer for peer in peers if label(peer.dns_name) == plain), None)
