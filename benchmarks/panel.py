"""The panel's log in Chromium: the main thread's CPU time per frame, scrolling 100,000 lines while more arrive."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Bench, Measure, Result
from tests.panel.browser import browsing, watched
from tests.panel.panel import Panel
from tests.panel.test_logs import TAKE
from tests.panel.world import supervising

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession

LINES = 100_000
FRAMES = 300
FRAME_MS = 1000 / 60
# 1,200 lines a second arrive, as from an event stream, and each frame scrolls by more than a row.
SCROLL = """async (frames) => {
  const logs = await import("./panel/logs.js");
  const log = document.getElementById("log");
  const gaps = [];
  document.getElementById("log-follow").click();
  let lastMs = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame += 1) {
    log.scrollTop = Math.max(0, log.scrollTop - 37);
    const lines = Array.from({ length: 20 }, (_, at) => ({
      id: 1e6 + frame * 20 + at, at: new Date().toISOString(), process: "moltis", stream: "stdout", level: "info",
      topic: null, message: `a new line ${frame} `.padEnd(100, "x"),
    }));
    logs.take({ lines, lost: 0 });
    const nowMs = await new Promise(requestAnimationFrame);
    gaps.push(nowMs - lastMs);
    lastMs = nowMs;
  }
  return gaps;
}"""
# The longest task while a search goes through all lines, letter by letter.
SEARCH = """async (text) => {
  let longestMs = 0;
  const watch = new PerformanceObserver((list) => {
    for (const task of list.getEntries()) longestMs = Math.max(longestMs, task.duration);
  });
  watch.observe({ type: "longtask" });
  const field = document.getElementById("log-search");
  for (const letter of text) {
    field.value += letter;
    field.dispatchEvent(new Event("input"));
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
  watch.disconnect();
  return longestMs;
}"""


def frames(_bench: Bench) -> dict[str, Result]:
    """Return the main thread's CPU time per frame, the late frames, and the longest task of a search."""
    with browsing() as browser, supervising() as world, watched(browser) as (context, watch):
        panel = Panel(context.new_page(), watch, world.url).sign_in()
        panel.page.evaluate(TAKE, [LINES, 100])
        devtools = context.new_cdp_session(panel.page)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        before_s = _busy_s(devtools)
        gaps: list[float] = panel.page.evaluate(SCROLL, FRAMES)
        busy_ms = (_busy_s(devtools) - before_s) * 1000 / FRAMES
        heap_mb = _metrics(devtools)["JSHeapUsedSize"] / 1e6
        longest_ms = panel.page.evaluate(SEARCH, "line 77")
    late = sum(gap > 1.5 * FRAME_MS for gap in gaps)
    note = (
        f"median frame {statistics.median(gaps):.1f} ms, {late} of {FRAMES} late, heap {heap_mb:.0f} MB, "
        f"longest task of a search {longest_ms:.0f} ms"
    )
    return {"ours": Result(busy_ms, note)}


def _busy_s(devtools: CDPSession) -> float:
    return float(_metrics(devtools)["TaskDuration"])


def _metrics(devtools: CDPSession) -> dict[str, Any]:
    told = devtools.send("Performance.getMetrics")
    return {each["name"]: each["value"] for each in told["metrics"]}


MEASURES = (
    Measure(
        "panel",
        "a frame of the panel's log, scrolled, with 100,000 lines and 1,200 more a second",
        "ms",
        "≤ 8 ms of the main thread's time, half a frame",
        lambda found: (found["ours"].value or 99.0) <= FRAME_MS / 2,
        frames,
    ),
)
