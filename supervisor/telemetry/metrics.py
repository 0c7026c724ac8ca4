"""All metrics, each definition with its value, and the collector that writes Prometheus' formats.

The reference page is generated from SECTIONS. This module is imported by the first scrape, as its library is large.
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from supervisor import __version__
from supervisor.core.backup import RESULTS, BackupState
from supervisor.core.counts import ALERT_RESULTS, END_KINDS, LOGIN_RESULTS, METHODS, OTHER, Durations
from supervisor.core.credentials import CREDENTIALS, epoch_of, expiries
from supervisor.core.health import assess, ready
from supervisor.core.incidents import INCIDENT_KINDS, LOGIN_FAILED, TAILNET_AWAY
from supervisor.core.process import State
from supervisor.core.tailnet_states import STATES
from supervisor.moltis import DURATION_BUCKETS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from supervisor.core.backup import SnapshotView
    from supervisor.core.counts import Counts
    from supervisor.core.snapshot import PeerView, ProcessView, Snapshot, TailnetView

PREFIX = "moltis_supervisor_"
# tailscaled's metrics are passed on under their own names.
RELAYED_PREFIX = "tailscaled_"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
LEVELS = ("debug", "info", "warning", "error", "critical")
STATUSES = ("pass", "warn", "fail")
PEERS = ("direct", "relayed", "offline")
PROCESS_STATES = tuple(state.value for state in State)
TAILNET_STATES = (*STATES, OTHER)
BACKUP_STATES = tuple(state.value for state in BackupState)
_SUPERVISOR = "supervisor"
_ONE_EACH = "1 for the one that holds, 0 for the others"
_TOTAL = "_total"
# The fastest gzip level takes a few milliseconds; higher ones take three times as long for little gain.
_GZIP_LEVEL = 1


class ScrapeData(NamedTuple):
    """The data of one scrape, all of one moment.

    ``usage`` is each process's memory in bytes and CPU in seconds, None if the kernel does not say; ``logged`` the
    lines and bytes by process and level; ``requests`` the counts by endpoint, method and status; ``durations`` by
    endpoint and method. ``relayed`` is tailscaled's own text, None if it is unavailable, and ``relay_errors`` counts
    earlier scrapes without it.
    """

    snapshot: Snapshot
    now_s: float
    usage: Mapping[str, tuple[int | None, float | None]]
    logged: Mapping[tuple[str, str], tuple[int, int]]
    dropped: int
    held_back: int
    masked: int
    requests: Mapping[tuple[str, str, str], int]
    durations: Mapping[tuple[str, str], Durations]
    streams: int
    relayed: bytes | None = None
    relay_errors: int = 0
    lag: Durations = Durations()

    @property
    def tailnet(self) -> TailnetView:
        """The tailnet in the snapshot."""
        return self.snapshot.tailnet


Value = int | float | Durations
if TYPE_CHECKING:
    Labelled = Iterable[tuple[tuple[str, ...], Value | None]]
    Read = Callable[[ScrapeData], Value | Labelled | None]


class Label(NamedTuple):
    """A label: ``values`` are all possible values, if known; ``description`` describes them."""

    name: str
    values: tuple[str, ...] = ()
    description: str = ""


class Metric(NamedTuple):
    """A metric; ``name`` is without the prefix. ``read`` returns its value, or pairs of label values and value.

    Values of None are omitted.
    """

    kind: str
    name: str
    help: str
    read: Read
    labels: tuple[Label, ...] = ()

    @property
    def full_name(self) -> str:
        """The name in Prometheus."""
        return PREFIX + self.name


gauge, counter, histogram = (partial(Metric, kind) for kind in (GAUGE, COUNTER, HISTOGRAM))


class Section(NamedTuple):
    """A group of metrics; ``applies`` returns whether they are exported."""

    title: str
    metrics: tuple[Metric, ...]
    applies: Callable[[ScrapeData], bool] = lambda _data: True


class Exposition(NamedTuple):
    """The result of a scrape; ``relay_failed`` is whether it lacks tailscaled's metrics."""

    body: bytes
    content_type: str
    gzipped: bool
    relay_failed: bool


def _one_of(values: Iterable[str], current: str, *labels: str) -> Labelled:
    return [((*labels, value), value == current) for value in values]


def _counted(values: Iterable[str], counts: Counts, *labels: str) -> Labelled:
    found = dict(counts)
    return [((*labels, value), found.get(value, 0)) for value in values]


