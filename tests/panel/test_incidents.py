"""Incidents in the panel: the last week at a glance, an incident's story, and its text, shown before it is copied."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.panel.axe import findings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.panel.panel import Panel
    from tests.panel.world import World

    Visit = Callable[..., Panel]

HOUR_S = 3600.0
FITS = "document.scrollingElement.scrollWidth <= innerWidth"
CRASHING = '[process.helper]\ncommand = ["sh", "-c", "echo setup code: ABCD2345 at 203.0.113.7; exit 3"]\n'
SLOWLY = {"SUPERVISOR_BACKOFF_INITIAL": "10m", "SUPERVISOR_BACKOFF_MAX": "10m"}


def put(folder: Path, hours_ago: float, kind: str, level: str, what: str, **more: object) -> None:
    """Write an incident of an earlier run."""
    at_s = time.time() - hours_ago * HOUR_S
    name = f"20260101-{int(at_s * 1000) % 10**9:09d}-{kind}"
    told = {"id": name, "at_s": at_s, "kind": kind, "subject": "moltis", "level": level, "what": what, "run": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**told, "version": "0.1.0", **more}))


def a_week(folder: Path) -> None:
    """Write the incidents of a week with one bad hour."""
    for minutes in range(6):
        put(folder, 50 + minutes / 60, "crash", "error", "moltis crashed", code=101, why="exit code 101")
    put(folder, 49.5, "hang", "error", "moltis hung", why="it hung", cause="it no longer answered")
    put(folder, 30.2, "tailnet-away", "warning", "the tailnet was away", until_s=time.time() - 27 * HOUR_S)
    put(folder, 80, "end", "info", "the container was stopped", why="SIGTERM received")
    put(folder, 120, "out-of-memory", "error", "moltis ran out of memory", peak_bytes=400_000_000)


@pytest.fixture
def week(supervise: Callable[..., World], tmp_path: Path) -> World:
    """A supervisor with incidents of the last week, and a process that has just crashed."""
    a_week(tmp_path / "incidents")
    return supervise(toml=CRASHING, TS_STATE_DIR=str(tmp_path), **SLOWLY)


def test_a_bad_hour_is_found_and_its_story_read(visit: Visit, week: World) -> None:
    """The week shows the bad hour, the list its incidents, and an incident opens with its cause and last lines."""
    panel = visit(week).sign_in()
    section = panel.section("Incidents")
    expect(section.get_by_role("img", name="The last week, hour by hour")).to_be_visible()
    expect(section).to_contain_text("in the last week")
    rows = section.get_by_role("list", name="Incidents").get_by_role("listitem")
    helper = rows.filter(has_text="helper crashed").first
    expect(helper).to_be_visible()
    # The bad hour (one or two cells), the one five days ago, and the present; three hours of outage touch four or five.
    assert 3 <= panel.page.locator("#week .cell.error").count() <= 4
    assert 4 <= panel.page.locator("#week .cell.warning").count() <= 5
    helper.get_by_text("helper crashed").click()
    expect(helper).to_contain_text("exit code 3")
    expect(helper).to_contain_text("it is started again after")
    expect(helper).to_contain_text("setup code: [redacted]")


def test_a_new_one_shows_by_itself(visit: Visit, week: World) -> None:
    """A new incident appears without reloading the page."""
    panel = visit(week).sign_in()
    rows = panel.section("Incidents").get_by_role("list", name="Incidents").get_by_role("listitem")
    expect(rows.filter(has_text="helper crashed")).to_have_count(1)
    panel.button("Try helper now").click()
    expect(rows.filter(has_text="helper crashed")).to_have_count(2)


def test_it_is_copied_after_a_look_and_masked(visit: Visit, week: World) -> None:
    """The text to be copied is shown first: without the setup code, and without addresses."""
    panel = visit(week, permissions=["clipboard-read", "clipboard-write"]).sign_in()
    rows = panel.section("Incidents").get_by_role("list", name="Incidents").get_by_role("listitem")
    helper = rows.filter(has_text="helper crashed").first
    helper.get_by_text("helper crashed").click()
    helper.get_by_role("button", name="Copy for a bug report").click()
    expect(panel.dialog).to_contain_text("What will be copied")
    expect(panel.dialog).to_contain_text("helper crashed")
    assert not findings(panel.page)
    panel.dialog.get_by_role("button", name="Copy").click()
    expect(panel.dialog).to_contain_text("Copied.")
    copied = str(panel.page.evaluate("navigator.clipboard.readText()"))
    assert "what was done: it is started again" in copied
    assert "ABCD2345" not in copied
    assert "203.0.113.7" not in copied
    assert copied == panel.dialog.get_by_label("The report").text_content()
    panel.page.keyboard.press("Escape")
    expect(panel.page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_it_looks_right_everywhere(visit: Visit, week: World, theme: str, width: int) -> None:
    """In both themes, and at the width of a phone too, nothing overflows, and axe finds nothing, such as faint text."""
    panel = visit(week, color_scheme=theme, viewport={"width": width, "height": 844}).sign_in()
    rows = panel.section("Incidents").get_by_role("list", name="Incidents").get_by_role("listitem")
    rows.filter(has_text="helper crashed").first.get_by_text("helper crashed").click()
    expect(panel.section("Incidents").get_by_label("Last lines")).to_be_visible()
    assert panel.page.evaluate(FITS)
    assert not findings(panel.page)


def test_nothing_bad_is_said_as_well(visit: Visit, supervise: Callable[..., World]) -> None:
    """Without incidents the section is there too, and says so."""
    panel = visit(supervise()).sign_in()
    expect(panel.section("Incidents")).to_contain_text("no warnings or errors in the last week")
