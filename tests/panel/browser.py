"""Debian's Chromium under Playwright: finds and starts it, and collects the errors of its pages."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Other names are not resolved.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
# The first draws no windows and uses a third less CPU.
PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
WRAPPER = Path(__file__).with_name("chromium-unmoved")
PATIENCE_MS = 20_000
# Chromium reports only some violations of a page's content security policy on the console.
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI} ${event.sample}`), true);
"""


def chromium() -> str:
    """Return the path of the browser, or fail with what to do: without a browser the panel is not tested."""
    wanted = os.environ.get("CHROMIUM")
    found = [path for name in ([wanted] if wanted else PROGRAMS) if (path := shutil.which(name))]
    if not found:
        where = f"CHROMIUM={wanted} is no program" if wanted else f"there is none of {', '.join(PROGRAMS)} in PATH"
        raise FileNotFoundError(f"cannot start a browser: {where}; call scripts/need-chromium, which installs it")
    return found[0]


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Run a browser for the length of a block."""
    path = chromium()
    with sync_playwright() as playwright:
        env: dict[str, str | float | bool] = {**os.environ, "CHROMIUM_PROGRAM": path}
        browser = playwright.chromium.launch(executable_path=WRAPPER, headless=True, args=list(FLAGS), env=env)
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """Records all errors and warnings of a context's pages; a test fails on any that it does not expect."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self._expected: list[str] = []
        context.add_init_script(TELL_VIOLATIONS)
        context.on("page", self._take)

    def expect(self, *patterns: str) -> None:
        """Add regular expressions of complaints that the test expects."""
        self._expected += patterns

    def unexpected(self) -> list[str]:
        """Return the complaints that were not expected."""
        return [text for text in self.complaints if not any(re.search(each, text) for each in self._expected)]

    def _take(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("crash", lambda _page: self.complaints.append("the page crashed"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


@contextlib.contextmanager
def watched(browser: Browser, **options: Any) -> Iterator[tuple[BrowserContext, Watch]]:
    """Open a new context, as for a new visitor; fail at its end if a page complained."""
    context = browser.new_context(locale="en-GB", timezone_id="UTC", **{"reduced_motion": "reduce", **options})
    context.set_default_timeout(PATIENCE_MS)
    watch = Watch(context)
    try:
        yield context, watch
    finally:
        context.close()
    found = watch.unexpected()
    assert not found, f"the page complained: {found}"
