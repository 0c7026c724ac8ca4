"""The Grafana dashboard: every query has a result for a real run, and the panels do not overlap."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.telemetry.metrics import METRICS, PREFIX
from tests.support.waiting import wait_until
from tests.telemetry.dashboard import board, crash, queries, scraped_run

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 24
DEADLINE_S = 60.0


def test_every_query_gives_something(tmp_path: Path) -> None:
    """For each, a real Prometheus returns at least one series, and all have the labels in the panel's legend."""
    with scraped_run(tmp_path) as (node, prometheus):
        crash(node)
        assert node.call("POST", "/api/backups")[0] == 202
        for query in queries():
            found = wait_until(
                lambda query=query: prometheus.ask(query.expr),  # type: ignore[misc]
                DEADLINE_S,
                f"{query.panel} to have data: {query.expr}",
            )
            labels = set(re.findall(r"{{(\w+)}}", query.legend))
            assert all(labels <= set(series["metric"]) for series in found), (query, found)


def test_the_metrics_exist() -> None:
    """Every metric in a query is in the table of metrics."""
    names = {name for query in queries() for name in re.findall(rf"{PREFIX}(\w+)", query.expr)}
    known = set(METRICS) | {f"{metric.name}_bucket" for metric in METRICS.values()}
    assert names
    assert names <= known


def test_the_panels_fill_the_grid() -> None:
    """No two panels overlap, none is wider than the grid, and each has a description."""
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= WIDTH
        assert panel["type"] == "row" or panel["description"].endswith(".")
        taken |= cells
    assert len({panel["id"] for panel in board()["panels"]}) == len(board()["panels"])
