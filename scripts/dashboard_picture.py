"""Draws docs/images/dashboard.svg: the results of the Grafana dashboard's queries for a few minutes of a real run.

`make screenshots` calls it. It draws Prometheus' own results in the dashboard's layout, without Grafana.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from tests.telemetry.dashboard import board, crash, expression, scraped_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tailnet.node import Node
    from tests.telemetry.scraping import Prometheus

IMAGE = Path(__file__).resolve().parents[1] / "docs/images/dashboard.svg"
RUN_S = 240
BAR_S, POINT_S = 10, 3
COLUMN, ROW, GAP, TOP, LEGEND = 50, 24, 6, 30, 22
COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37872d")
RATES = {"cps": " /s", "reqps": " req/s"}
BINARY, LONG_S = 1024, 100
SHADES = {"green": "#37872d", "red": "#c4162a", "#EAB839": "#b8860b", "blue": "#1f60c4"}
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #ccccdc } .title { font-weight: 500 } .row { font-size: 15px }
.small { font-size: 10.5px; fill: #9fa7b3 } .value { font-size: 26px; font-weight: 500;
text-anchor: middle; fill: #fff }
.panel { fill: #181b1f; stroke: #2c3235 } .grid { stroke: #2c3235 }
</style>
"""


def main() -> None:
    """Run, and draw the picture."""
    with tempfile.TemporaryDirectory() as folder, scraped_run(Path(folder)) as (node, prometheus):
        begin_s = time.time()  # noqa: TID251 - Prometheus uses wall-clock time
        live_through_it(node)
        draw(prometheus, begin_s, begin_s + RUN_S)


def live_through_it(node: Node) -> None:
    """Cause what the picture shows: crashes, a disconnect, a manual restart, and snapshots."""
    steps: dict[int, Callable[[], object]] = {
        20: lambda: node.call("POST", "/api/backups"),
        50: lambda: crash(node),
        80: node.disconnect,
        120: node.connect,
        150: lambda: node.call("POST", "/api/backups"),
        170: lambda: node.call("POST", "/api/processes/moltis/restart"),
        200: lambda: crash(node),
        RUN_S: lambda: None,
    }
    begin_s = time.monotonic()
    for due_s, do in steps.items():
        time.sleep(max(0.0, begin_s + due_s - time.monotonic()))
        do()


def draw(prometheus: Prometheus, begin_s: float, end_s: float) -> None:
    """Write the picture."""
    panels = board()["panels"]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels) * ROW + GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" role="img">\n', STYLE]
    parts.append(
        f'<title>Results of the dashboard\'s queries</title><rect width="100%" height="{height}" fill="#111217"/>\n'
    )
    for panel in panels:
        place = panel["gridPos"]
        parts.append(f'<g transform="translate({place["x"] * COLUMN} {place["y"] * ROW})">')
        width, tall = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        if panel["type"] == "row":
            parts.append(f'<text class="row" x="8" y="18">{escape(panel["title"])}</text></g>\n')
            continue
        parts.append(f'<rect class="panel" x="3" y="3" width="{width}" height="{tall}" rx="3"/>')
        parts.append(f'<text class="title" x="12" y="21">{escape(panel["title"])}</text>')
        drawing = DRAWINGS[panel["type"]]
        parts.append(drawing(panel, series_of(prometheus, panel, begin_s, end_s), width, tall, (begin_s, end_s)))
        parts.append("</g>\n")
    IMAGE.write_text("".join([*parts, "</svg>\n"]))


Series = list[tuple[str, list[tuple[float, float]]]]


def series_of(prometheus: Prometheus, panel: dict[str, Any], begin_s: float, end_s: float) -> Series:
    """Return the results of the panel's queries: each series' legend and its points."""
    step_s = BAR_S if is_bars(panel) else POINT_S
    found: Series = []
    for target in panel["targets"]:
        for one in prometheus.range(expression(target["expr"], f"{step_s + 8}s"), begin_s, end_s, step_s):
            legend = target["legendFormat"]
            for name, value in one["metric"].items():
                legend = legend.replace("{{" + name + "}}", value)
            points = [(float(at), float(value)) for at, value in one["values"] if value != "NaN"]
            found.append((legend, points))
    # Bars of height zero would only take space from the others' names.
    seen = [one for one in found if any(value for _, value in one[1])] if is_bars(panel) else []
    return seen or found


def is_bars(panel: dict[str, Any]) -> bool:
    """Return whether the panel draws bars."""
    return bool(panel["fieldConfig"]["defaults"].get("custom", {}).get("drawStyle") == "bars")


