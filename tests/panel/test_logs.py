"""The log in the panel: filters, pause and follow, colours, copies, and floods."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.panel.world import supervising
from tests.support.crowded import Stopwatch
from tests.support.processes import below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Locator

    from tests.panel.panel import Panel
    from tests.panel.world import World

    Visit = Callable[..., Panel]

MOST_ROWS = 300
# Even a loaded machine must answer a click before the user clicks again.
LONGEST_TASK_MS = 1000
CLICK_MS = 1500
# Turns of the wheel to scroll down a page: three are enough if no lines arrive.
TURNS = 20
# Records the longest time in which the page could not react.
MEASURE = """() => {
  window.longestMs = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longestMs = Math.max(window.longestMs, task.duration);
  }).observe({ type: "longtask" });
}"""
CARD_PADDING_PX = 17
# Passes ``count`` lines of length ``size`` to the page, as its event stream would.
TAKE = """async ([count, size]) => {
  const logs = await import("./panel/logs.js");
  const line = (id) => ({
    id, at: "2026-01-01T00:00:00Z", process: "moltis", stream: "stdout", level: "info", topic: null,
    message: `line ${id} `.padEnd(size, "x"),
  });
  for (let id = 0; id < count; id += 250) {
    logs.take({ lines: Array.from({ length: 250 }, (_, at) => line(id + at)), lost: 0 });
  }
}"""
# The top and bottom of each visible row, from top to bottom, relative to the top of the log.
PLACES = """(log) => [...log.querySelectorAll(".line")].map((row) => row.getBoundingClientRect())
  .map(({ top, bottom }) => [top, bottom].map((px) => px - log.getBoundingClientRect().top))
  .sort(([one], [other]) => one - other)"""
# Measures the time from a click to the frame that shows it.
CLICK = """(button) => new Promise((resolve) => {
  const begin = performance.now();
  button.click();
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begin)));
})"""


@pytest.fixture(scope="module")
def home() -> Iterator[World]:
    """A supervisor in no tailnet: only the app logs, and only on order."""
    with supervising() as world:
        yield world


def shown(panel: Panel) -> str:
    """Return the text of the visible rows."""
    return panel.log.inner_text()


def newest(panel: Panel) -> int:
    """Return the number of the last visible line of the flood."""
    return int(re.findall(r"flood line (\d+) of", shown(panel))[-1])


def control(panel: Panel, name: str) -> Locator:
    """Return one of the controls above the log."""
    return panel.section("Logs").get_by_role("searchbox" if name == "Search" else "combobox", name=name, exact=True)


def copied(panel: Panel) -> list[str]:
    """Return the content of the download: all lines that pass the filter."""
    with panel.page.expect_download() as downloading:
        panel.button("Download").click()
    return downloading.value.path().read_text().splitlines()


def test_search_and_process(panel: Panel, home: World) -> None:
    """A text and a process filter old and new rows; matches are marked."""
    home.tell("say an apple a day")
    home.tell("say no fruit at all")
    panel.log_has("no fruit at all")
    control(panel, "Search").fill("APPLE")
    expect(panel.log).not_to_contain_text("no fruit")
    expect(panel.log.locator("mark").first).to_have_text("apple")
    home.tell("say another apple")
    home.tell("say another pear")
    panel.log_has("another apple")
    assert "pear" not in shown(panel)
    control(panel, "Search").fill("")
    control(panel, "Process").select_option("supervisor")
    expect(panel.log).not_to_contain_text("apple")
    assert all(" supervisor " in line for line in copied(panel))


def test_level(panel: Panel, home: World) -> None:
    """A level shows its own lines and those of worse levels."""
    home.tell('say {"level": "error", "message": "it burns"}')
    home.tell('say {"level": "info", "message": "all is well"}')
    panel.log_has("all is well")
    control(panel, "Level").select_option(label="Error and worse")
    panel.log_has("it burns")
    expect(panel.log).not_to_contain_text("all is well")


def test_it_opens_at_info(panel: Panel, home: World) -> None:
    """Lines of level debug are hidden until all levels are chosen."""
    home.tell('say {"level": "debug", "message": "a detail"}')
    home.tell('say {"level": "info", "message": "a fact"}')
    panel.log_has("a fact")
    assert "a detail" not in shown(panel)
    expect(control(panel, "Level")).to_have_value("info")
    control(panel, "Level").select_option(label="All levels")
    panel.log_has("a detail")


def test_nothing_below_the_log(panel: Panel, home: World) -> None:
    """The log ends at the bottom of its card, even while a message is shown about it."""
    home.tell("say something to look for")
    panel.log_has("something to look for")
    control(panel, "Search").fill("something to look for")
    expect(panel.section("Logs")).to_contain_text(re.compile(r"\d lines? found"))
    below = "(log) => log.closest('section').getBoundingClientRect().bottom - log.getBoundingClientRect().bottom"
    assert panel.log.evaluate(below) <= CARD_PADDING_PX


def test_as_many_lines_as_the_page_keeps(panel: Panel) -> None:
    """The oldest lines are dropped, by count and by size; few rows are in the document, all can be reached."""
    panel.page.evaluate(TAKE, [120_000, 60])
    section = panel.section("Logs")
    expect(section).to_contain_text("of 100,000, the last of more")
    panel.log_has("line 119999 ")
    panel.log.focus()
    panel.page.keyboard.press("Home")
    panel.log_has("line 20000 ")
    assert panel.log.evaluate("(log) => log.querySelectorAll('*').length") < MOST_ROWS
    control(panel, "Search").fill("line 7777")
    expect(section).to_contain_text("10 lines found")
    control(panel, "Search").fill("")
    panel.page.evaluate(TAKE, [4000, 15_000])
    expect(section).to_contain_text(re.compile(r"of 2,\d\d\d, the last of more"))


def test_rows_are_one_below_the_other(panel: Panel) -> None:
    """Rows have no gaps or overlaps, even after many were dropped, and beyond the pixels that a browser can count."""
    height = panel.log.evaluate("(log) => log.clientHeight")
    for round_number, count in enumerate((250, 130_000, 60_000, 250)):
        panel.page.evaluate(TAKE, [count, 60 + 100 * round_number])
        panel.log_has(f"line {count - 1} ")
        places = panel.log.evaluate(PLACES)
        assert len(places) > 5
        assert all(abs(above[1] - below[0]) < 1 for above, below in pairwise(places)), places
        assert places[0][0] <= 0
        assert abs(places[-1][1] - height) < 3
    # A reader keeps the place as long as its lines exist.
    panel.button("Follow").click()
    panel.log.evaluate("(log) => { log.scrollTop -= 40_000 }")
    panel.log_has("line 59")
    read = re.findall(r"line (\d+) ", shown(panel))[4]
    panel.page.evaluate(TAKE, [3000, 60])
    panel.log_has(f"line {read} ")


def test_pause_and_resume(panel: Panel, home: World) -> None:
    """Lines that arrive during a pause are held back, counted, and shown afterwards."""
    # Otherwise the supervisor's own lines would be counted too.
    control(panel, "Process").select_option("moltis")
    home.tell("say before the pause")
    panel.log_has("before the pause")
    panel.button("Pause").click()
    home.tell("say during the pause")
    expect(panel.section("Logs")).to_contain_text("1 new line waiting")
    assert "during the pause" not in shown(panel)
    panel.button("Resume").click()
    panel.log_has("during the pause")
    expect(panel.button("Pause")).to_be_visible()


def test_follow(panel: Panel, home: World) -> None:
    """Scrolling up stops following; Follow returns to the end."""
    home.tell("flood 300 0.5")
    home.tell("say the flood is over")
    panel.log_has("the flood is over")
    expect(panel.button("Follow")).to_have_attribute("aria-pressed", "true")
    panel.log.hover()
    panel.page.mouse.wheel(0, -1000)
    expect(panel.button("Follow")).to_have_attribute("aria-pressed", "false")
    expect(panel.log).not_to_contain_text("the flood is over")
    home.tell("say news at the end")
    control(panel, "Process").focus()
    expect(panel.log).not_to_contain_text("news at the end")
    panel.button("Follow").click()
    panel.log_has("news at the end")


def test_follow_at_another_size(panel: Panel, home: World) -> None:
    """Resizing the window scrolls the log without any input: the end is still followed."""
    home.tell("flood 300 0.5")
    home.tell("say before the change")
    panel.log_has("before the change")
    for width, height in ((360, 640), (1600, 1800), (1280, 720)):
        panel.page.set_viewport_size({"width": width, "height": height})
        home.tell(f"say {width} wide")
        panel.log_has(f"{width} wide")
        expect(panel.button("Follow")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours(visit: Visit, home: World, theme: str) -> None:
    """An app's colours are shown in both themes; their escape codes are not."""
    home.tell(r"say \x1b[31mred\x1b[0m \x1b[1;38;5;46mbright\x1b[0m plain-" + theme)
    panel = visit(home, color_scheme=theme).sign_in()
    panel.log_has(f"plain-{theme}")
    color = "(node) => getComputedStyle(node).color.match(/\\d+/g).map(Number)"
    row = panel.log.get_by_text(f"red bright plain-{theme}")
    red, green, _ = row.get_by_text("red", exact=True).evaluate(color)
    assert red > 2 * green
    red, green, blue = row.get_by_text("bright", exact=True).evaluate(color)
    assert green > 1.5 * max(red, blue)
    assert "\x1b" not in shown(panel)
    assert "[31m" not in shown(panel)


