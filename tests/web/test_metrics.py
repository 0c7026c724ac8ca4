"""`GET /metrics`: who gets it, in which format, and which requests are counted."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from supervisor.runtime.loop_latency import LoopLatency
from supervisor.telemetry.metrics import PREFIX
from supervisor.web import handlers
from tests.conventions.tree import ROOT
from tests.logs.rig import until
from tests.web.following import following
from tests.web.serving import BEARER, Served, serving
from tests.web.test_tailscale import FULL

if TYPE_CHECKING:
    import pytest

REQUESTS = f"{PREFIX}http_requests_total"


async def scrape(served: Served, head: str = "") -> str:
    """Scrape once."""
    answer = await served.get("/metrics", BEARER + head)
    assert answer.status == 200
    return answer.body.decode()


def value(text: str, series: str) -> float | None:
    """Return the value of a series; None if there is none."""
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{series} ")), None)


async def test_who_gets_it_and_how() -> None:
    """Signed-in users and the control socket; gzipped or as OpenMetrics on request, HEAD without a body."""
    async with serving() as served:
        assert (await served.ask("GET", "/metrics")).refusal == (401, "NOT_SIGNED_IN")
        assert (await served.get("/metrics", "Authorization: Bearer wrong\r\n")).status == 401
        assert (await served.over_control("GET", "/metrics")).status == 200
        plain = await served.get("/metrics")
        assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        zipped = await served.get("/metrics", f"{BEARER}Accept-Encoding: gzip\r\n")
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert b"build_info" in gzip.decompress(zipped.body)
        other = await served.get("/metrics", f"{BEARER}Accept: application/openmetrics-text;version=1.0.0\r\n")
        assert other.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert other.body.endswith(b"# EOF\n")
        head = await served.ask("HEAD", "/metrics", BEARER)
        assert (head.status, head.body) == (200, b"")


async def test_requests_are_counted_by_route() -> None:
    """An unknown path, or one made up by a client, adds no series; refusals count too."""
    async with serving() as served:
        for path in ("/nothing", "/api/processes/a/start", "/api/processes/b/start"):
            await served.post(path)
        await served.get("/health")
        await served.get("/health", "")
        await served.ask("PROPFIND", "/health")
        await served.ask("GET", "/api/logs")
        text = await scrape(served)
        for labels, count in {
            'endpoint="other",method="POST",status="404"': 1,
            'endpoint="/api/processes/{name}/start",method="POST",status="404"': 2,
            'endpoint="/health",method="GET",status="200"': 2,
            'endpoint="other",method="other",status="405"': 1,
            'endpoint="/api/logs",method="GET",status="401"': 1,
        }.items():
            assert value(text, f"{REQUESTS}{{{labels}}}") == count, labels
        assert "/nothing" not in text
        duration = f"{PREFIX}http_request_duration_seconds_count"
        assert value(text, f'{duration}{{endpoint="/health",method="GET"}}') == 2


async def test_a_stream_counts_from_its_beginning() -> None:
    """An open event stream counts as a request that was answered, and as an active one."""
    async with serving() as served, following(served) as stream:
        await stream.next()
        text = await scrape(served)
        assert value(text, f'{REQUESTS}{{endpoint="/api/events",method="GET",status="200"}}') == 1
        assert value(text, f"{PREFIX}http_event_streams_active") == 1


async def test_what_tailscaled_tells_comes_from_whoever_lends_it() -> None:
    """Without such a reader the scrape continues, and each failure to read is counted."""
    async with serving(tailnet=FULL) as served:

        async def read(_timeout_s: float) -> bytes:
            return b"# TYPE tailscaled_advertised_routes gauge\ntailscaled_advertised_routes 3\n"

        errors = f"{PREFIX}tailscaled_metrics_errors_total"
        assert value(await scrape(served), errors) == 1
        hand_back = served.channels.set_metrics_reader(read)
        text = await scrape(served)
        assert (value(text, errors), value(text, "tailscaled_advertised_routes")) == (1, 3)
        hand_back()
        assert value(await scrape(served), errors) == 2


async def test_a_counter_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape that starts before one that fails, and ends after it, does not reset the count."""
    begun, may_end = threading.Event(), threading.Event()
    write = handlers._write
    texts = [b"", None, b""]

    async def read(_timeout_s: float) -> bytes | None:
        return texts.pop(0)

    def slow(module: Any, data: Any, *wanted: Any) -> Any:
        if not begun.is_set():
            begun.set()
            assert may_end.wait(15)
        return write(module, data, *wanted)

    monkeypatch.setattr(handlers, "_write", slow)
    errors = f"{PREFIX}tailscaled_metrics_errors_total"
    async with serving(tailnet=FULL) as served:
        served.channels.set_metrics_reader(read)
        first = asyncio.get_running_loop().create_task(scrape(served))
        await until(begun.is_set)
        assert value(await scrape(served), errors) == 1
        may_end.set()
        await first
        assert value(await scrape(served), errors) == 1


async def test_what_holds_the_loop_up_shows_as_lag() -> None:
    """The lag is about as long as the blockage; a second start does not add measurements."""
    watch = LoopLatency(0.01)
    watch.start()
    timer = watch._timer
    watch.start()
    assert watch._timer is timer
    # Blocks the loop.
    subprocess.run(["sleep", "0.05"], check=True)  # noqa: ASYNC221 - this is what the test is about
    await until(lambda: watch.seen.times > 0)
    watch.stop()
    assert watch.seen.sum_s > 0.02


def test_nothing_is_loaded_before_the_first_scrape() -> None:
    """The server alone imports no part of the library, which saves memory unless something scrapes."""
    code = "import sys, supervisor.web.server; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
