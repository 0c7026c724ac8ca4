"""The immutable state that every reader gets, replaced as a whole.

Times are seconds of the monotonic clock; adding ``Snapshot.wall_offset_s`` gives seconds since the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.backup import BackupView
from supervisor.core.counts import Counts, Durations
from supervisor.core.process import HELD_STATES, State
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from supervisor.core.incidents import Incident
    from supervisor.core.orders import Orders
    from supervisor.secret import Secret


class ExitView(NamedTuple):
    """An exit of a process; ``expected`` if it was requested, or is a success after which there is no restart.

    ``kind`` is one of core.counts.END_KINDS. ``peak_bytes`` is the peak resident memory, None if unknown.
    ``first_line`` is the number of the first line that may be its run's, ``next_line`` of the first that is not.
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
    first_line: int = 0
    next_line: int = 0


class ProcessView(NamedTuple):
    """The public state of a process.

    ``ready`` is the result of its probe (without one, whether it is alive); ``ready_why`` is why not. ``ever_ready`` is
    about the current run, ``answered`` about all of them. ``restarts`` are counted by the kind of the exit before each.
    ``hung`` is whether it is being ended because it stopped responding. ``external_url`` is the URL of its own that it
    was started with, None if it is not told any.
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
    answered: bool = False
    restarts_by: Counts = ()
    failures: int = 0
    next_try_s: float | None = None
    exits: tuple[ExitView, ...] = ()
    command: str = ""
    hung: bool = False
    external_url: str | None = None

    @property
    def restarts(self) -> int:
        """The number of restarts."""
        return sum(count for _kind, count in self.restarts_by)


class PeerView(NamedTuple):
    """Another device of the tailnet: ``relay`` is the DERP region, ``direct`` the address of a direct path.

    ``last_seen`` is RFC 3339 from control, empty for a device that is online.
    """

    name: str
    address: str = ""
    online: bool = False
    direct: str = ""
    relay: str = ""
    last_seen: str = ""
    tags: tuple[str, ...] = ()


class ServeView(NamedTuple):
    """How the app is published in the tailnet: ``mode`` is serve or off, ``why`` the problem if there is one.

    ``config`` is the serve configuration in force, as JSON; ``external_url`` is the app's HTTPS URL recorded for its
    next start, empty if there is none, None as long as that is not known. ``certificate_expiry`` is RFC 3339, empty
    without one.
    """

    mode: str = "off"
    urls: tuple[str, ...] = ()
    why: str = ""
    config: str = ""
    external_url: str | None = None
    certificate_expiry: str = ""


class TailnetView(NamedTuple):
    """The state of the tailnet: ``state`` in tailscaled's or our terms, ``why`` and ``what_to_do`` for people.

    ``last_error`` remains after its state has ended; ``last_error_s`` is its time. ``choice`` is the owner's choice:
    connected, disconnected or forgotten; ``by_owner`` is whether it explains the state. ``warnings`` make health warn
    even if the tailnet is up, ``notes`` do not. ``before_disconnect`` is what an owner has to know before a disconnect.
    ``hostname`` is the DNS name without its last dot, ``key_expiry`` RFC 3339. ``peer_api_ports`` are tailscaled's own,
    which devices use among each other. ``control`` is whether the control server is connected. ``first_up_s`` is when
    it was up for the first time. ``logins`` are counted by result; ``connects`` and ``disconnects`` are durations from
    an owner's order. ``orders`` are the last orders, with their results.
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
    """A port that every tailnet peer reaches without serve, and the process that listens on it."""

    host: str
    port: int
    process: str = ""
    pid: int | None = None


class HealthChange(NamedTuple):
    """A change of the failing components; ``wrong`` names them with the problem of each."""

    at_s: float
    status: str
    reasons: tuple[str, ...] = ()
    wrong: tuple[tuple[str, str], ...] = ()


class HealthView(NamedTuple):
    """The current verdict: ``status`` is pass, warn or fail, ``changes`` counts the changes to each.

    ``history`` has the last changes of the failing components.
    """

    status: str = "fail"
    since_s: float = 0.0
    reasons: tuple[str, ...] = ("starting",)
    changes: Counts = ()
    history: tuple[HealthChange, ...] = ()


class IncidentsView(NamedTuple):
    """The last incidents, the oldest first, and the counts of this run by kind.

    ``why_not`` is why they are not stored on the disk; ``unread`` names stored files that cannot be read. ``changes``
    counts modifications, ``alerts`` results of alerts.
    """

    known: tuple[Incident, ...] = ()
    counts: Counts = ()
    changes: int = 0
    why_not: str = ""
    unread: tuple[str, ...] = ()
    alerts: Counts = ()


class Snapshot(NamedTuple):
    """The whole state at one moment; ``warnings`` and ``notices`` are those of the plan.

    ``stopping`` is whether the ordered stop has begun, ``stopping_why`` its reason, ``stopping_s`` its time, and
    ``left`` the names of unmanaged processes that it could not end.
    ``exposed`` is whole if ``exposed_known``, else at most Moltis' open proxy.
    ``changed`` is the position of the process that changed last.
    ``wall_offset_s`` follows a clock that is set, ``first_offset_s`` is what it was at the start, None as long as that
    is the same.
    """

    number: int = 0
    wall_offset_s: float = 0.0
    started_s: float = 0.0
    processes: tuple[ProcessView, ...] = ()
    changed: int = 0
    tailnet: TailnetView = TailnetView()
    tailnet_grace_s: float | None = None
    stopping: bool = False
    stopping_why: str = ""
    stopping_s: float | None = None
    left: tuple[str, ...] = ()
    health: HealthView = HealthView()
    orphans_reaped: int = 0
    exposed: tuple[ListenerView, ...] = ()
    exposed_known: bool = False
    warnings: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    backup: BackupView = BackupView()
    incidents: IncidentsView = IncidentsView()
    credential_warnings: bool = True
    first_offset_s: float | None = None

    @property
    def began_s(self) -> float:
        """When the run began, in seconds since the epoch by the clock of that time; it identifies the run."""
        return self.started_s + (self.wall_offset_s if self.first_offset_s is None else self.first_offset_s)

    def is_held(self, view: ProcessView) -> bool:
        """Return whether a process waits for the backups; ``backup.holding`` is why."""
        if view.state is State.RUNNING:
            return False
        return view.state in HELD_STATES or (view.state is State.WAITING and self.backup.holds)

    @property
    def managed(self) -> dict[int, str]:
        """The names of the live processes by pid."""
        return {view.pid: view.name for view in self.processes if view.pid is not None}

    def process(self, name: str) -> ProcessView | None:
        """Return the process with this name; None if there is none."""
        for view in self.processes:
            if view.name == name:
                return view
        return None
