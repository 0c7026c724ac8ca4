"""The tailnet in the panel: both ways to connect, disconnecting, forgetting, and buttons that wait for the state."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.panel.pictures import qr_matrix
from tests.panel.test_logs import copied
from tests.panel.world import BAD_KEY, KEY, World
from tests.support.processes import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.panel.panel import Panel
    from tests.support.control import Control

    Visit = Callable[..., Panel]

QR = "QR code of the login link"
FORGET = "Forget this device"
STATE_MS = 30_000


@pytest.fixture
def new(control: Control, supervise: Callable[..., World]) -> World:
    """A supervisor whose device is in no tailnet yet."""
    world = supervise(control)
    world.node.wait_state("needs login")
    return world


@pytest.fixture
def connected(new: World) -> World:
    """A supervisor whose device was logged in with a key that is not stored anywhere."""
    new.node.connect(KEY)
    new.node.wait_state("connected")
    return new


def expect_state(panel: Panel, state: str) -> None:
    """Wait until the panel shows this state."""
    expect(panel.section("Tailnet").get_by_text(state, exact=True).first).to_be_visible(timeout=STATE_MS)


def visit_link(panel: Panel, world: World, control: Control) -> None:
    """Check that the QR code and the link are the supervisor's login link, and approve the device there."""
    picture = panel.page.get_by_role("img", name=QR)
    expect(picture).to_be_visible()
    url = world.node.call("GET", "/api/tailscale/auth-url")[1]["auth_url"]
    expect(panel.page.get_by_role("link", name=url)).to_be_visible()
    assert qr_matrix(picture, url)
    control.order("complete-auth", url=url)
    expect_state(panel, "connected")
    expect(picture).to_be_hidden()


def test_with_a_key(visit: Visit, new: World) -> None:
    """A pasted key connects; afterwards it is not on the page, in the browser, or in the log."""
    panel = visit(new).sign_in()
    expect_state(panel, "needs login")
    panel.connect_with(KEY)
    expect_state(panel, "connected")
    expect(panel.section("Tailnet")).to_contain_text("tail.example")
    assert KEY not in panel.everything()
    assert KEY not in str(new.node.call("GET", "/api/logs?last=1000"))
    assert KEY not in str(new.run.records)


def test_with_a_key_that_is_refused(visit: Visit, new: World) -> None:
    """The reason and what to do are shown, the key is not; a valid key works afterwards."""
    panel = visit(new).sign_in()
    panel.connect_with(BAD_KEY)
    expect(panel.section("Tailnet")).to_contain_text("The auth key was refused", timeout=STATE_MS)
    expect(panel.section("Tailnet")).to_contain_text("What to do:")
    expect(panel.section("Tailnet")).to_contain_text(new.node.view()["last_error"], ignore_case=True)
    assert BAD_KEY not in panel.everything()
    panel.connect_with(KEY)
    expect_state(panel, "connected")


def test_with_a_bad_key_while_connected(visit: Visit, connected: World) -> None:
    """The device keeps its login, and the form says that the key was not accepted."""
    panel = visit(connected).sign_in()
    expect_state(panel, "connected")
    panel.enter_key(BAD_KEY)
    panel.button("Connect").click()
    expect(panel.alert).to_contain_text("keeps its login", timeout=STATE_MS)
    expect_state(panel, "connected")


def test_no_key_at_all(visit: Visit, new: World) -> None:
    """The error of an empty field is shown next to it, and nothing is sent."""
    panel = visit(new).sign_in()
    sent: list[str] = []
    panel.page.on("request", lambda request: sent.append(request.url) if request.method != "GET" else None)
    panel.connect_with("")
    expect(panel.alert).to_contain_text("Paste an auth key first")
    assert not sent


def test_with_a_login_link(visit: Visit, control: Control, new: World) -> None:
    """The QR code is the link's, dark on light in the dark theme too; both disappear once the device is approved."""
    panel = visit(new, color_scheme="dark").sign_in()
    visit_link(panel, new, control)


