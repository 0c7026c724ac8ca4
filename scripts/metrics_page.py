"""Writes docs/reference/metrics.md from the one table of metrics: `python scripts/metrics_page.py > PAGE`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from supervisor.moltis import DURATION_BUCKETS_S
from supervisor.telemetry.metrics import HISTOGRAM, RELAYED_PREFIX, SECTIONS

if TYPE_CHECKING:
    from supervisor.telemetry.metrics import Label, Metric, Section

HEAD = """\
# Metrics

<!-- This page is written by scripts/metrics_page.py from supervisor/telemetry/metrics.py. -->

`GET /metrics` returns them; it requires authentication.
[How to monitor with Prometheus](../how-to/monitor-with-prometheus.md) has the scrape configuration and alerts.
All names begin with `moltis_supervisor_`, which distinguishes them from Moltis' own.
Names end with the unit, and those of counters with `_total`.
Labels have few values, all known in advance: names of processes come from the settings, routes from the API.
Counters restart from zero with the supervisor.
Until the first scrape no library is loaded for metrics, and the loop's lag is not measured.
"""
RELAYED = f"""\
## tailscaled's own

tailscaled's own metrics, as shown by `tailscale metrics print`, are included in each scrape under their own names.
These begin with `{RELAYED_PREFIX}`; which ones exist depends on its version.
In 1.102 most are bytes and packets by path (`tailscaled_inbound_bytes_total`, `tailscaled_outbound_packets_total` …).
The others are dropped packets, advertised and approved routes, health messages, and the region of the home relay.
`moltis_supervisor_tailscaled_metrics_up` is whether they are included.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *map(_section, SECTIONS), _buckets(), RELAYED])


def _section(section: Section) -> str:
    lines = [f"## {section.title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(_row, section.metrics), ""])


def _row(metric: Metric) -> str:
    labels = "; ".join(map(_label, metric.labels)) or "none"
    return f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.help} |"


def _label(label: Label) -> str:
    values = ", ".join(f"`{value}`" for value in label.values)
    return f"`{label.name}`: {label.description or values}"


def _buckets() -> str:
    edges = ", ".join(f"{edge:g}" for edge in DURATION_BUCKETS_S)
    return f"Each {HISTOGRAM} has the buckets of Moltis' own durations: {edges} seconds.\n"


if __name__ == "__main__":
    sys.stdout.write(page())
