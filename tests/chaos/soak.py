"""Runs one supervisor for a long time under everyday events, and reports how its resources change.

    python -m tests.chaos.soak [--minutes 120] [--flavour deploy] [--crash-s 60]

Everything with a maximum number is filled first: incidents, and log lines. Then a child crashes each minute,
/metrics is scraped every 15 s, an event stream is read as a panel reads it, snapshots go to a bucket every five
minutes, and the control server is away for ten of every hundred seconds. The slope of each figure is printed with its
standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import http
import http.client
import socket
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from supervisor.incidents.incident_files import MOST_INCIDENTS
from tests.chaos import checks
from tests.chaos.client import TOKEN, WRITERS
from tests.chaos.surroundings import end_shared
from tests.chaos.world import World, pause
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.sight import Use

# The share of the beginning that is ignored: caches fill, modules are loaded.
_WARM_SHARE = 0.25
_SAMPLE_S = 5.0
_SCRAPE_S = 15.0
_CRASH_S = 60.0
# More than the history keeps of a process.
_FULL_LINES = 20_000
_FILLED_S = 1800.0
_NEWS_S = 8.0
_BLINK_S, _AWAY_S = 100.0, 10.0
# A slope counts if it exceeds this many times its standard error.
_SIGMAS = 3.0
# And if it is at least this part of the figure in an hour: a fifth of a percent.
_LEAST_SHARE = 500


def slope(times_s: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return a value's growth per hour by least squares, and its standard error."""
    fit = statistics.linear_regression(times_s, values)
    rest = [value - fit.intercept - fit.slope * at_s for at_s, value in zip(times_s, values, strict=True)]
    spread = sum((at_s - statistics.fmean(times_s)) ** 2 for at_s in times_s)
    error = (sum(each**2 for each in rest) / max(1, len(rest) - 2) / spread) ** 0.5
    return fit.slope * 3600, error * 3600


def scrape(world: World) -> None:
    """Fetch the metrics as Prometheus does."""
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == http.HTTPStatus.OK, text
        assert [*text_string_to_metric_families(text)]


def watch_events(world: World) -> socket.socket:
    """Read an event stream until it ends."""
    stream = socket.create_connection(("127.0.0.1", world.port))
    stream.sendall(f"GET /api/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())

    def read() -> None:
        with contextlib.suppress(OSError):
            while stream.recv(65536):
                pass

    threading.Thread(target=read, daemon=True).start()
    return stream


def fill(world: World) -> None:
    """Fill everything with a maximum number, which would otherwise count as growth: incidents, and log lines.

    Repeated crashes become one incident, so the supervisor is restarted to get new ones.
    """
    end_s = time.monotonic() + _FILLED_S
    while not _crash_until_loops(world):
        assert time.monotonic() < end_s, "the number of incidents does not reach the maximum"
        world.kill()
        world.clear()
        # The rest of a line is missing if it was killed in the middle of it.
        world.output.excuse()
        world.start()
    for name in WRITERS:
        world.tell(name, f"burst {_FULL_LINES}")


def _crash_until_loops(world: World) -> bool:
    """Crash the children until no new incidents arise; return whether their number has reached the maximum."""
    known, since_s = 0, time.monotonic()
    while time.monotonic() - since_s < _NEWS_S:
        for name in WRITERS:
            world.tell(name, "abort")
        pause(0.2)
        with contextlib.suppress(OSError):
            count = len(world.ask("/api/incidents")["incidents"])
            if count >= MOST_INCIDENTS:
                return True
            if count > known:
                known, since_s = count, time.monotonic()
    return False


def live(world: World, minutes: float, each_crash_s: float) -> list[tuple[float, Use, float]]:
    """Run for this time; return samples of the time, the resources, and the net duration of a health answer."""
    assert world.prober is not None
    samples: list[tuple[float, Use, float]] = []
    begun_s = time.monotonic()
    crash_s, scrape_s = each_crash_s, 0.0
    away = False
    while (now_s := time.monotonic() - begun_s) < minutes * 60:
        if now_s >= crash_s:
            world.tell(WRITERS[int(now_s / each_crash_s) % len(WRITERS)], "abort")
            crash_s += each_crash_s
        if now_s >= scrape_s:
            scrape(world)
            scrape_s += _SCRAPE_S
        if world.around.control is not None and (now_s % _BLINK_S < _AWAY_S) != away:
            away = not away
            world.around.control.order("offline" if away else "online")
        samples.append((now_s, checks.use(world), world.prober.last_s))
        pause(_SAMPLE_S)
    return samples[int(len(samples) * _WARM_SHARE) :]


def _missing(world: World) -> list[str]:
    """Return the missing lines; none if there is a moment without, since some are always under way."""
    try:
        wait_until(lambda: not world.output.missing())
    except AssertionError:
        return world.output.missing()
    return []


def main() -> int:
    """Run, and report; return 1 if something grows, or a condition was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--flavour", default="deploy")
    parser.add_argument("--crash-s", type=float, default=_CRASH_S, help="how often a child crashes")
    options = parser.parse_args()
    world = World(options.flavour)
    try:
        world.start()
        fill(world)
        stream = watch_events(world)
        samples = live(world, options.minutes, options.crash_s)
        stream.close()
        assert world.prober is not None
        problems = [*world.output.problems, *_missing(world), *checks.defects(world), *checks.zombies(world)]
        late = [each for each in world.prober.problems if each.startswith("health took")]
        # On a busy machine right answers may be late, but none is wrong or missing.
        problems += [each for each in world.prober.problems if each not in late]
    finally:
        world.close()
        end_shared()
    times_s = [at_s for at_s, _, _ in samples]
    figures = {
        "memory, KiB": [used.memory_bytes / 1024 for _, used, _ in samples],
        "descriptors": [float(used.files + used.pipes) for _, used, _ in samples],
        "threads": [float(used.threads) for _, used, _ in samples],
        "health, ms": [took_s * 1000 for _, _, took_s in samples],
    }
    for name, values in figures.items():
        grows, error = slope(times_s, values)
        print(f"{name:14} {statistics.fmean(values):10.1f} on average, {grows:+9.2f} ± {error:.2f} an hour", flush=True)
        if grows > _SIGMAS * error and grows > statistics.fmean(values) / _LEAST_SHARE:
            problems.append(f"{name} grows")
    print(
        f"{len(samples)} samples in {options.minutes:g} minutes; health was late {len(late)} times; "
        f"{problems or 'all held'}"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