def _each_process(read: Callable[[ScrapeData, ProcessView], Value | None]) -> Read:
    return lambda data: [((view.name,), read(data, view)) for view in data.snapshot.processes]


def _each_life(read: Callable[[ScrapeData, float], float]) -> Read:
    """Return a reader for a value of each running process, and of the supervisor, from its start time."""

    def values(data: ScrapeData) -> Labelled:
        alive = [(view.name, view.started_s) for view in data.snapshot.processes if view.pid is not None]
        for name, started_s in (*alive, (_SUPERVISOR, data.snapshot.started_s)):
            if started_s is not None:
                yield (name,), read(data, started_s)

    return values


def _last_exit_epoch_s(data: ScrapeData, view: ProcessView) -> float | None:
    return view.exits[-1].at_s + data.snapshot.wall_offset_s if view.exits else None


def _process_states(data: ScrapeData) -> Labelled:
    for view in data.snapshot.processes:
        yield from _one_of(PROCESS_STATES, view.state.value, view.name)


def _restarts(data: ScrapeData) -> Labelled:
    for view in data.snapshot.processes:
        yield from _counted(END_KINDS, view.restarts_by, view.name)


def _components(data: ScrapeData) -> Labelled:
    for component in assess(data.snapshot, data.now_s).components:
        yield from _one_of(STATUSES, component.status, component.name)


def _logged(column: int) -> Read:
    def values(data: ScrapeData) -> Labelled:
        names = [*(view.name for view in data.snapshot.processes), _SUPERVISOR]
        empty = {(process, level): (0, 0) for process in names for level in LEVELS}
        return [(key, cell[column]) for key, cell in (empty | dict(data.logged)).items()]

    return values


def _snapshots(data: ScrapeData) -> tuple[SnapshotView, ...]:
    return data.snapshot.backup.snapshots


def _last_good_epoch_s(data: ScrapeData) -> float | None:
    last_s = data.snapshot.backup.last_good_s
    return None if last_s is None else last_s + data.snapshot.wall_offset_s


def _tailnet_state(data: ScrapeData) -> Labelled:
    state = data.tailnet.state
    return _one_of(TAILNET_STATES, state if state in STATES else OTHER)


def _peers(data: ScrapeData) -> Labelled:
    peers = Counter(map(_connection, data.tailnet.peers))
    return [((kind,), peers[kind]) for kind in PEERS]


def _connection(peer: PeerView) -> str:
    if not peer.online:
        return "offline"
    return "direct" if peer.direct else "relayed"


def _first_connected_s(data: ScrapeData) -> float | None:
    first_s = data.tailnet.first_up_s
    return None if first_s is None else first_s - data.snapshot.started_s


_PROCESS = (Label("process", description="a process's name"),)
_WITH_SUPERVISOR = (Label("process", description="a process's name, or `supervisor`"),)
_LOGGED = (*_WITH_SUPERVISOR, Label("level", LEVELS))
_STATUS = (Label("status", STATUSES),)
_REQUEST = (Label("endpoint", description=f"a route as the API's page has it, or `{OTHER}`"), Label("method", METHODS))

