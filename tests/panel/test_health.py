"""Health in the panel: the verdict with its reasons, and its recent changes."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.panel.panel import Panel
    from tests.panel.world import World

    Visit = Callable[..., Panel]

HELPER = '[process.helper]\ncommand = ["sh", "-c", "exec sleep 300"]\n'


def test_the_verdict(panel: Panel, home: World) -> None:
    """The section shows the status from /health, as a whole and for each component."""
    with urllib.request.urlopen(f"{home.url}health", timeout=10) as answer:  # noqa: S310 - loopback
        told = json.loads(answer.read())
    health = panel.section("Health")
    expect(health.get_by_text(told["status"], exact=True).first).to_be_visible()
    for name, [part] in told["checks"].items():
        row = health.get_by_role("list", name="Components").get_by_role("listitem").filter(has_text=name)
        expect(row.first).to_contain_text(part["observedValue"])


def test_its_changes(visit: Visit, supervise: Callable[..., World]) -> None:
    """A change is shown at once with its reason, the newest first, and also to a page opened later."""
    world = supervise(toml=HELPER)
    panel = visit(world).sign_in()
    changes = panel.section("Health").get_by_role("list", name="Recent changes").get_by_role("listitem")
    panel.button("Stop moltis").click()
    expect(changes.first).to_contain_text("fail")
    expect(changes.first).to_contain_text("moltis", ignore_case=True)
    panel.button("Start moltis").click()
    expect(changes.first).to_contain_text("pass")
    late = visit(world).sign_in().section("Health").get_by_role("list", name="Recent changes").get_by_role("listitem")
    expect(late.first).to_contain_text("pass")
    expect(late.nth(1)).to_contain_text("fail")


def test_what_is_said_of_the_settings(visit: Visit, supervise: Callable[..., World]) -> None:
    """A warning of `check` is shown."""
    shaky = visit(supervise(SUPERVISOR_APP_BIND="127.0.0.3")).sign_in()
    settings = shaky.section("Health").get_by_role("list", name="Settings").get_by_role("listitem")
    expect(settings.filter(has_text="no one can reach the app").first).to_be_visible()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has no warning about who can read the token")
def test_nothing_is_said_of_settings_without_warnings(visit: Visit, supervise: Callable[..., World]) -> None:
    """Without warnings and notes of `check` there is no list of them."""
    env = {"SUPERVISOR_EXPOSE": "public", "SUPERVISOR_PORT": "0", "SUPERVISOR_APP_USER": "root"}
    # An app that runs as root can read a token that is set.
    world = supervise(token="", **env)
    code = world.run.wait_for("sign in to the panel with this code")["code"]
    health = visit(world).sign_in(code).section("Health")
    expect(health.get_by_role("list", name="Components").get_by_role("listitem").first).to_be_visible()
    expect(health.get_by_role("heading", name="Settings")).to_be_hidden()
