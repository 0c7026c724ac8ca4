"""Compares this build with an earlier one on one machine: the change of each row with its 95 % interval."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.peers import CACHE, ROOT, install_build, python

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Bench, Measure

HEAD = "| measure | before | now | now / before, with 95 % interval |\n|---|---|---|---|"
# Student's t for 95 %, by degrees of freedom from 1 on; beyond the last, the normal distribution is used.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09)
_T_NORMAL = 1.96
MOST_TIMES = 1.05


class Change(NamedTuple):
    """The factor by which a figure changed: the mean ratio of the pairs, and its 95 % interval."""

    times: float
    least: float
    most: float


def change_of(pairs: Sequence[tuple[float, float]]) -> Change:
    """Return the change between pairs of figures, before and now: at least two pairs, all positive."""
    logs = [math.log(now / before) for before, now in pairs]
    mean = statistics.fmean(logs)
    t = _T[len(logs) - 2] if len(logs) - 2 < len(_T) else _T_NORMAL
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return Change(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def compare(measures: Sequence[Measure], bench: Bench, commit: str, count: int) -> int:
    """Measure both builds alternately and print a row for each measure; return 1 if one may be 5 % worse."""
    builds = (_installed(commit), python())
    print(HEAD, flush=True)
    is_slower = False
    for measure in measures:
        pairs = _pairs(measure, bench, builds, max(2, count))
        if pairs:
            is_slower = change_of(pairs).most > MOST_TIMES or is_slower
        print(_row(measure, pairs), flush=True)
    return int(is_slower)


def _pairs(measure: Measure, bench: Bench, builds: tuple[str, str], count: int) -> list[tuple[float, float]]:
    """Return the figures of both builds in pairs; empty if one of them has no figure."""
    pairs = []
    for number in range(count):
        # Each goes first equally often.
        figures = {build: _figure(measure, bench, build) for build in (builds if number % 2 else builds[::-1])}
        before, now = (figures[build] for build in builds)
        if before is None or now is None or min(before, now) <= 0:
            return []
        pairs.append((before, now))
    return pairs


def _figure(measure: Measure, bench: Bench, build: str) -> float | None:
    os.environ["BENCH_PYTHON"] = build
    try:
        return measure.take(bench)["ours"].value
    except (OSError, AssertionError, LookupError, ValueError, subprocess.SubprocessError):
        return None
    finally:
        del os.environ["BENCH_PYTHON"]


def _row(measure: Measure, pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return f"| {measure.title} | | | not measured: one of the two has no figure |"
    change = change_of(pairs)
    before, now = (f"{statistics.median(each):.{measure.digits}f} {measure.unit}" for each in zip(*pairs, strict=True))
    return f"| {measure.title} | {before} | {now} | {change.times:.3f} ({change.least:.3f} to {change.most:.3f}) |"


def _installed(commit: str) -> str:
    """Install the build of a commit; return its interpreter."""
    words = ["git", "rev-parse", "--short=12", f"{commit}^{{commit}}"]
    name = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    folder = CACHE / f"bench-{name}"
    with tempfile.TemporaryDirectory(prefix="bench-before-") as source:
        archive = subprocess.run(["git", "archive", name], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        install_build(folder, Path(source))
    return str(folder / "bin/python")
