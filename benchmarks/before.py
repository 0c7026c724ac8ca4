"""Compares this build with an earlier one on one machine: the change of each row with its 95 % interval."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import interrupted, take
from benchmarks.peers import CACHE, ROOT, install_build, python

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Bench, Measure, Result

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
    """Measure both builds alternately and print a row for each measure.

    Returns 1 if one may be 5 % worse or was not measured, 130 if interrupted.
    """
    builds = (_installed(commit), python())
    print(HEAD, flush=True)
    holds = True
    for measure in measures:
        try:
            text, is_within = _row(measure, bench, builds, max(2, count))
        except KeyboardInterrupt:
            return interrupted(measure)
        print(text, flush=True)
        holds = holds and is_within
    return int(not holds)


def _row(measure: Measure, bench: Bench, builds: tuple[str, str], count: int) -> tuple[str, bool]:
    """Measure the builds in pairs; return the row, and whether the change is within the bound."""
    pairs: list[tuple[float, float]] = []
    for number in range(count):
        # Each goes first equally often.
        found = {build: _result(measure, bench, build) for build in (builds if number % 2 else builds[::-1])}
        before, now = (found[build] for build in builds)
        if before.value is None or now.value is None:
            whose, failed = ("before", before) if before.value is None else ("now", now)
            return f"| {measure.title} | | | not measured: {whose}: {failed.note or 'no figure'} |", False
        pairs.append((before.value, now.value))
    medians = [statistics.median(each) for each in zip(*pairs, strict=True)]
    told, is_within = _judged(measure, pairs, now._replace(value=medians[1]))
    figures = " | ".join(f"{median:.{measure.digits}f} {measure.unit}" for median in medians)
    return f"| {measure.title} | {figures} | {told} |", is_within


def _judged(measure: Measure, pairs: Sequence[tuple[float, float]], now: Result) -> tuple[str, bool]:
    """Return the change as text, and whether it is within the bound; ``now`` is the median of this build."""
    if min(map(min, pairs)) <= 0:
        reached = measure.reached({"ours": now})
        verb = "is" if reached else "is not"
        return f"no ratio of figures that are not positive; the target ({measure.target}) {verb} reached", reached
    change = change_of(pairs)
    return f"{change.times:.3f} ({change.least:.3f} to {change.most:.3f})", change.most <= MOST_TIMES


def _result(measure: Measure, bench: Bench, build: str) -> Result:
    os.environ["BENCH_PYTHON"] = build
    try:
        return take(measure, bench)["ours"]
    finally:
        del os.environ["BENCH_PYTHON"]


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
