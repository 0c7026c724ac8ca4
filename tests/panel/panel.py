"""The panel as found by roles and names alone, so that tests use only what a screen reader finds too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.panel.browser import PATIENCE_MS
from tests.panel.world import TOKEN

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.panel.browser import Watch

expect.set_options(timeout=PATIENCE_MS)


class Panel:
    """A page that shows the panel."""

    def __init__(self, page: Page, watch: Watch, url: str) -> None:
        self.page = page
        self.watch = watch
        self.url = url

    def open(self, path: str = "") -> Panel:
        """Go to the panel, not signed in yet."""
        self.page.goto(self.url + path)
        return self

    def enter(self, secret: str) -> None:
        """Fill in the sign-in form and submit it."""
        self.page.get_by_label("Token or code").fill(secret)
        self.button("Sign in").click()

    def sign_in(self, secret: str = TOKEN) -> Panel:
        """Open the panel, sign in, and wait until its event stream is live."""
        self.open()
        self.enter(secret)
        self.wait_live()
        return self

    def wait_live(self) -> None:
        """Wait until the event stream is live and has delivered the processes, and incidents, which follow, are there.

        Until then the page still grows.
        """
        expect(self.connection).to_have_text("Live")
        expect(self.process("moltis")).to_be_visible()
        expect(self.page.locator("#incidents-state")).not_to_have_text(re.compile("^…?$"))

    def wait_sign_in(self) -> None:
        """Wait for the sign-in view."""
        expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible()

    def button(self, name: str) -> Locator:
        """Return a button by its name."""
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def connection(self) -> Locator:
        """The page's status of its own connection."""
        return self.page.get_by_role("status", name="Connection")

    @property
    def alert(self) -> Locator:
        """The error shown."""
        return self.page.get_by_role("alert").filter(visible=True)

    @property
    def dialog(self) -> Locator:
        """The open dialog."""
        return self.page.get_by_role("dialog")

    def section(self, name: str) -> Locator:
        """Return a section of the page by its name."""
        return self.page.get_by_role("region", name=name, exact=True)

    def process(self, name: str) -> Locator:
        """Return the card of a process."""
        heading = self.page.get_by_role("heading", name=name, exact=True, level=3)
        return self.section("Processes").get_by_role("article").filter(has=heading)

    @property
    def log(self) -> Locator:
        """The lines of the log."""
        return self.page.get_by_role("log", name="Log lines")

    def show_app_only(self) -> None:
        """Show only the app's lines: tailscaled logs something whenever the machine changes."""
        self.section("Logs").get_by_role("combobox", name="Process", exact=True).select_option("moltis")

    def log_has(self, text: str) -> Locator:
        """Wait until a text is in the log."""
        expect(self.log).to_contain_text(text)
        return self.log.get_by_text(text).first

    def enter_key(self, key: str) -> None:
        """Fill in an auth key, unfolding its field if necessary."""
        field = self.page.get_by_label("Auth key")
        if not field.is_visible():
            self.section("Tailnet").get_by_text("Connect with an auth key", exact=True).click()
        field.fill(key)

    def connect_with(self, key: str) -> None:
        """Enter an auth key, and confirm it by the keyboard: a login link that appears moves the button."""
        self.enter_key(key)
        self.page.get_by_label("Auth key").press("Enter")

    def everything(self) -> str:
        """Return everything the page holds: its document, its fields' values, its address, and its web storage."""
        return str(
            self.page.evaluate(
                """() => [document.documentElement.outerHTML, location.href, JSON.stringify(localStorage),
                JSON.stringify(sessionStorage), JSON.stringify(history.state), document.cookie,
                ...[...document.querySelectorAll("input, textarea")].map((field) => field.value)].join("\\n")"""
            )
        )
