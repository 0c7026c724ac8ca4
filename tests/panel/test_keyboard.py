"""The panel without a mouse: every control can be reached, shows its focus, and can be left again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.panel.world import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.panel.panel import Panel
    from tests.panel.world import World

    Visit = Callable[..., Panel]

# The name of the focused element, and whether its focus is visible.
FOCUSED = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const name = node.getAttribute("aria-label") || node.labels?.[0]?.textContent.trim() || node.textContent.trim();
  return { name, tag: node.localName, seen: style.outlineStyle !== "none" || style.boxShadow !== "none" };
}"""
MOST_STOPS = 60


def press(panel: Panel, key: str) -> dict[str, Any]:
    """Press a key; return the element that is focused afterwards."""
    panel.page.keyboard.press(key)
    return dict(panel.page.evaluate(FOCUSED))


def go_to(panel: Panel, name: str) -> None:
    """Press Tab until the element with this name is focused."""
    for _ in range(MOST_STOPS):
        if press(panel, "Tab")["name"] == name:
            return
    raise AssertionError(f"no Tab leads to {name!r}")


def test_signing_in(visit: Visit, home: World) -> None:
    """The field is focused at once; Enter submits it; the focus then moves into the page."""
    panel = visit(home).open()
    expect(panel.page.get_by_label("Token or code")).to_be_focused()
    panel.page.keyboard.type(TOKEN)
    panel.page.keyboard.press("Enter")
    panel.wait_live()
    assert panel.page.evaluate("document.activeElement !== document.body")


def test_every_stop_can_be_seen(panel: Panel) -> None:
    """Tab follows the order of the page, each stop has a name and a visible focus, and none is a trap."""
    stops = []
    for _ in range(MOST_STOPS):
        stop = press(panel, "Tab")
        if stop["tag"] == "body":
            break
        stops.append(stop)
    assert stops[-1] != stops[-2]
    assert not [stop for stop in stops if not stop["name"] or not stop["seen"]]
    names = [stop["name"] for stop in stops]
    wanted = ["Disconnect", "Forget this device", "Restart moltis", "Stop moltis", "Pause", "Follow", "Log lines"]
    assert [name for name in names if name in wanted] == wanted


def test_skipping_to_the_content(visit: Visit, home: World) -> None:
    """The first stop of the page is a link that skips its header."""
    panel = visit(home).sign_in()
    panel.page.reload()
    panel.wait_live()
    # The focus of a loaded page is in its content already.
    for _ in range(MOST_STOPS):
        if press(panel, "Shift+Tab")["tag"] == "body":
            break
    press(panel, "Tab")
    link = panel.page.get_by_role("link", name="Skip to the content")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    panel.page.keyboard.press("Enter")
    assert press(panel, "Tab")["name"] not in {"Tailnet", "Processes", "Sign out", "Skip to the content"}


def test_a_dialog(panel: Panel) -> None:
    """A dialog keeps the focus while open, Escape cancels it, and the focus returns to the button that opened it."""
    go_to(panel, "Forget this device")
    panel.page.keyboard.press("Enter")
    expect(panel.dialog).to_be_visible()
    expect(panel.dialog.get_by_role("button", name="Cancel")).to_be_focused()
    for _ in range(4):
        panel.page.keyboard.press("Tab")
        assert panel.page.evaluate("!document.querySelector('main').contains(document.activeElement)")
    panel.page.keyboard.press("Escape")
    expect(panel.dialog).to_be_hidden()
    expect(panel.button("Forget this device")).to_be_focused()


def test_an_order(visit: Visit, supervise: Callable[..., World]) -> None:
    """Enter gives an order, and the focus stays in the card when the button disappears."""
    panel = visit(supervise()).sign_in()
    go_to(panel, "Stop moltis")
    panel.page.keyboard.press("Enter")
    expect(panel.button("Start moltis")).to_be_visible()
    assert panel.process("moltis").evaluate("(card) => card.contains(document.activeElement)")
    go_to(panel, "Start moltis")
    panel.page.keyboard.press("Space")
    expect(panel.button("Stop moltis")).to_be_visible()


def test_the_log(panel: Panel, home: World) -> None:
    """The log can be focused and scrolled with keys."""
    panel.show_app_only()
    home.tell("flood 300 0.5")
    home.tell("say the end of it")
    panel.log_has("the end of it")
    panel.log.focus()
    panel.page.keyboard.press("PageUp")
    expect(panel.log).not_to_contain_text("the end of it")
    expect(panel.button("Follow")).to_have_attribute("aria-pressed", "false")
    panel.page.keyboard.press("End")
    panel.log_has("the end of it")
