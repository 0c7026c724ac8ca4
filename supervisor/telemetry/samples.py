"""Turns the facts into samples of the table's metrics. Pure: no clock, no I/O, no library."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.counts import END_KINDS, LOGIN_RESULTS, OTHER, Durations
from supervisor.core.health import judge, ready
from supervisor.core.tailnet import STATES
from supervisor.telemetry.table import LEVELS, PEERS, PROCESS_STATES, STATUSES, TAILNET_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.core.counts import Counts
    from supervisor.core.snapshot import PeerView, ProcessView, TailnetView
    from supervisor.telemetry.facts import Facts

_SUPERVISOR = "supervisor"


class Sample(NamedTuple):
    """One value of one metric, with its labels in the order of the table."""

    name: str
    labels: tuple[str, ...]
    value: float | Durations


def samples(facts: Facts) -> Iterator[Sample]:
    """Yield everything."""
    for part in (_supervisor, _health, _processes, _logs, _tailnet, _http):
        for name, labels, value in part(facts):
            yield Sample(name, labels, value)


if TYPE_CHECKING:
    Found = Iterator[tuple[str, tuple[str, ...], float | Durations]]


def _supervisor(facts: Facts) -> Found:
    snapshot = facts.snapshot
    yield "build_info", (facts.version, facts.python), 1
    yield "start_time_seconds", (), snapshot.started_s + snapshot.wall_offset_s
    yield "uptime_seconds", (), facts.now_s - snapshot.started_s
    yield "loop_lag_seconds", (), facts.lag
    yield "orphans_reaped_total", (), snapshot.orphans_reaped
    yield "exposed_ports", (), len(snapshot.exposed)


def _health(facts: Facts) -> Found:
    verdict = judge(facts.snapshot, facts.now_s)
    yield from _one_of("health_status", (), STATUSES, verdict.status)
    yield from _counts("health_changes_total", (), STATUSES, facts.snapshot.health.changes)
    for part in verdict.components:
        yield from _one_of("health_component_status", (part.name,), STATUSES, part.status)
    yield "ready", (), ready(facts.snapshot, facts.now_s)[0]


def _processes(facts: Facts) -> Found:
    for view in facts.snapshot.processes:
        name = (view.name,)
        yield from _one_of("process_state", name, PROCESS_STATES, view.state.value)
        yield "process_ready", name, view.ready
        yield from _counts("process_restarts_total", name, END_KINDS, view.restarts_by)
        yield "process_failures", name, view.failures
        if view.pid is not None and view.started_s is not None:
            yield from _life(facts, view.name, view.started_s)
        yield from _last_exit(facts, view)
    yield from _life(facts, _SUPERVISOR, facts.snapshot.started_s)
    for process, usage in facts.usage.items():
        if usage.memory_bytes is not None:
            yield "process_resident_memory_bytes", (process,), usage.memory_bytes
        if usage.cpu_s is not None:
            yield "process_cpu_seconds_total", (process,), usage.cpu_s


def _life(facts: Facts, process: str, started_s: float) -> Found:
    yield "process_start_time_seconds", (process,), started_s + facts.snapshot.wall_offset_s
    yield "process_uptime_seconds", (process,), facts.now_s - started_s


def _last_exit(facts: Facts, view: ProcessView) -> Found:
    if not view.exits:
        return
    last, name = view.exits[-1], (view.name,)
    if last.code is not None:
        yield "process_last_exit_code", name, last.code
    if last.signal is not None:
        yield "process_last_exit_signal", name, last.signal
    yield "process_last_exit_timestamp_seconds", name, last.at_s + facts.snapshot.wall_offset_s


def _logs(facts: Facts) -> Found:
    logged = facts.logged
    names = [*(view.name for view in facts.snapshot.processes), _SUPERVISOR]
    cells = {(process, level): (0, 0) for process in names for level in LEVELS} | dict(logged.cells)
    for key, (lines, size_bytes) in cells.items():
        yield "log_lines_total", key, lines
        yield "log_bytes_total", key, size_bytes
    yield "log_lines_dropped_total", (), logged.dropped
    yield "log_lines_held_back_total", (), logged.held_back
    yield "log_redactions_total", (), logged.masked


def _tailnet(facts: Facts) -> Found:
    view = facts.snapshot.tailnet
    if view.mode == "off":
        return
    yield "tailnet_info", (view.mode, view.version), 1
    yield from _one_of("tailnet_state", (), TAILNET_STATES, view.state if view.state in STATES else OTHER)
    yield "tailnet_up", (), view.up
    yield "tailnet_control_connected", (), view.control
    yield "tailnet_served", (), view.serve.mode == "serve" and not view.serve.why
    yield "tailnet_warnings", (), len(view.warnings) + bool(view.serve.why)
    peers = Counter(map(_connection, view.peers))
    for kind in PEERS:
        yield "tailnet_peers", (kind,), peers[kind]
    yield from _moments(facts, view)
    yield from _counts("tailnet_logins_total", (), LOGIN_RESULTS, view.logins)
    yield "tailnet_connect_duration_seconds", (), view.connects
    yield "tailnet_disconnect_duration_seconds", (), view.disconnects
    yield "tailscaled_metrics_up", (), facts.relayed.text is not None
    yield "tailscaled_metrics_errors_total", (), facts.relayed.errors


def _moments(facts: Facts, view: TailnetView) -> Found:
    expiry_s = _epoch_s(view.key_expiry)
    if expiry_s is not None:
        yield "tailnet_key_expiry_timestamp_seconds", (), expiry_s
    if view.first_up_s is not None:
        yield "tailnet_first_connected_seconds", (), view.first_up_s - facts.snapshot.started_s


def _connection(peer: PeerView) -> str:
    if not peer.online:
        return "offline"
    return "direct" if peer.direct else "relayed"


def _epoch_s(text: str) -> float | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _http(facts: Facts) -> Found:
    for endpoint_method_status, count in facts.requests.counts.items():
        yield "http_requests_total", endpoint_method_status, count
    for endpoint_method, durations in facts.requests.durations.items():
        yield "http_request_duration_seconds", endpoint_method, durations
    yield "http_event_streams_active", (), facts.requests.streams


def _one_of(name: str, labels: tuple[str, ...], values: Iterable[str], current: str) -> Found:
    for value in values:
        yield name, (*labels, value), value == current


def _counts(name: str, labels: tuple[str, ...], values: Iterable[str], counts: Counts) -> Found:
    found = dict(counts)
    for value in values:
        yield name, (*labels, value), found.get(value, 0)
