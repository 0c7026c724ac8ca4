"""Measures ours and the peers in turn: `python -m benchmarks [--quick] [--only NAME …] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import logs, processes, standing, tailnet, tailnet_shown
from benchmarks.measure import Bench, Measure, Result
from benchmarks.peers import PEERS, install
from benchmarks.running import build

MEASURES = (*processes.MEASURES, *standing.MEASURES, *logs.MEASURES, *tailnet.MEASURES, *tailnet_shown.MEASURES)
# `faults` stands for every measure whose name begins with it.
NAMES = sorted({name for measure in MEASURES for name in (measure.name, measure.name.partition("-")[0])})


def main() -> int:
    """Run the measures and print the table; 1 where ours misses a target."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and lines: for a look, not for a figure")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES)
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    install()
    with tempfile.TemporaryDirectory(prefix="bench-programs-") as folder:
        peers = tuple(peer for peer in PEERS if peer.available())
        bench = Bench(build(Path(folder)), peers, 3 if options.quick else 9, options.quick)
        rows = []
        for measure in MEASURES:
            if not options.only or {measure.name, measure.name.partition("-")[0]} & set(options.only):
                sys.stderr.write(f"measuring {measure.name} …\n")
                rows.append((measure, measure.take(bench)))
    print(machine())
    print(table(rows))
    if options.json:
        found = {
            measure.name: {name: result._asdict() for name, result in results.items()} for measure, results in rows
        }
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(measure.reached(results) for measure, results in rows) else 1


def machine() -> str:
    """Say what this was measured on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    absent = [peer.name for peer in PEERS if not peer.available()]
    lines = [
        (
            f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({models[0] if models else platform.machine()}), "
            f"Linux {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
        ),
    ]
    return "\n".join([*lines, *([f"absent: {', '.join(absent)}"] if absent else []), ""])


def table(rows: list[tuple[Measure, dict[str, Result]]]) -> str:
    """Return the table: ours, the target, and each peer with its ratio to ours."""
    lines = ["| measure | ours | target | reached | peers (ratio to ours) |", "|---|---|---|---|---|"]
    for measure, results in rows:
        ours = results["ours"]
        peers = [_peer(measure, name, result, ours) for name, result in results.items() if name != "ours"]
        reached = "yes" if measure.reached(results) else "**no**"
        note = f" ({ours.note})" if ours.note else ""
        lines.append(
            f"| {measure.title} | {_figure(measure, ours)}{note} | {measure.target} | {reached} | {', '.join(peers)} |"
        )
    return "\n".join(lines)


def _peer(measure: Measure, name: str, result: Result, ours: Result) -> str:
    ratio = f" ({result.value / ours.value:.2f}x)" if result.value is not None and ours.value else ""
    note = f" [{result.note}]" if result.note else ""
    return f"{name} {_figure(measure, result)}{ratio}{note}"


def _figure(measure: Measure, result: Result) -> str:
    return "never" if result.value is None else f"{result.value:.{measure.digits}f} {measure.unit}"


if __name__ == "__main__":
    sys.exit(main())
