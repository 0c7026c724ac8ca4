"""The processes in the panel: their states, their last exits, and orders to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.panel.panel import Panel
    from tests.panel.world import World

    Visit = Callable[..., Panel]

# So long that it never happens to be short: the wait is drawn between zero and this.
LONG = {"SUPERVISOR_BACKOFF_INITIAL": "10h", "SUPERVISOR_BACKOFF_MAX": "10h", "SUPERVISOR_GIVE_UP": "never"}


@pytest.fixture
def world(supervise: Callable[..., World], tmp_path: Path) -> World:
    """A supervisor with a helper that crashes until a file exists."""
    script = f"echo looking for it; test -e {tmp_path}/good || exit 3; exec sleep 300"
    return supervise(toml=f'[process.helper]\ncommand = ["sh", "-c", "{script}"]\n', **LONG)


def test_restart_stop_and_start(visit: Visit, world: World) -> None:
    """Each order shows its result: another pid, none, and yet another."""
    panel = visit(world).sign_in()
    moltis = panel.process("moltis")
    pids = [world.process("moltis")["pid"]]
    expect(moltis).to_contain_text(str(pids[0]))
    panel.button("Restart moltis").click()
    pids.append(wait_until(lambda: (pid := world.process("moltis")["pid"]) not in pids and pid, what="another pid"))
    expect(moltis).to_contain_text(str(pids[1]))
    panel.button("Stop moltis").click()
    expect(moltis.get_by_text("stopped")).to_be_visible()
    expect(panel.button("Stop moltis")).to_be_hidden()
    assert world.process("moltis")["pid"] is None
    panel.button("Start moltis").click()
    expect(moltis.get_by_text("running", exact=True)).to_be_visible()
    expect(moltis).to_contain_text(str(world.process("moltis")["pid"]))
    assert world.process("moltis")["pid"] not in {*pids, None}


def test_try_now(visit: Visit, world: World, tmp_path: Path) -> None:
    """A crash is shown with its last lines and the wait; a click ends the wait, and its result is shown."""
    panel = visit(world).sign_in()
    helper = panel.process("helper")
    expect(helper).to_contain_text("will be tried again")
    expect(helper).to_contain_text("Next try")
    helper.get_by_text("Last exits").click()
    exits = helper.get_by_role("listitem").filter(has_text="looking for it")
    expect(exits).to_have_count(1)
    expect(helper).to_contain_text("code 3")
    panel.button("Try helper now").click()
    expect(exits).to_have_count(2)
    (tmp_path / "good").touch()
    panel.button("Try helper now").click()
    expect(helper.get_by_text("running", exact=True)).to_be_visible()
    expect(panel.button("Try helper now")).to_be_hidden()


def test_an_app_that_does_not_stop(visit: Visit, world: World) -> None:
    """Until the app has exited it is shown as stopping, and no button starts it."""
    panel = visit(world).sign_in()
    world.tell("slow")
    panel.log_has("slow now")
    pid = world.process("moltis")["pid"]
    panel.button("Stop moltis").click()
    expect(panel.process("moltis").get_by_text("stopping")).to_be_visible()
    assert world.process("moltis")["pid"] == pid
    expect(panel.button("Start moltis")).to_be_hidden()
    world.tell("end 0")
    expect(panel.button("Start moltis")).to_be_visible()


def test_figures_are_there_and_live(panel: Panel) -> None:
    """Memory is shown in MiB, and the uptime counts up by itself."""
    moltis = panel.process("moltis")
    expect(moltis).to_contain_text("MiB")
    before = moltis.inner_text()
    wait_until(lambda: moltis.inner_text() != before, what="uptime to count on")


def test_an_order_that_is_refused(visit: Visit, world: World) -> None:
    """The reason is shown where it was clicked, and the button can be used again."""
    panel = visit(world).sign_in()
    panel.watch.expect("status of 409")
    told = {"code": "STOPPING", "error": "cannot take orders: the supervisor is stopping; wait until it is back"}
    panel.page.route("**/api/processes/moltis/restart", lambda route: route.fulfill(status=409, json=told))
    panel.button("Restart moltis").click()
    expect(panel.process("moltis").get_by_role("alert")).to_contain_text("is stopping; wait until")
    expect(panel.button("Restart moltis")).to_be_enabled()
