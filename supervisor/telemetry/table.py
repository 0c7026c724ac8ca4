"""Every metric there is: name, type, labels with the values they may have, and help. The reference is made from it."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.core.counts import END_KINDS, LOGIN_RESULTS, METHODS, OTHER
from supervisor.core.model import State
from supervisor.core.tailnet import STATES

PREFIX = "moltis_supervisor_"
# What tailscaled tells of itself is handed on under the names that it has there.
RELAYED_PREFIX = "tailscaled_"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
LEVELS = ("debug", "info", "warning", "error", "critical")
STATUSES = ("pass", "warn", "fail")
PEERS = ("direct", "relayed", "offline")
PROCESS_STATES = tuple(state.value for state in State)
TAILNET_STATES = (*STATES, OTHER)
_ONE_EACH = "1 for the one that holds, 0 for the others"


class Label(NamedTuple):
    """One label: ``values`` are all it may have, where these are known; ``said`` puts them into words."""

    name: str
    values: tuple[str, ...] = ()
    said: str = ""


class Metric(NamedTuple):
    """One line of the table; ``name`` is without the prefix."""

    name: str
    kind: str
    help: str
    labels: tuple[Label, ...] = ()

    @property
    def full_name(self) -> str:
        """Return the name that it has in Prometheus."""
        return PREFIX + self.name


class Section(NamedTuple):
    """Metrics that belong together."""

    title: str
    metrics: tuple[Metric, ...]


_PROCESS = Label("process", said="a process's name")
_WITH_SUPERVISOR = Label("process", said="a process's name, or `supervisor`")
_LOGGED = (_WITH_SUPERVISOR, Label("level", LEVELS))
_ENDPOINT = Label("endpoint", said=f"a route as the API's page has it, or `{OTHER}`")
_METHOD = Label("method", METHODS)

SECTIONS = (
    Section(
        "The supervisor",
        (
            Metric(
                "build_info",
                GAUGE,
                "Always 1; the labels tell the version, and that of Python.",
                (Label("version", said="the supervisor's version"), Label("python", said="Python's version")),
            ),
            Metric("start_time_seconds", GAUGE, "When the supervisor was started, in seconds since the epoch."),
            Metric("uptime_seconds", GAUGE, "For how long the supervisor has been running."),
            Metric(
                "loop_lag_seconds",
                HISTOGRAM,
                "How late the event loop was for a timer, once a second since the first scrape.",
            ),
            Metric(
                "orphans_reaped_total", COUNTER, "Processes whose parents had ended before them, and that were reaped."
            ),
            Metric("exposed_ports", GAUGE, "Ports that every tailnet peer reaches past serve."),
        ),
    ),
    Section(
        "Health",
        (
            Metric("health_status", GAUGE, f"The combined verdict: {_ONE_EACH}.", (Label("status", STATUSES),)),
            Metric(
                "health_changes_total",
                COUNTER,
                "Changes of the combined verdict, by what it changed to.",
                (Label("status", STATUSES),),
            ),
            Metric(
                "health_component_status",
                GAUGE,
                f"What one component means for the whole: {_ONE_EACH}.",
                (Label("component", said="a process's name, `tailnet` or `exposure`"), Label("status", STATUSES)),
            ),
            Metric("ready", GAUGE, "1 while traffic is welcome, as /readyz says."),
        ),
    ),
    Section(
        "Processes",
        (
            Metric(
                "process_state",
                GAUGE,
                f"The state of a process: {_ONE_EACH}.",
                (_PROCESS, Label("state", PROCESS_STATES)),
            ),
            Metric("process_ready", GAUGE, "1 while a process is ready.", (_PROCESS,)),
            Metric(
                "process_restarts_total",
                COUNTER,
                "Restarts of a process, by what the end before each comes down to.",
                (_PROCESS, Label("reason", END_KINDS)),
            ),
            Metric("process_failures", GAUGE, "Failures of a process in a row.", (_PROCESS,)),
            Metric(
                "process_start_time_seconds",
                GAUGE,
                "When a running process was started, in seconds since the epoch.",
                (_WITH_SUPERVISOR,),
            ),
            Metric("process_uptime_seconds", GAUGE, "For how long a process has been running.", (_WITH_SUPERVISOR,)),
            Metric(
                "process_last_exit_code",
                GAUGE,
                "The exit code of a process's last end; absent where a signal ended it.",
                (_PROCESS,),
            ),
            Metric(
                "process_last_exit_signal",
                GAUGE,
                "The number of the signal that ended a process; absent where its last end had an exit code.",
                (_PROCESS,),
            ),
            Metric(
                "process_last_exit_timestamp_seconds",
                GAUGE,
                "When a process last ended, in seconds since the epoch.",
                (_PROCESS,),
            ),
            Metric(
                "process_resident_memory_bytes",
                GAUGE,
                "Resident memory of a process itself, without what it has started.",
                (_WITH_SUPERVISOR,),
            ),
            Metric(
                "process_cpu_seconds_total",
                COUNTER,
                "Processor time that a process itself has used since it was started.",
                (_WITH_SUPERVISOR,),
            ),
        ),
    ),
    Section(
        "Logs",
        (
            Metric("log_lines_total", COUNTER, "Lines taken.", _LOGGED),
            Metric("log_bytes_total", COUNTER, "Bytes of the lines taken, without colour codes.", _LOGGED),
            Metric("log_lines_dropped_total", COUNTER, "Lines dropped because nobody read the merged log."),
            Metric("log_lines_held_back_total", COUNTER, "Lines of tailscaled's known noise that were held back."),
            Metric("log_redactions_total", COUNTER, "Places in the log where a secret was masked."),
        ),
    ),
    Section(
        "The tailnet",
        (
            Metric(
                "tailnet_info",
                GAUGE,
                "Always 1; the labels tell the mode, and tailscaled's version once it is known.",
                (Label("mode", ("embedded", "attach")), Label("version", said="tailscaled's version")),
            ),
            Metric(
                "tailnet_state", GAUGE, f"The state of the tailnet: {_ONE_EACH}.", (Label("state", TAILNET_STATES),)
            ),
            Metric("tailnet_up", GAUGE, "1 while the device is in its tailnet."),
            Metric("tailnet_control_connected", GAUGE, "1 while tailscaled has its connection to the control server."),
            Metric(
                "tailnet_served", GAUGE, "1 while the app is published in the tailnet as the settings want it, else 0."
            ),
            Metric("tailnet_warnings", GAUGE, "Things of the tailnet to look after, though it may be up."),
            Metric(
                "tailnet_peers",
                GAUGE,
                "Other devices of the tailnet, as of half a minute ago at most: offline ones, and of the others those "
                "with a direct path in use and those without.",
                (Label("connection", PEERS),),
            ),
            Metric(
                "tailnet_key_expiry_timestamp_seconds",
                GAUGE,
                "When the device's key expires, in seconds since the epoch; absent where it does not.",
            ),
            Metric(
                "tailnet_first_connected_seconds",
                GAUGE,
                "How long after the supervisor's start the device was in its tailnet for the first time.",
            ),
            Metric("tailnet_logins_total", COUNTER, "Logins, by what came of them.", (Label("result", LOGIN_RESULTS),)),
            Metric(
                "tailnet_connect_duration_seconds",
                HISTOGRAM,
                "From an owner's order to connect until the device was in its tailnet.",
            ),
            Metric(
                "tailnet_disconnect_duration_seconds",
                HISTOGRAM,
                "From an owner's order to disconnect until the device was out of its tailnet.",
            ),
            Metric(
                "tailscaled_metrics_up", GAUGE, "1 where tailscaled gave its own metrics for this very scrape, else 0."
            ),
            Metric("tailscaled_metrics_errors_total", COUNTER, "Scrapes for which tailscaled gave no metrics."),
        ),
    ),
    Section(
        "HTTP",
        (
            Metric(
                "http_requests_total",
                COUNTER,
                "Requests, counted when their answer began.",
                (_ENDPOINT, _METHOD, Label("status", said="the status of the answer")),
            ),
            Metric(
                "http_request_duration_seconds",
                HISTOGRAM,
                "From a request's head until its answer began.",
                (_ENDPOINT, _METHOD),
            ),
            Metric("http_event_streams_active", GAUGE, "Open event streams: panels, and followers of the log."),
        ),
    ),
)
METRICS = {metric.name: metric for section in SECTIONS for metric in section.metrics}
