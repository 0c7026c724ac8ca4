"""Check everything in the panel: findings by group, the text for a bug report, and a stream that is delayed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.panel import proxies
from tests.panel.axe import findings
from tests.panel.test_looks import FITS, THEMES, TOO_WIDE, open_details
from tests.panel.world import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator

    from tests.panel.panel import Panel
    from tests.panel.world import World

    Visit = Callable[..., Panel]


def check(panel: Panel) -> Locator:
    """Press the button, and wait for the report."""
    panel.button("Check everything").click()
    section = panel.section("Doctor")
    expect(section).to_contain_text("findings", timeout=30_000)
    return section


def test_check_everything(panel: Panel, home: World) -> None:
    """Problems come first in their group, with what to do; what is well is folded; no delay is reported."""
    section = check(panel)
    machine = section.get_by_role("list", name="Tailnet")
    expect(machine.get_by_role("listitem").first).to_contain_text("problem")
    expect(section).to_contain_text("issues no certificates")
    well = section.get_by_text("ok", exact=True)
    expect(well.filter(visible=True)).to_have_count(0)
    section.get_by_text(re.compile(r"^\d+ ok$")).first.click()
    expect(well.first).to_be_visible()
    expect(section).not_to_contain_text("delays the stream")
    section.get_by_text("Text for a bug report", exact=True).click()
    text = section.get_by_label("Text for a bug report")
    expect(text).to_contain_text("moltis-supervisor doctor")
    expect(text).to_contain_text("event-stream")
    address = home.node.view()["tailscale_ip"]
    assert address not in (text.text_content() or "")
    assert TOKEN not in panel.everything()
    panel.page.context.grant_permissions(["clipboard-write"])
    panel.button("Copy").last.click()
    expect(section.get_by_role("status").last).to_have_text("Copied.")


@pytest.mark.parametrize("lets", [True, False], ids=["the old way", "not at all"])
def test_copying_without_https(visit: Visit, home: World, lets: bool) -> None:  # noqa: FBT001
    """Over the tailnet's plain HTTP a page has no clipboard: an older way is used, or else the text is selected."""
    panel = visit(home)
    panel.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined });")
    if not lets:
        panel.page.add_init_script("document.execCommand = () => false;")
    panel.sign_in()
    section = check(panel)
    section.get_by_text("Text for a bug report", exact=True).click()
    panel.page.evaluate("addEventListener('copy', () => { window.took = getSelection().toString(); })")
    panel.button("Copy").last.click()
    expect(section.get_by_role("status").last).to_contain_text("Copied." if lets else "copy it by hand")
    taken = panel.page.evaluate("window.took" if lets else "getSelection().toString()")
    assert "moltis-supervisor doctor" in taken
    assert "event-stream" in taken


def test_a_proxy_that_buffers(visit: Visit, home: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page detects what the supervisor cannot: the stream's line arrives long after the answer."""
    monkeypatch.setattr(proxies, "BUFFER_S", 6.0)
    with proxies.prefixing(home.port) as url:
        panel = visit(url).open()
        panel.enter(TOKEN)
        expect(panel.connection).to_have_text("Live", timeout=20_000)
        section = check(panel)
        expect(section).to_contain_text("delays the stream")
        expect(section).to_contain_text("disable its buffering", ignore_case=True)
        # The proxy is closed before the page.
        panel.watch.expect("ERR_")


def test_a_report_that_fails(visit: Visit, home: World) -> None:
    """The error is shown where the button is, and the button works again."""
    panel = visit(home).sign_in()
    panel.watch.expect("ERR_")
    panel.page.route("**/api/doctor", lambda route: route.abort())
    panel.button("Check everything").click()
    expect(panel.alert).to_contain_text("does not answer")
    expect(panel.button("Check everything")).not_to_have_attribute("aria-disabled", "true")


@THEMES
@pytest.mark.parametrize("width", [320, 1280])
def test_looks(visit: Visit, home: World, theme: str, width: int) -> None:
    """With everything unfolded, the report is readable in both themes, and the page does not scroll sideways."""
    panel = visit(home, color_scheme=theme, viewport={"width": width, "height": 800}).sign_in()
    check(panel)
    open_details(panel)
    assert not findings(panel.page)
    assert panel.page.evaluate(FITS), panel.page.evaluate(TOO_WIDE)