def stat(panel: dict[str, Any], series: Series, width: int, tall: int, _span: tuple[float, float]) -> str:
    """Draw the last value, or the legend of the series that has it."""
    defaults = panel["fieldConfig"]["defaults"]
    if not series:
        return f'<text class="value" x="{width / 2}" y="{tall / 2 + 18}">{defaults.get("noValue", "no data")}</text>'
    legend, points = max(series, key=lambda one: one[1][-1][0])
    value = round(points[-1][1], defaults.get("decimals", 9))
    text, colour = (legend, "") if panel["options"]["textMode"] == "name" else (amount(value, defaults["unit"]), "")
    for step in defaults.get("thresholds", {}).get("steps", ()):
        colour = step["color"] if step["value"] is None or value >= step["value"] else colour
    for mapping in defaults.get("mappings", ()):
        text = mapping["options"].get(f"{value:g}", {"text": text})["text"]
    box = f'<rect x="3" y="28" width="{width}" height="{tall - 25}" rx="3" fill="{SHADES[colour]}"/>' if colour else ""
    return f'{box}<text class="value" x="{width / 2}" y="{tall / 2 + 20}">{escape(text)}</text>'


def timeline(panel: dict[str, Any], series: Series, width: int, tall: int, span: tuple[float, float]) -> str:
    """Draw one lane per series, in the colour of its value."""
    values = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    lane = (tall - TOP - LEGEND) / max(1, len(series))
    left, scale = 110, (width - 122) / (span[1] - span[0])
    parts = []
    for place, (legend, points) in enumerate(series):
        y = TOP + 4 + place * lane
        parts.append(f'<text class="small" x="12" y="{y + lane / 2 + 3:.0f}">{escape(legend)}</text>')
        begin = 0
        for at in range(1, len(points) + 1):
            if at < len(points) and points[at][1] == points[begin][1]:
                continue
            x, colour = left + (points[begin][0] - span[0]) * scale, SHADES[values[f"{points[begin][1]:g}"]["color"]]
            wide = (points[min(at, len(points) - 1)][0] - points[begin][0]) * scale
            parts.append(
                f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.1f}" height="{lane * 0.8:.0f}" fill="{colour}"/>'
            )
            begin = at
    known = [(option["text"], SHADES[option["color"]]) for option in values.values()]
    return "".join(parts) + legends(known, width, tall)


def chart(panel: dict[str, Any], series: Series, width: int, tall: int, span: tuple[float, float]) -> str:
    """Draw lines or bars, stacked if the panel stacks them."""
    defaults = panel["fieldConfig"]["defaults"]
    stacked, bars = defaults["custom"]["stacking"]["mode"] == "normal", is_bars(panel)
    base: dict[float, float] = {}
    drawn = []
    for legend, points in series:
        lifted = (
            [(at, base.get(at, 0.0), base.get(at, 0.0) + value) for at, value in points]
            if stacked
            else [(at, 0.0, value) for at, value in points]
        )
        base.update({at: upper for at, _, upper in lifted} if stacked else {})
        drawn.append((legend, lifted))
    most = max((upper for _, points in drawn for _, _, upper in points), default=0.0) * 1.1 or 1.0
    left, bottom, high = 70, tall - LEGEND - 6, tall - LEGEND - 6 - TOP - 6
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = bottom - high * share
        parts.append(f'<path class="grid" d="M{left} {y:.0f}H{width - 8}"/>')
        parts.append(f'<text class="small" x="12" y="{y + 4:.0f}">{amount(most * share, defaults["unit"])}</text>')
    scale = (width - 8 - left) / (span[1] - span[0])
    for place, (_, lifted) in enumerate(drawn):
        colour = COLOURS[place % len(COLOURS)]
        xy = [
            (left + (at - span[0]) * scale, bottom - upper / most * high, (upper - low) / most * high)
            for at, low, upper in lifted
        ]
        if bars:
            parts += [
                f'<rect x="{x - 5:.0f}" y="{y:.0f}" width="9" height="{size:.0f}" fill="{colour}"/>'
                for x, y, size in xy
                if size
            ]
        else:
            line = " ".join(f"{x:.0f},{y:.1f}" for x, y, _ in xy)
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.3" points="{line}"/>')
    known = [(legend, COLOURS[place % len(COLOURS)]) for place, (legend, _) in enumerate(drawn)]
    return "".join(parts) + legends(known, width, tall)


def legends(known: list[tuple[str, str]], width: int, tall: int) -> str:
    """Draw the names of the series below, as many as fit."""
    parts, x = [], 12.0
    for text, colour in known:
        wide = 26 + 6 * len(text)
        if x + wide > width:
            break
        parts.append(f'<rect x="{x:.0f}" y="{tall - 12}" width="12" height="3" fill="{colour}"/>')
        parts.append(f'<text class="small" x="{x + 16:.0f}" y="{tall - 7}">{escape(text)}</text>')
        x += wide
    return "".join(parts)


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, short enough for the axis."""
    if unit in {"bytes", "Bps"}:
        for prefix in ("", "Ki", "Mi", "Gi"):
            if value < BINARY or prefix == "Gi":
                return f"{value:.3g} {prefix}B{'/s' if unit == 'Bps' else ''}"
            value /= BINARY
    if unit == "s":
        return (
            f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s" if value < LONG_S else f"{value / 60:.3g} min"
        )
    return f"{value:.3g}{RATES.get(unit, '')}"


DRAWINGS = {"stat": stat, "state-timeline": timeline, "timeseries": chart}

if __name__ == "__main__":
    main()