_OF_SUPERVISOR = (
    gauge(
        "build_info",
        "Always 1; the labels are the versions of the supervisor and of Python.",
        lambda _d: [((__version__, sys.version.partition(" ")[0]), 1)],
        (Label("version", description="the supervisor's version"), Label("python", description="Python's version")),
    ),
    gauge(
        "start_time_seconds",
        "Start time of the supervisor in seconds since the epoch.",
        lambda d: d.snapshot.started_s + d.snapshot.wall_offset_s,
    ),
    gauge("uptime_seconds", "Time since the supervisor was started.", lambda d: d.now_s - d.snapshot.started_s),
    histogram(
        "loop_lag_seconds",
        "Delay of the event loop for a timer, measured once a second since the first scrape.",
        lambda d: d.lag,
    ),
    counter(
        "orphans_reaped_total",
        "Orphaned processes that were reaped.",
        lambda d: d.snapshot.orphans_reaped,
    ),
    gauge("exposed_ports", "Ports that every tailnet peer reaches without serve.", lambda d: len(d.snapshot.exposed)),
)
_OF_HEALTH = (
    gauge(
        "health_status",
        f"The combined verdict: {_ONE_EACH}.",
        lambda d: _one_of(STATUSES, assess(d.snapshot, d.now_s).status),
        _STATUS,
    ),
    counter(
        "health_changes_total",
        "Changes of the combined verdict, by the new status.",
        lambda d: _counted(STATUSES, d.snapshot.health.changes),
        _STATUS,
    ),
    gauge(
        "health_component_status",
        f"The status of a component: {_ONE_EACH}.",
        _components,
        (Label("component", description="a process's name, `tailnet` or `exposure`"), *_STATUS),
    ),
    gauge(
        "credential_expiry_timestamp_seconds",
        "Expiry of a credential in seconds since the epoch; absent if it does not expire, or the time is unknown.",
        lambda d: [((each.name,), each.epoch_s) for each in expiries(d.snapshot, d.now_s)],
        (Label("credential", CREDENTIALS),),
    ),
    gauge("ready", "1 while traffic is accepted, as in /readyz.", lambda d: ready(d.snapshot, d.now_s)[0]),
)
_OF_PROCESSES = (
    gauge(
        "process_state",
        f"The state of a process: {_ONE_EACH}.",
        _process_states,
        (*_PROCESS, Label("state", PROCESS_STATES)),
    ),
    gauge("process_ready", "1 while a process is ready.", _each_process(lambda _d, view: view.ready), _PROCESS),
    counter(
        "process_restarts_total",
        "Restarts of a process, by the kind of the exit before each.",
        _restarts,
        (*_PROCESS, Label("reason", END_KINDS)),
    ),
    gauge(
        "process_failures",
        "Consecutive failures of a process.",
        _each_process(lambda _d, view: view.failures),
        _PROCESS,
    ),
    gauge(
        "process_start_time_seconds",
        "Start time of a running process in seconds since the epoch.",
        _each_life(lambda d, started_s: started_s + d.snapshot.wall_offset_s),
        _WITH_SUPERVISOR,
    ),
    gauge(
        "process_uptime_seconds",
        "Time since a running process was started.",
        _each_life(lambda d, started_s: d.now_s - started_s),
        _WITH_SUPERVISOR,
    ),
    gauge(
        "process_last_exit_code",
        "Exit code of a process's last exit; absent if a signal ended it.",
        _each_process(lambda _d, view: view.exits[-1].code if view.exits else None),
        _PROCESS,
    ),
    gauge(
        "process_last_exit_signal",
        "Number of the signal that ended a process; absent if its last exit had an exit code.",
        _each_process(lambda _d, view: view.exits[-1].signal if view.exits else None),
        _PROCESS,
    ),
    gauge(
        "process_last_exit_timestamp_seconds",
        "Time of a process's last exit in seconds since the epoch.",
        _each_process(_last_exit_epoch_s),
        _PROCESS,
    ),
    gauge(
        "process_resident_memory_bytes",
        "Resident memory of a process, without its children.",
        lambda d: [((name,), memory_bytes) for name, (memory_bytes, _cpu_s) in d.usage.items()],
        _WITH_SUPERVISOR,
    ),
    counter(
        "process_cpu_seconds_total",
        "CPU time that a process has used since it was started, without its children.",
        lambda d: [((name,), cpu_s) for name, (_memory_bytes, cpu_s) in d.usage.items()],
        _WITH_SUPERVISOR,
    ),
)
_OF_LOGS = (
    counter("log_lines_total", "Log lines received.", _logged(0), _LOGGED),
    counter("log_bytes_total", "Size of the log lines received, without colour codes.", _logged(1), _LOGGED),
    counter("log_lines_dropped_total", "Log lines dropped because the merged log was not read.", lambda d: d.dropped),
    counter(
        "log_lines_held_back_total",
        "Lines of tailscaled's known noise that the log did not show.",
        lambda d: d.held_back,
    ),
    counter("log_redactions_total", "Secrets masked in the log.", lambda d: d.masked),
)
_OF_TAILNET = (
    gauge(
        "tailnet_info",
        "Always 1; the labels are the mode, and tailscaled's version once it is known.",
        lambda d: [((d.tailnet.mode, d.tailnet.version), 1)],
        (Label("mode", ("embedded", "attach")), Label("version", description="tailscaled's version")),
    ),
    gauge(
        "tailnet_state", f"The state of the tailnet: {_ONE_EACH}.", _tailnet_state, (Label("state", TAILNET_STATES),)
    ),
    gauge("tailnet_up", "1 while the device is in its tailnet.", lambda d: d.tailnet.up),
    gauge(
        "tailnet_control_connected",
        "1 while tailscaled is connected to the control server.",
        lambda d: d.tailnet.control,
    ),
    gauge(
        "tailnet_served",
        "1 while the app is published in the tailnet according to the settings, else 0.",
        lambda d: d.tailnet.serve.mode == "serve" and not d.tailnet.serve.why,
    ),
    gauge(
        "tailnet_warnings",
        "Conditions of the tailnet that need attention, even if it is up.",
        lambda d: len(d.tailnet.warnings) + bool(d.tailnet.serve.why),
    ),
    gauge(
        "tailnet_peers",
        "Other devices of the tailnet, at most 30 seconds old: offline ones, and online ones with and without a "
        "direct path in use.",
        _peers,
        (Label("connection", PEERS),),
    ),
    gauge(
        "tailnet_key_expiry_timestamp_seconds",
        "Expiry of the device's key in seconds since the epoch; absent if it does not expire.",
        lambda d: epoch_of(d.tailnet.key_expiry),
    ),
    gauge(
        "tailnet_first_connected_seconds",
        "Time from the supervisor's start until the device was first in its tailnet.",
        _first_connected_s,
    ),
    counter(
        "tailnet_logins_total",
        "Logins by result.",
        lambda d: _counted(LOGIN_RESULTS, d.tailnet.logins),
        (Label("result", LOGIN_RESULTS),),
    ),
    histogram(
        "tailnet_connect_duration_seconds",
        "Time from an owner's order to connect until the device was in its tailnet.",
        lambda d: d.tailnet.connects,
    ),
    histogram(
        "tailnet_disconnect_duration_seconds",
        "Time from an owner's order to disconnect until the device was out of its tailnet.",
        lambda d: d.tailnet.disconnects,
    ),
    gauge(
        "tailscaled_metrics_up",
        "1 if tailscaled returned its own metrics for this scrape, else 0.",
        lambda d: d.relayed is not None,
    ),
    counter("tailscaled_metrics_errors_total", "Scrapes without tailscaled's metrics.", lambda d: d.relay_errors),
)
_OF_BACKUPS = (
    gauge(
        "backup_state",
        f"The state of the backups: {_ONE_EACH}.",
        lambda d: _one_of(BACKUP_STATES, d.snapshot.backup.state.value),
        (Label("state", BACKUP_STATES),),
    ),
    counter(
        "backup_snapshots_total",
        "Snapshots by result.",
        lambda d: _counted(RESULTS, d.snapshot.backup.taken),
        (Label("result", RESULTS),),
    ),
    counter(
        "backup_restores_total",
        "Restores by result.",
        lambda d: _counted(RESULTS, d.snapshot.backup.restores),
        (Label("result", RESULTS),),
    ),
    gauge("backup_snapshots_kept", "Snapshots known to be in the repository.", lambda d: len(_snapshots(d))),
    gauge(
        "backup_last_good_timestamp_seconds",
        "End of this run's last complete snapshot in seconds since the epoch; absent before the first.",
        _last_good_epoch_s,
    ),
    gauge(
        "backup_newest_size_bytes",
        "Size of the files in the newest snapshot.",
        lambda d: _snapshots(d)[-1].size_bytes if _snapshots(d) else None,
    ),
    gauge(
        "backup_newest_added_bytes",
        "Data that the newest snapshot added to the repository.",
        lambda d: _snapshots(d)[-1].added_bytes if _snapshots(d) else None,
    ),
    gauge(
        "backup_newest_duration_seconds",
        "Time that restic took for the newest snapshot.",
        lambda d: _snapshots(d)[-1].duration_s if _snapshots(d) else None,
    ),
)
_OF_HTTP = (
    counter(
        "http_requests_total",
        "Requests, counted when their response began.",
        lambda d: d.requests.items(),
        (*_REQUEST, Label("status", description="the status of the response")),
    ),
    histogram(
        "http_request_duration_seconds",
        "Time from a request's head until its response began.",
        lambda d: d.durations.items(),
        _REQUEST,
    ),
    gauge("http_event_streams_active", "Open event streams: panels and followers of the log.", lambda d: d.streams),
)