def test_disconnect_and_reconnect(visit: Visit, connected: World) -> None:
    """Each button is replaced by the other once the state has changed."""
    panel = visit(connected).sign_in()
    panel.button("Disconnect").click()
    expect_state(panel, "disconnected by you")
    expect(panel.button("Disconnect")).to_be_hidden()
    panel.button("Reconnect").click()
    expect_state(panel, "connected")
    expect(panel.button("Reconnect")).to_be_hidden()


def test_forget(visit: Visit, control: Control, connected: World) -> None:
    """A dialog asks first; cancelling changes nothing; confirming removes the device; a login link brings it back."""
    panel = visit(connected).sign_in()
    for leave in ("Cancel", "Escape"):
        panel.button(FORGET).click()
        expect(panel.dialog.get_by_role("heading", name="Forget this device?")).to_be_visible()
        panel.button("Cancel").click() if leave == "Cancel" else panel.page.keyboard.press(leave)
        expect(panel.dialog).to_be_hidden()
        expect(panel.button(FORGET)).to_be_focused()
    assert "moltis" in control.nodes()
    panel.button(FORGET).click()
    panel.dialog.get_by_role("button", name=FORGET).click()
    panel.button("Connect with a login link").click(timeout=STATE_MS)
    visit_link(panel, connected, control)


def test_a_button_waits_for_the_world(visit: Visit, connected: World) -> None:
    """While tailscaled is frozen the button says it was asked, even when other news arrives."""
    panel = visit(connected).sign_in()
    panel.show_app_only()
    with frozen(connected.process("tailscaled")["pid"]):
        panel.button("Disconnect").click()
        expect(panel.button("Asked…")).to_be_visible()
        # The supervisor logs many lines now, and only visible rows are in the document.
        panel.page.get_by_role("combobox", name="Process", exact=True).select_option("moltis")
        connected.tell("say news from the app")
        panel.log_has("news from the app")
        expect(panel.button("Asked…")).to_be_visible()
        expect(panel.button("Reconnect")).to_be_hidden()
    expect(panel.button("Reconnect")).to_be_visible(timeout=STATE_MS)
    expect(panel.button("Asked…")).to_be_hidden()


def test_what_there_is_to_know(panel: Panel) -> None:
    """Device, tailnet, address and peers are shown."""
    tailnet = panel.section("Tailnet")
    for text in ("connected", "moltis.tail.example", "laptop", "100.64."):
        expect(tailnet).to_contain_text(text)


def test_the_log_has_each_time_once(panel: Panel) -> None:
    """tailscaled writes the time into its lines; the page shows it only in the first column."""
    logs = panel.section("Logs")
    logs.get_by_role("combobox", name="Process", exact=True).select_option("tailscaled")
    logs.get_by_role("combobox", name="Level", exact=True).select_option(label="All levels")
    panel.log_has("magicsock")
    lines = copied(panel)
    assert len(lines) > 5
    assert all(re.match(r"\S+Z tailscaled [A-Z]+ (?!\d{4}/)", line) for line in lines), lines


@pytest.mark.parametrize(
    ("mode", "says"),
    [("off", "SUPERVISOR_SERVE is off"), ("auto", "the device is not in its tailnet (needs login)")],
)
def test_an_app_that_is_not_published(
    visit: Visit, supervise: Callable[..., World], control: Control, mode: str, says: str
) -> None:
    """The page says why the app is not published; once the device is connected, it links to the app."""
    world = supervise(control, SUPERVISOR_SERVE=mode)
    world.node.wait_state("needs login")
    panel = visit(world).sign_in()
    expect(panel.section("Tailnet")).to_contain_text(f"Not published: {says}")
    if mode == "auto":
        panel.connect_with(KEY)
        expect(panel.section("Tailnet").get_by_role("link", name="http://moltis")).to_be_visible(timeout=STATE_MS)
        expect(panel.section("Tailnet")).not_to_contain_text("Not published")
