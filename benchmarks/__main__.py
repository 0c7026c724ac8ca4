"""Measures our supervisor and its peers: `python -m benchmarks [--quick] [--only NAME …] [--compare] [--json FILE]`.

With `--before COMMIT` it compares the build of that commit with this one instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    backups,
    baseline,
    before,
    growth,
    log_lines,
    logs,
    panel,
    processes,
    standing,
    tailnet,
    tailnet_shown,
)
from benchmarks.measure import INTERRUPTED, Bench, Measure, Result, interrupted, take
from benchmarks.peers import PEERS, install
from benchmarks.running import build
from tests.support.backups import AS_PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

MEASURES = (
    *(*processes.MEASURES, *growth.MEASURES, *standing.MEASURES, *logs.MEASURES, *log_lines.MEASURES, *panel.MEASURES),
    *(*tailnet.MEASURES, *tailnet_shown.MEASURES, *backups.MEASURES),
)
# `faults` selects every measure whose name begins with it.
HEAD = "| measure | ours | target | reached | peers (ratio to ours) |\n|---|---|---|---|---|"
_BASELINE = baseline.PATH.relative_to(Path(__file__).parents[1])
NAMES = sorted({name for measure in MEASURES for name in (measure.name, measure.name.partition("-")[0])})


def main() -> int:
    """Run the measures and print each row once measured; return 1 if ours misses a target, 130 if interrupted."""
    os.environ[AS_PUBLISHED] = "1"
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and lines: quick, but not accurate")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--compare", action="store_true", help=f"exit with 1 if a ratio is worse than in {_BASELINE}")
    parser.add_argument("--write-baseline", action="store_true", help=f"write the ratios to {_BASELINE}")
    parser.add_argument("--before", metavar="COMMIT", help="compare that build with this one, without peers")
    parser.add_argument("--pairs", type=int, default=10, help="number of rounds with --before")
    options = parser.parse_args()
    chosen = [
        measure
        for measure in MEASURES
        if not options.only or {measure.name, measure.name.partition("-")[0]} & set(options.only)
    ]
    # Handled like Ctrl-C, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options, chosen)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before the first row\n")
        return INTERRUPTED


def _run(options: argparse.Namespace, chosen: Sequence[Measure]) -> int:
    install()
    with tempfile.TemporaryDirectory(prefix="bench-programs-") as folder:
        peers = tuple(peer for peer in PEERS if peer.available() and not (options.before and peer.name != "ours"))
        bench = Bench(build(Path(folder)), peers, 3 if options.quick else 9, options.quick)
        if options.before:
            return before.compare(chosen, bench, options.before, options.pairs)
        print(f"{machine()}\n{HEAD}", flush=True)
        found: dict[str, dict[str, Result]] = {}
        status = take_all(chosen, bench, options.json, found)
    if options.write_baseline:
        baseline.write(found)
    if not options.compare or status == INTERRUPTED:
        return status
    worse = baseline.worse(found)
    print("\n".join(["", *worse] if worse else ["", "no ratio is worse than before"]))
    return int(bool(worse))


def take_all(
    measures: Sequence[Measure],
    bench: Bench,
    json_path: str | None = None,
    found: dict[str, dict[str, Result]] | None = None,
) -> int:
    """Run the measures in order; print each row at once, and store the figures as JSON and in ``found``."""
    found = {} if found is None else found
    missed = False
    for measure in measures:
        sys.stderr.write(f"measuring {measure.name} …\n")
        try:
            results = found[measure.name] = take(measure, bench)
        except KeyboardInterrupt:
            return interrupted(measure)
        print(row(measure, results), flush=True)
        missed = missed or not is_reached(measure, results)
        if json_path:
            figures = {name: {peer: one._asdict() for peer, one in each.items()} for name, each in found.items()}
            Path(json_path).write_text(json.dumps(figures, indent=1) + "\n")
    return int(missed)


def is_reached(measure: Measure, results: dict[str, Result]) -> bool:
    """Return whether ours reaches the target; without a figure it does not."""
    return results["ours"].value is not None and measure.reached(results)


def machine() -> str:
    """Return a description of the machine."""
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


def row(measure: Measure, results: dict[str, Result]) -> str:
    """Return a row of the table: ours, the target, and each peer with its ratio to ours."""
    ours = results["ours"]
    peers = [_peer(measure, name, result, ours) for name, result in results.items() if name != "ours"]
    reached = "yes" if is_reached(measure, results) else "**no**"
    note = f" ({ours.note})" if ours.note else ""
    return f"| {measure.title} | {_figure(measure, ours)}{note} | {measure.target} | {reached} | {', '.join(peers)} |"


def _peer(measure: Measure, name: str, result: Result, ours: Result) -> str:
    ratio = f" ({result.value / ours.value:.2f}x)" if result.value is not None and ours.value else ""
    note = f" [{result.note}]" if result.note else ""
    return f"{name} {_figure(measure, result)}{ratio}{note}"


def _figure(measure: Measure, result: Result) -> str:
    return "never" if result.value is None else f"{result.value:.{measure.digits}f} {measure.unit}"


if __name__ == "__main__":
    sys.exit(main())
