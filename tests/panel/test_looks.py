"""How the panel looks: axe-core, both themes, narrow and wide, and without unwanted movement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.panel.axe import findings
from tests.panel.world import BAD_KEY
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.panel.panel import Panel
    from tests.panel.world import World
    from tests.support.control import Control

    Visit = Callable[..., Panel]

THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
FITS = "document.scrollingElement.scrollWidth <= innerWidth"
GROUND = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
CRASHING = '[process.helper]\ncommand = ["sh", "-c", "echo cannot find its data; exit 3"]\n'
WAITING = {"SUPERVISOR_BACKOFF_INITIAL": "10h", "SUPERVISOR_BACKOFF_MAX": "10h"}
# Elements that extend beyond the right edge: the cause if the page scrolls sideways.
TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && node.checkVisibility())
  .map((node) => node.outerHTML.slice(0, 120))"""
MOVING = "document.getAnimations().filter((each) => each.effect.getTiming().duration > 20).length"
WATCH_SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      window.shifts.push([entry.value, ...entry.sources.map((source) => source.node?.outerHTML?.slice(0, 120) || "?")]);
    }
  }).observe({ type: "layout-shift" });
}"""


@pytest.fixture
def troubled(supervise: Callable[..., World], control: Control) -> World:
    """A supervisor with a crashing process, a refused key, and a login link."""
    world = supervise(control, toml=CRASHING, **WAITING)
    world.node.wait_state("needs login")
    world.node.connect(BAD_KEY)
    wait_until(lambda: "refused" in (world.node.view()["why"] or ""), what="the refusal")
    return world


def open_details(panel: Panel) -> None:
    """Open all folded parts."""
    panel.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


@THEMES
def test_axe_at_sign_in(visit: Visit, home: World, theme: str) -> None:
    """The sign-in view and its refusal pass axe."""
    panel = visit(home, color_scheme=theme).open()
    panel.watch.expect("status of 401")
    panel.wait_sign_in()
    assert not findings(panel.page)
    panel.enter("wrong")
    expect(panel.alert).to_be_visible()
    assert not findings(panel.page)


# What scrolls once it is long enough, and cannot be scrolled with the keyboard; axe sees it only if it is.
OUT_OF_REACH = """() => [...document.querySelectorAll("main *")].filter((each) => {
  const style = getComputedStyle(each);
  const scrolls = [style.overflowX, style.overflowY].some((how) => how === "auto" || how === "scroll");
  const reached = each.tabIndex >= 0 || each.querySelector("a, button, input, [tabindex='0']");
  return scrolls && each.checkVisibility() && !reached;
}).map((each) => each.outerHTML.slice(0, 100))"""


@THEMES
def test_axe_when_all_is_well(visit: Visit, home: World, theme: str) -> None:
    """The page of a connected device passes axe, with lines of every level and colour, and everything unfolded."""
    for level in ("debug", "info", "warning", "error", "critical"):
        home.tell(f'say {{"level": "{level}", "message": "a line for axe"}}')
    home.tell("say " + "".join(rf"\x1b[{code}mcolour\x1b[0m " for code in (*range(31, 38), *range(91, 98), 2, 7)))
    home.tell("say the last one for axe")
    panel = visit(home, color_scheme=theme).sign_in()
    panel.show_app_only()
    panel.log_has("the last one for axe")
    open_details(panel)
    assert not findings(panel.page)
    assert not panel.page.evaluate(OUT_OF_REACH)
    panel.section("Logs").get_by_role("searchbox").fill("axe")
    expect(panel.log.locator("mark").first).to_be_visible()
    assert not findings(panel.page)


@THEMES
def test_axe_when_nothing_is_well(visit: Visit, troubled: World, theme: str) -> None:
    """The page passes axe with a refused key, a login link, a crash loop, a field's error, and while disconnected."""
    panel = visit(troubled, color_scheme=theme).sign_in()
    panel.watch.expect("ERR_")
    expect(panel.process("helper")).to_contain_text("will be tried again")
    panel.connect_with("")
    expect(panel.alert).to_be_visible()
    open_details(panel)
    assert not findings(panel.page)
    assert panel.page.evaluate(FITS)
    panel.page.route("**/api/**", lambda route: route.abort())
    troubled.run.stop()
    expect(panel.connection).to_contain_text("Not connected")
    assert not findings(panel.page)


@THEMES
def test_axe_in_a_dialog(visit: Visit, home: World, theme: str) -> None:
    """The question before forgetting the device passes axe."""
    panel = visit(home, color_scheme=theme).sign_in()
    panel.button("Forget this device").click()
    expect(panel.dialog).to_be_visible()
    assert not findings(panel.page)


def test_the_theme(visit: Visit, home: World) -> None:
    """The system's theme is used; a chosen one is kept, whatever the system's is."""
    light, dark = visit(home, color_scheme="light"), visit(home, color_scheme="dark").sign_in()
    assert min(light.open().page.evaluate(GROUND)) > 200
    assert max(dark.page.evaluate(GROUND)) < 60
    dark.page.get_by_label("Theme").select_option(label="Light")
    assert min(dark.page.evaluate(GROUND)) > 200
    dark.page.reload()
    dark.wait_live()
    assert min(dark.page.evaluate(GROUND)) > 200


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
def test_every_width(visit: Visit, home: World, troubled: World, width: int) -> None:
    """The page does not scroll sideways: with everything unfolded, at sign-in, or in a dialog."""
    for world in (home, troubled):
        panel = visit(world, viewport={"width": width, "height": 720}).open()
        panel.wait_sign_in()
        assert panel.page.evaluate(FITS), panel.page.evaluate(TOO_WIDE)
        panel.sign_in()
        open_details(panel)
        assert panel.page.evaluate(FITS), panel.page.evaluate(TOO_WIDE)
    panel = visit(home, viewport={"width": width, "height": 720}).sign_in()
    panel.button("Forget this device").click()
    box = panel.dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_text_twice_as_large(visit: Visit, home: World) -> None:
    """At a text size of 200 % in a narrow window, the page does not scroll sideways."""
    panel = visit(home, viewport={"width": 640, "height": 480}, device_scale_factor=2).sign_in()
    panel.page.evaluate("document.documentElement.style.setProperty('font-size', '200%')")
    assert panel.page.evaluate(FITS), panel.page.evaluate(TOO_WIDE)


def test_nothing_moves_for_those_who_want_that(visit: Visit, home: World) -> None:
    """With reduced motion nothing is animated, and scrolling is not smooth."""
    panel = visit(home, reduced_motion="reduce").sign_in()
    panel.button("Forget this device").click()
    moving = panel.page.evaluate(
        "document.getAnimations().filter((each) => each.effect.getTiming().duration > 20).length"
    )
    assert moving == 0
    assert panel.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_jumps(visit: Visit, supervise: Callable[..., World], width: int) -> None:
    """While values change, the layout does not shift."""
    # Not in a tailnet: the list of ports that peers reach grows when other tests start.
    world = supervise()
    panel = visit(world, viewport={"width": width, "height": 2400}).sign_in()
    open_details(panel)
    panel.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    panel.page.evaluate(WATCH_SHIFTS)
    world.tell("flood 200 3")
    world.tell("say it has flowed by")
    panel.log_has("it has flowed by")
    shifts = panel.page.evaluate("window.shifts")
    assert sum(each[0] for each in shifts) < 0.001, shifts
