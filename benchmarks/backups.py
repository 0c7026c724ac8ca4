"""The cost of backups: memory when idle, a snapshot without changes, and requests to the bucket."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Bench, Measure, Result, at_most
from benchmarks.standing import distinct_bytes
from tests.backup import troubles
from tests.backup.test_cost import child_peak
from tests.backup.world import APP, World, back_up, call_without_waiting, child_of, wait_for_state
from tests.process.running import running
from tests.support.backups import bucket
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.running import Run

# What Moltis may have stored after some weeks: 100 MB in 100 files.
FILES, FILE_BYTES = 100, 1_000_000
DAY_S = 86_400
# S3 prices of AWS, in dollars per 1,000: writes and lists, and reads; deletions, which are free, count as reads.
WRITE_DOLLARS, READ_DOLLARS = 0.005, 0.0004
_READS = re.compile(r" s3_(Get|Head|Delete)")


@contextlib.contextmanager
def _backed_up(log: str = "", **env: str) -> Iterator[tuple[World, Run]]:
    """Run a supervisor with a bucket on this machine for the duration of a block."""
    options = ("--access-log", log) if log else ()
    with tempfile.TemporaryDirectory(prefix="bench-bucket-") as folder, bucket(Path(folder), *options) as server:
        world = World(server.repository)
        world.data.mkdir()
        for number in range(FILES):
            (world.data / f"file{number}").write_bytes(os.urandom(FILE_BYTES))
        with world.running(*APP, **env) as run:
            run.wait_for("started", 120.0)
            yield world, run


def memory(bench: Bench) -> dict[str, Result]:
    """Distinct pages of the supervisor after two snapshots, minus those without backups; the API is not used."""
    with running(*APP) as run:
        run.wait_for("ready")
        time.sleep(2 if bench.quick else 30)
        without = distinct_bytes([run.pid]) / 1e6
    with _backed_up(SUPERVISOR_BACKUP_INTERVAL="1m") as (_, run):
        run.wait_count(1 if bench.quick else 2, "snapshot taken", 300.0, order="interval")
        time.sleep(2)
        more = distinct_bytes([run.pid]) / 1e6 - without
    return {"ours": Result(more, f"{without:.1f} MB without")}


def unchanged(bench: Bench) -> dict[str, Result]:
    """The duration of a snapshot without changes, and restic's peak memory."""
    with _backed_up() as (world, run):
        wait_for_state(run, "idle")
        back_up(run)
        took_s, most = [], 0
        for _ in range(bench.rounds):
            call_without_waiting(run)
            pid = wait_until(lambda: child_of(run, "restic"), what="restic")
            while (now := child_peak(pid)) is not None:
                most = max(most, now)
            wait_for_state(run, "idle")
            took_s.append(run.all("snapshot taken", order="asked")[-1]["took_s"])
        size = sum(path.stat().st_size for path in world.data.iterdir())
    note = f"quickest {min(took_s):.2f} s; restic had {most / 1e6:.1f} MB at most; {size / 1e6:.0f} MB of files"
    return {"ours": Result(statistics.median(took_s), note)}


def requests(bench: Bench) -> dict[str, Result]:
    """Requests to a bucket per day with a snapshot every five minutes: extrapolated from a minute and a snapshot."""
    with tempfile.TemporaryDirectory(prefix="bench-log-") as folder:
        log = Path(folder) / "requests"
        with _backed_up(str(log)) as (_, run):
            wait_for_state(run, "idle")
            back_up(run)
            begin_s, before = time.monotonic(), _counted(log)
            time.sleep(30 if bench.quick else 120)
            took_s, resting = time.monotonic() - begin_s, _counted(log)
            for _ in range(bench.rounds):
                back_up(run)
            after = _counted(log)
    a_day = [
        (now - then) * DAY_S / took_s + (last - now) / bench.rounds * DAY_S / 300
        for then, now, last in zip(before, resting, after, strict=True)
    ]
    writes, reads = a_day
    dollars = 30 * (writes * WRITE_DOLLARS + reads * READ_DOLLARS) / 1000
    one = [(last - now) / bench.rounds for now, last in zip(resting, after, strict=True)]
    note = (
        f"{writes:.0f} that write or list, {reads:.0f} that read; a snapshot takes {one[0]:.0f} and {one[1]:.0f}; "
        f"${dollars:.2f} a month where each is paid for as at AWS"
    )
    return {"ours": Result(sum(a_day), note)}


def told(_bench: Bench) -> dict[str, Result]:
    """Time from an order or start that fails until `backup list` shows the reason; the slowest counts."""
    took = {}
    for name in troubles.NAMES:
        with tempfile.TemporaryDirectory(prefix="bench-bucket-") as folder:
            took[name] = troubles.measure(name, Path(folder) / "s3")
    return {"ours": Result(max(took.values()), ", ".join(f"{name} {took_s:.1f} s" for name, took_s in took.items()))}


def _counted(log: Path) -> tuple[int, int]:
    """Return the number of requests that wrote or listed, and of those that read."""
    lines = log.read_text().splitlines()
    reads = sum(bool(_READS.search(line)) for line in lines)
    return len(lines) - reads, reads


MEASURES = (
    Measure("backups-memory", "memory that backups add", "MB", "≤ 14 MB", lambda found: at_most(found, 14), memory),
    Measure(
        "backups-unchanged",
        "a snapshot of what has not changed",
        "s",
        "≤ 2 s, restic ≤ 90 MB",
        lambda found: at_most(found, 2),
        unchanged,
        2,
    ),
    Measure("backups-told", "trouble in words", "s", "≤ 5 s", lambda found: at_most(found, 5), told),
    Measure("backups-requests", "requests a day", "", "none", lambda _found: True, requests, 0),
)