def _kinds_of(data: ScrapeData) -> tuple[str, ...]:
    """Return the kinds of incidents that are possible with these settings."""
    if data.tailnet.mode != "off":
        return INCIDENT_KINDS
    return tuple(kind for kind in INCIDENT_KINDS if kind not in {LOGIN_FAILED, TAILNET_AWAY})


_OF_INCIDENTS = (
    counter(
        "incidents_total",
        "Incidents of this run, by their kind.",
        lambda d: _counted(_kinds_of(d), d.snapshot.incidents.counts),
        (Label("kind", INCIDENT_KINDS),),
    ),
    gauge(
        "incidents_kept",
        "Incidents that are kept, those of earlier runs too.",
        lambda d: len(d.snapshot.incidents.known),
    ),
    counter(
        "alerts_total",
        "Alerts by result.",
        lambda d: _counted(ALERT_RESULTS, d.snapshot.incidents.alerts),
        (Label("result", ALERT_RESULTS, "`left_out`: incidents that an alert only counted"),),
    ),
)
SECTIONS = (
    Section("The supervisor", _OF_SUPERVISOR),
    Section("Health", _OF_HEALTH),
    Section("Processes", _OF_PROCESSES),
    Section("Incidents", _OF_INCIDENTS),
    Section("Logs", _OF_LOGS),
    Section("The tailnet", _OF_TAILNET, applies=lambda d: d.tailnet.mode != "off"),
    Section("Backups", _OF_BACKUPS, applies=lambda d: d.snapshot.backup.state is not BackupState.OFF),
    Section("HTTP", _OF_HTTP),
)
METRICS = {metric.name: metric for section in SECTIONS for metric in section.metrics}


