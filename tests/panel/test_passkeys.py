"""Passkeys of an app behind serve: a browser's virtual authenticator, through the tailnet, with a real tailscaled."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.example_app.test_stand_in import STAND_IN
from tests.panel.browser import FLAGS, WRAPPER, chromium
from tests.panel.proxies import wire
from tests.panel.world import KEY, TOKEN, World
from tests.process.running import running
from tests.support.peer import peer
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.tailnet.node import at, environment
from tests.tailnet.serve.publishing import CERTIFICATE, NAME
from tests.tailnet.serve.publishing import KEY as CERTIFICATE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.panel.panel import Panel
    from tests.support.control import Control

URL = f"https://{NAME}"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@contextmanager
def app_page(browser: Browser, port: int) -> Iterator[Page]:
    """Open the app in another browser that reaches the tailnet's name at a port and has a virtual authenticator."""
    rules = f"--host-resolver-rules=MAP {NAME} 127.0.0.1:{port}"
    # Chromium offers no passkeys with a certificate that it does not trust.
    flags = [*FLAGS, rules, "--ignore-certificate-errors"]
    env = {"CHROMIUM_PROGRAM": chromium()}
    other = browser.browser_type.launch(executable_path=WRAPPER, args=flags, env={**env, "HOME": "/tmp"})
    try:
        page = other.new_page()
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        yield page
    finally:
        other.close()


def says(page: Page, button: str, words: str) -> None:
    """Click a button, and expect the page to show a message."""
    page.goto(f"{URL}/passkeys")
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("status")).to_have_text(words)


def test_passkeys_work_after_the_restart_that_the_panel_asks_for(
    browser: Browser, visit: Callable[..., Panel], control: Control, tmp_path: Path
) -> None:
    """The app gets its URL at its next start, in this run and in the next one."""
    control.order("certs", on=1)
    folder = tmp_path / "state/certs"
    folder.mkdir(parents=True)
    (folder / f"{NAME}.key").write_text(CERTIFICATE_KEY)
    (folder / f"{NAME}.crt").write_text(CERTIFICATE)
    env = {
        **environment(**at(control), TS_STATE_DIR=str(tmp_path / "state"), TS_AUTHKEY=KEY),
        "SUPERVISOR_APP_COMMAND": f"{sys.executable} {STAND_IN}",
        "SUPERVISOR_APP_HEALTH_URL": "/health",
        "SUPERVISOR_APP_PORT": str(free_port("127.0.0.2")),
        "SUPERVISOR_SERVE": "https",
        "SUPERVISOR_TOKEN": TOKEN,
    }
    with peer(control, "laptop", key=KEY) as laptop, wire(lambda: laptop.dial(NAME, 443)) as line:
        with running(env=env) as run, app_page(browser, line.port) as page:
            run.wait_for("serve: external URL", 60, url=URL)
            run.wait_for("serve: published")
            laptop.wait_path(str(World(run).node.view()["tailscale_ip"]))
            says(page, "Register", f"passkeys are bound to localhost, not to {NAME}")
            panel = visit(World(run)).sign_in()
            card = panel.process("moltis")
            expect(card).to_contain_text(f"started before its URL {URL} was known; restart it")
            panel.button("Restart moltis").click()
            expect(card).not_to_contain_text("restart it")
            wait_until(lambda: World(run).process("moltis")["restarts"] == 1, what="the restart")
            wait_until(lambda: World(run).process("moltis")["ready"], what="the app")
            says(page, "Register", "register ok")
            says(page, "Sign in", "sign-in ok")
            panel.page.context.close()
        with running(env=env) as run, app_page(browser, line.port) as page:
            run.wait_for("serve: published", 60)
            laptop.wait_path(str(World(run).node.view()["tailscale_ip"]))
            says(page, "Register", "register ok")
            panel = visit(World(run)).sign_in()
            expect(panel.process("moltis")).to_contain_text("running")
            expect(panel.process("moltis")).not_to_contain_text("restart it")
            assert not run.find("serve: external URL")
            panel.page.context.close()
