"""The page of metrics is generated from the table, and documents every metric in it."""

from __future__ import annotations

from scripts.metrics_page import page
from supervisor.telemetry.metrics import METRICS
from tests.conventions.tree import ROOT, read


def test_the_page_is_current() -> None:
    """After a change: python -m scripts.metrics_page > docs/reference/metrics.md."""
    assert (ROOT / "docs/reference/metrics.md").read_text() == page()


def test_every_metric_is_documented() -> None:
    """Each has its line on the page, with every label."""
    text = read("docs/reference/metrics.md")
    for metric in METRICS.values():
        line = next(row for row in text.splitlines() if row.startswith(f"| `{metric.full_name}` | {metric.kind} |"))
        assert all(f"`{label.name}`" in line for label in metric.labels)