class Collector:
    """A registry for prometheus_client: the metrics of one scrape, followed by tailscaled's."""

    def __init__(self, data: ScrapeData) -> None:
        relayed = _relayed_families(data.relayed)
        self.relay_failed = relayed is None and data.tailnet.mode != "off"
        text = None if relayed is None else data.relayed
        self._data = data._replace(relayed=text, relay_errors=data.relay_errors + self.relay_failed)
        self._relayed = relayed or []

    def collect(self) -> Iterator[Family]:
        """Yield each metric that has a value."""
        for section in SECTIONS:
            if section.applies(self._data):
                yield from (family for family in map(self._family, section.metrics) if family.samples)
        yield from self._relayed

    def _family(self, metric: Metric) -> Family:
        name = metric.full_name
        family = Family(name.removesuffix(_TOTAL), metric.help, metric.kind)
        found = metric.read(self._data)
        for values, value in [((), found)] if found is None or isinstance(found, Value) else found:
            labels = {label.name: text for label, text in zip(metric.labels, values, strict=True)}
            if isinstance(value, Durations):
                _add_buckets(family, labels, value)
            elif value is not None:
                family.add_sample(name, labels, float(value))
        return family


def write(data: ScrapeData, accept: str, *, gzipped: bool = False) -> Exposition:
    """Return all metrics in the format requested by the header ``accept``."""
    collector = Collector(data)
    accept = _without_refused(accept)
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # An unknown version gets the default format, as a request without a version does.
        encode, content_type = choose_encoder("")
    body = encode(collector)
    body = gzip.compress(body, _GZIP_LEVEL, mtime=0) if gzipped else body
    return Exposition(body, content_type, gzipped, collector.relay_failed)


def _without_refused(header: str) -> str:
    """Return a list of what a client accepts without what it refuses by a weight of 0, which the library ignores."""
    return ",".join(item for item in header.split(",") if not _is_refused(item))


def _is_refused(item: str) -> bool:
    weights = [
        value for name, _, value in (part.partition("=") for part in item.split(";")) if name.strip().lower() == "q"
    ]
    return any(weight.strip(" 0.") == "" for weight in weights)


def _add_buckets(family: Family, labels: dict[str, str], durations: Durations) -> None:
    so_far = 0
    for edge, count in zip((*map(str, DURATION_BUCKETS_S), "+Inf"), durations.buckets, strict=True):
        so_far += count
        family.add_sample(f"{family.name}_bucket", {**labels, "le": edge}, so_far)
    family.add_sample(f"{family.name}_count", labels, so_far)
    family.add_sample(f"{family.name}_sum", labels, durations.sum_s)


def _relayed_families(text: bytes | None) -> list[Family] | None:
    """Return tailscaled's own metrics; None if they are missing or cannot be parsed."""
    if text is None:
        return None
    try:
        families = list(text_string_to_metric_families(text.decode()))
    except ValueError:
        return None
    for family in families:
        if family.type == COUNTER and not all(sample.name.endswith(_TOTAL) for sample in family.samples):
            # OpenMetrics does not allow counters with this name.
            family.type = "unknown"
    return [family for family in families if family.name.startswith(RELAYED_PREFIX) and family.samples]