def test_copy_and_download(visit: Visit, home: World) -> None:
    """Both return the lines that pass the filter as plain text."""
    panel = visit(home, permissions=["clipboard-read", "clipboard-write"]).sign_in()
    home.tell(r"say keepsake \x1b[32mgreen\x1b[0m one")
    panel.log_has("keepsake green one")
    control(panel, "Search").fill("keepsake")
    expect(panel.section("Logs")).to_contain_text(re.compile(r"\d line"))
    assert copied(panel)[-1].endswith("keepsake green one")
    panel.button("Copy").click()
    expect(panel.section("Logs")).to_contain_text("Copied")
    assert panel.page.evaluate("navigator.clipboard.readText()").splitlines() == copied(panel)


def renderers() -> list[int]:
    """Return the processes in which the pages run."""
    return [pid for pid in below(os.getpid()) if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_flood(visit: Visit, supervise: Callable[..., World]) -> None:
    """At 5,000 lines a second the page answers clicks, keeps few rows, and reaches the end."""
    world = supervise()
    panel = visit(world).sign_in()
    panel.page.evaluate(MEASURE)
    world.tell("flood 5000 5")
    world.tell("say the flood is over")
    panel.log_has("flood line")
    rows, pages = [], renderers()
    whole = Stopwatch(*pages)
    while "the flood is over" not in shown(panel):
        for name in ("Pause", "Resume"):
            watch = Stopwatch(*pages)
            assert panel.button(name).evaluate(CLICK) - 1000 * watch.waited_s < CLICK_MS
        rows.append(panel.log.evaluate("(log) => log.querySelectorAll('*').length"))
    assert rows
    assert max(rows) < MOST_ROWS
    assert panel.page.evaluate("window.longestMs") - 1000 * whole.waited_s < LONGEST_TASK_MS
    expect(panel.connection).to_have_text("Live")
    # No line is missing unless skipped lines are reported.
    lines = copied(panel)
    numbers = [int(found[1]) for line in lines if (found := re.search(r"flood line (\d+) of", line))]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 5000 * 5 - 1
    if not any("skipped" in line for line in lines):
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_leaving_a_flood(visit: Visit, supervise: Callable[..., World]) -> None:
    """During a flood, one turn of the wheel or one key is enough to leave the end."""
    world = supervise()
    panel = visit(world).sign_in()
    world.tell("flood 1000 6")
    panel.log_has("flood line")
    for leave in ("wheel", "PageUp"):
        panel.log.hover()
        panel.log.focus()
        panel.page.mouse.wheel(0, -120) if leave == "wheel" else panel.page.keyboard.press(leave)
        expect(panel.button("Follow")).to_have_attribute("aria-pressed", "false")
        panel.button("Follow").click()
        expect(panel.button("Follow")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("way", ["End", "wheel"])
def test_coming_back_to_a_flood(visit: Visit, supervise: Callable[..., World], way: str) -> None:
    """During a flood, scrolling to the end reaches it and follows, whatever arrives before the next frame."""
    world = supervise()
    panel = visit(world).sign_in()
    # Longer than all deadlines here, which a crowded machine may need.
    world.tell("flood 1000 60")
    wait_until(lambda: newest(panel) > 1000)
    panel.log.focus()
    panel.page.keyboard.press("PageUp")
    follow = panel.button("Follow")
    expect(follow).to_have_attribute("aria-pressed", "false")
    if way == "End":
        panel.page.keyboard.press("End")
    else:
        panel.log.hover()
        for _ in range(TURNS):
            panel.page.mouse.wheel(0, 200)
    expect(follow).to_have_attribute("aria-pressed", "true", timeout=10_000)
    reached = newest(panel)
    wait_until(lambda: newest(panel) > reached + 1000)
    assert follow.get_attribute("aria-pressed") == "true"


def test_a_long_line(panel: Panel, home: World) -> None:
    """A very long line wraps; the page does not grow sideways."""
    home.tell("say " + "x" * 3000 + " the-end")
    panel.log_has("the-end")
    assert panel.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
