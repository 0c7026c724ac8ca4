"""The result of a scrape: every metric of the table, in both formats, from one snapshot."""

from __future__ import annotations

import gzip
import platform
from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from supervisor import __version__
from supervisor.core.backup import BackupState, BackupView, SnapshotView
from supervisor.core.counts import Durations, plus_one
from supervisor.core.process import State
from supervisor.core.snapshot import ExitView, HealthView, ListenerView, PeerView, ProcessView, ServeView, Snapshot
from supervisor.telemetry.metrics import HISTOGRAM, METRICS, PREFIX, ScrapeData, write
from tests.telemetry.promtool import promtool
from tests.web.test_tailscale import FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric as Family

USER_METRICS = b"""\
# TYPE tailscaled_inbound_bytes_total counter
# HELP tailscaled_inbound_bytes_total Counts the number of bytes received from other peers
tailscaled_inbound_bytes_total{path="derp"} 7
# TYPE tailscaled_advertised_routes gauge
# HELP tailscaled_advertised_routes Number of advertised network routes (e.g. by a subnet router)
tailscaled_advertised_routes 2
# TYPE tailscaled_inbound_dropped_packets_total counter
# HELP tailscaled_inbound_dropped_packets_total Counts the number of dropped packets
# TYPE somebody_else gauge
# HELP somebody_else Is not handed on.
somebody_else 1
"""
PROCESSES = (
    ProcessView(
        "tailscaled",
        State.RUNNING,
        pid=1,
        started_s=90.0,
        ready=True,
        ready_since_s=90.0,
        restarts_by=(("signal", 2), ("hung", 1)),
        exits=(ExitView(80.0, None, 9, 5.0, "ended by SIGKILL", kind="signal"),),
    ),
    ProcessView("moltis", State.BACKOFF, critical=True, failures=3, exits=(ExitView(95.0, 7, None, 1.0, "code 7"),)),
)
TAILNET = FULL._replace(
    state="connected",
    up=True,
    control=True,
    first_up_s=12.5,
    serve=ServeView("serve"),
    warnings=("one",),
    key_expiry="2027-01-01T00:00:00Z",
    peers=(
        PeerView("a", online=True, direct="1.2.3.4:5", relay="fra"),
        PeerView("b", online=True, relay="fra"),
        PeerView("c"),
        PeerView("d"),
    ),
    logins=(("succeeded", 1), ("refused", 3)),
    connects=Durations().plus(0.3).plus(4.0),
    disconnects=Durations().plus(100.0),
)
DATA = ScrapeData(
    snapshot=Snapshot(
        wall_offset_s=1_000_000.0,
        started_s=10.0,
        processes=PROCESSES,
        tailnet=TAILNET,
        health=HealthView("fail", changes=plus_one(plus_one((), "warn"), "fail")),
        orphans_reaped=4,
        exposed=(ListenerView("0.0.0.0", 1),),
        backup=BackupView(
            BackupState.IDLE,
            interval_s=300.0,
            last_good_s=95.0,
            snapshots=(SnapshotView("a", generation=1, sequence=2, size_bytes=10, added_bytes=5, duration_s=1.5),),
            taken=(("ok", 2), ("failed", 1)),
            restores=(("ok", 1),),
        ),
    ),
    now_s=100.0,
    usage={"tailscaled": (4096, 1.5), "supervisor": (None, None)},
    logged={("moltis", "error"): (3, 99)},
    dropped=5,
    held_back=6,
    masked=7,
    requests={("/health", "GET", "200"): 8},
    durations={("/health", "GET"): Durations().plus(0.002)},
    streams=1,
    relayed=USER_METRICS,
    relay_errors=2,
    lag=Durations().plus(0.0001).plus(0.2),
)
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def values(text: bytes, parser: Callable[[str], Iterable[Family]] = parse) -> dict[tuple[str, ...], float]:
    """Return each value by the name and the label values of its series."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser(text.decode())
        for sample in family.samples
    }


def test_every_metric_is_given() -> None:
    """There are no others, except tailscaled's own."""
    given = {family.name: family for family in parse(write(DATA, "").body.decode())}
    wanted = {metric.full_name.removesuffix("_total") for metric in METRICS.values()}
    assert {name for name in given if name.startswith(PREFIX)} == wanted
    for metric in METRICS.values():
        family = given[metric.full_name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        names = {label.name for label in metric.labels} | ({"le"} if metric.kind == HISTOGRAM else set())
        assert all(set(sample.labels) <= names for sample in family.samples)
        for label in metric.labels:
            told = {sample.labels[label.name] for sample in family.samples}
            assert not label.values or told <= set(label.values)


def test_the_values() -> None:
    """Each is the value in the snapshot."""
    found = values(write(DATA, "").body)
    for (name, *labels), value in {
        ("build_info", platform.python_version(), __version__): 1,
        ("start_time_seconds",): 1_000_010,
        ("process_state", "moltis", "backoff"): 1,
        ("process_state", "moltis", "running"): 0,
        ("process_restarts_total", "tailscaled", "signal"): 2,
        ("process_restarts_total", "moltis", "signal"): 0,
        ("process_uptime_seconds", "tailscaled"): 10,
        ("process_last_exit_signal", "tailscaled"): 9,
        ("process_last_exit_code", "moltis"): 7,
        ("process_resident_memory_bytes", "tailscaled"): 4096,
        ("orphans_reaped_total",): 4,
        ("log_lines_total", "error", "moltis"): 3,
        ("log_lines_total", "info", "moltis"): 0,
        ("log_redactions_total",): 7,
        ("health_status", "fail"): 1,
        ("health_changes_total", "warn"): 1,
        ("tailnet_state", "connected"): 1,
        ("tailnet_peers", "direct"): 1,
        ("tailnet_peers", "relayed"): 1,
        ("tailnet_peers", "offline"): 2,
        ("tailnet_key_expiry_timestamp_seconds",): 1_798_761_600,
        ("tailnet_first_connected_seconds",): 2.5,
        ("tailnet_logins_total", "refused"): 3,
        ("tailnet_connect_duration_seconds_bucket", "0.5"): 1,
        ("tailnet_connect_duration_seconds_bucket", "+Inf"): 2,
        ("tailnet_connect_duration_seconds_sum",): 4.3,
        ("tailnet_disconnect_duration_seconds_bucket", "60.0"): 0,
        ("tailnet_disconnect_duration_seconds_count",): 1,
        ("http_requests_total", "/health", "GET", "200"): 8,
        ("loop_lag_seconds_bucket", "0.25"): 2,
    }.items():
        assert found[(PREFIX + name, *labels)] == value, name
    assert (PREFIX + "process_last_exit_code", "tailscaled") not in found
    assert (PREFIX + "process_start_time_seconds", "moltis") not in found


def test_both_formats_say_the_same() -> None:
    """OpenMetrics is used on request, otherwise the text format; gzipped on request."""
    text, openmetrics = write(DATA, ""), write(DATA, OPENMETRICS, gzipped=True)
    assert text.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert (text.gzipped, openmetrics.gzipped) == (False, True)
    refused = write(DATA, "application/openmetrics-text;version=1.0.0;q=0, text/plain")
    assert refused.content_type == text.content_type
    assert values(text.body) == values(gzip.decompress(openmetrics.body), parse_openmetrics)


def test_promtool_finds_no_fault() -> None:
    """Names, units, types and help follow Prometheus' conventions."""
    assert not promtool("check", "metrics", text=write(DATA, "").body)


def test_what_tailscaled_tells_is_handed_on() -> None:
    """They keep their names; metrics of others are left out."""
    found = values(write(DATA, "").body)
    assert found["tailscaled_inbound_bytes_total", "derp"] == 7
    assert found["tailscaled_advertised_routes",] == 2
    assert ("somebody_else",) not in found
    assert (found[PREFIX + "tailscaled_metrics_up",], found[PREFIX + "tailscaled_metrics_errors_total",]) == (1, 2)


def test_a_tailscaled_that_tells_nothing_spoils_no_scrape() -> None:
    """The same applies to invalid metrics: the rest is exported, and a metric shows the failure."""
    for text in (None, b'tailscaled_x{path="a 1\n', b"\xff\xfe"):
        written = write(DATA._replace(relayed=text, relay_errors=2), "")
        found = values(written.body)
        assert (found[PREFIX + "tailscaled_metrics_up",], found[PREFIX + "tailscaled_metrics_errors_total",]) == (0, 3)
        assert written.relay_failed
        assert found[PREFIX + "orphans_reaped_total",] == 4
        assert not [key for key in found if key[0].startswith("tailscaled_")]


def test_without_a_tailnet_nothing_is_told_of_one() -> None:
    """There are no series for it, and nothing counts as missing."""
    data = DATA._replace(snapshot=DATA.snapshot._replace(tailnet=TAILNET._replace(mode="off")))
    written = write(data._replace(relayed=None, relay_errors=0), "")
    assert not written.relay_failed
    assert b"tailnet" not in written.body.replace(b"tailnet peer", b"")


def test_a_state_of_a_later_version_is_one_among_others() -> None:
    """Whatever tailscaled may call it, no new series appears."""
    strange = DATA._replace(snapshot=DATA.snapshot._replace(tailnet=TAILNET._replace(state="Hibernating")))
    assert values(write(strange, "").body)[PREFIX + "tailnet_state", "other"] == 1
