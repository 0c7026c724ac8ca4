"""The immutable state that every reader gets, replaced as a whole.

Times are seconds of the monotonic clock; ``Snapshot.wall_offset_s`` added to one gives seconds since the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.backup import BackupView
from supervisor.core.counts import Counts, Durations
from supervisor.core.process import State
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from supervisor.core.incidents import Incident
    from supervisor.core.orders import Orders
    from supervisor.secret import Secret


class ExitView(NamedTuple):
    """How one life of a process ended; ``expected`` where it had been asked to, or has done what it was there for.

    ``kind`` is what the end comes down to: one of core.counts.END_KINDS. ``peak_bytes`` is the most memory that it
    ever had resident, None where that is unknown.
    """

    at_s: float
    code: int | None
    signal: int | None
    uptime_s: float
    reason: str
    last_lines: tuple[str, ...] = ()
    expected: bool = False
    kind: str = ""
    peak_bytes: int | None = None


class ProcessView(NamedTuple):
    """What anyone may know of one process.

    ``ready`` is what its probe says (or, without one, that it is alive); ``ready_why`` says why not.
    ``ever_ready`` is about the current life. ``restarts`` are counted by the kind of end that each followed. ``hung``
    says that it is being ended for not answering. ``external_url`` is the URL of its own that it was last started with;
    None where it is not told any.
    """

    name: str
    state: State = State.INACTIVE
    since_s: float = 0.0
    critical: bool = False
    pid: int | None = None
    started_s: float | None = None
    ready: bool = False
    ready_why: str = ""
    ready_since_s: float | None = None
    ever_ready: bool = False
    restarts_by: Counts = ()
    failures: int = 0
    next_try_s: float | None = None
    exits: tuple[ExitView, ...] = ()
    command: str = ""
    hung: bool = False
    external_url: str | None = None

    @property
    def restarts(self) -> int:
        """Return how often it was started again."""
        return sum(count for _kind, count in self.restarts_by)


class PeerView(NamedTuple):
    """Another device of the tailnet: ``relay`` names the DERP region, ``direct`` the address where there is one.

    ``last_seen`` is RFC 3339 as control told it, empty for one that is online.
    """

    name: str
    address: str = ""
    online: bool = False
    direct: str = ""
    relay: str = ""
    last_seen: str = ""
    tags: tuple[str, ...] = ()


class ServeView(NamedTuple):
    """How the app is published in the tailnet: ``mode`` is serve or off, ``why`` what is not as it should be.

    ``config`` is the serve configuration in force, as JSON; ``external_url`` is the app's URL by HTTPS that is recorded
    for its next start, empty where there is none. ``certificate_expiry`` is RFC 3339, empty without one.
    """

    mode: str = "off"
    urls: tuple[str, ...] = ()
    why: str = ""
    config: str = ""
    external_url: str = ""
    certificate_expiry: str = ""


class TailnetView(NamedTuple):
    """What is known of the tailnet: ``state`` in tailscaled's or our words, ``why`` and ``what_to_do`` for people.

    ``last_error`` outlives the state it came up in; ``last_error_s`` is its moment. ``choice`` is what the owner chose:
    connected, disconnected or forgotten; ``by_owner`` says that the state is as it is for that. ``warnings`` are
    reasons for health to warn though the tailnet is up, ``notes`` are worth telling and no more. ``before_disconnect``
    is what an owner has to know before a disconnect. ``hostname`` is the DNS name without its last dot, ``key_expiry``
    RFC 3339. ``peer_api_ports`` are tailscaled's own, where devices talk to each other. ``control`` says that it is in
    touch with the control server. ``first_up_s`` is when it was up for the first time. ``logins`` are counted by what
    came of them; ``connects`` and ``disconnects`` tell how long it took from an owner's order until it was so.
    ``orders`` are the last of these, with their answers.
    """

    mode: str = "off"
    state: str = "off"
    since_s: float = 0.0
    up: bool = False
    why: str = ""
    what_to_do: str = ""
    away_since_s: float | None = None
    by_owner: bool = False
    choice: str = "connected"
    last_error: str = ""
    last_error_s: float | None = None
    auth_url: Secret | None = None
    auth_url_since_s: float | None = None
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    tailnet: str = ""
    version: str = ""
    login_name: str = ""
    tags: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    key_expiry: str = ""
    health: tuple[str, ...] = ()
    peers: tuple[PeerView, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    before_disconnect: str = ""
    serve: ServeView = ServeView()
    peer_api_ports: tuple[int, ...] = ()
    control: bool = False
    first_up_s: float | None = None
    logins: Counts = ()
    connects: Durations = Durations()
    disconnects: Durations = Durations()
    orders: Orders = ()


class ListenerView(NamedTuple):
    """A port that every tailnet peer reaches past serve, and the process that listens on it."""

    host: str
    port: int
    process: str = ""
    pid: int | None = None


class HealthChange(NamedTuple):
    """When the set of components with problems changed; ``wrong`` names them and what each means."""

    at_s: float
    status: str
    reasons: tuple[str, ...] = ()
    wrong: tuple[tuple[str, str], ...] = ()


class HealthView(NamedTuple):
    """The combined verdict in force: ``status`` is pass, warn or fail, ``changes`` counts those to each.

    ``history`` are its last changes, by what is wrong.
    """

    status: str = "fail"
    since_s: float = 0.0
    reasons: tuple[str, ...] = ("starting",)
    changes: Counts = ()
    history: tuple[HealthChange, ...] = ()


class IncidentsView(NamedTuple):
    """The last incidents, the oldest first, and what this run counted, by kind.

    ``why_not`` says why they are not kept on the disk; ``unread`` names files there that cannot be read. ``changes``
    counts how often any of them has become another.
    """

    known: tuple[Incident, ...] = ()
    counts: Counts = ()
    changes: int = 0
    why_not: str = ""
    unread: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """The whole state at one moment; ``warnings`` and ``notices`` are the plan's, and stay as they are.

    ``stopping`` says that the ordered stop has begun, ``stopping_why`` what for.
    """

    number: int = 0
    wall_offset_s: float = 0.0
    started_s: float = 0.0
    processes: tuple[ProcessView, ...] = ()
    tailnet: TailnetView = TailnetView()
    tailnet_grace_s: float | None = None
    stopping: bool = False
    stopping_why: str = ""
    health: HealthView = HealthView()
    orphans_reaped: int = 0
    exposed: tuple[ListenerView, ...] = ()
    warnings: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    backup: BackupView = BackupView()
    incidents: IncidentsView = IncidentsView()
    credential_warnings: bool = True

    def process(self, name: str) -> ProcessView | None:
        """Return the process of that name."""
        return next((view for view in self.processes if view.name == name), None)
