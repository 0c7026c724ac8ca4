"""Backups in the panel: their state, a snapshot on demand, and a restore after confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.backup.world import World as Backed
from tests.backup.world import listed, make_unclear, wait_for_state
from tests.panel.world import TOKEN
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.panel.panel import Panel
    from tests.panel.world import World

    Visit = Callable[..., Panel]


def test_nothing_is_shown_where_there_are_none(panel: Panel) -> None:
    """Without backups there is no section, no link to it, and no button."""
    expect(panel.section("Health")).to_be_visible()
    expect(panel.page.get_by_role("link", name="Backups")).to_have_count(0)
    expect(panel.button("Back up now")).to_have_count(0)


def test_a_snapshot_now_and_one_brought_back(visit: Visit, supervise: Callable[..., World]) -> None:
    """The button takes a snapshot, which appears in the list; a restore asks first and says what it replaces."""
    backed = Backed()
    world = supervise(token="", **{**backed.env(), "SUPERVISOR_TOKEN": TOKEN})
    wait_for_state(world.run, "idle")
    (backed.data / "note").write_text("old")
    panel = visit(world).sign_in()
    section = panel.section("Backups")
    expect(section).to_contain_text("none yet")
    panel.button("Back up now").click()
    expect(section).to_contain_text("new in")
    expect(section).to_contain_text("waiting for the next snapshot")
    (backed.data / "note").write_text("new")
    section.get_by_text("Snapshots", exact=True).click()
    rows = section.get_by_role("list", name="Snapshots").get_by_role("listitem")
    expect(rows).to_have_count(1)
    rows.first.get_by_role("button").click()
    dialog = panel.page.get_by_role("dialog")
    expect(dialog).to_contain_text("its folders are replaced")
    dialog.get_by_role("button", name="Cancel").click()
    assert (backed.data / "note").read_text() == "new"
    rows.first.get_by_role("button").click()
    dialog.get_by_role("button", name="Restore this one").click()
    wait_until(lambda: (backed.data / "note").read_text() == "old", what="the restored file")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("before a restore")


def test_a_held_start_says_why_and_can_be_let_go(visit: Visit, supervise: Callable[..., World]) -> None:
    """A held start shows its reason, and the owner chooses here too: keep the files, or start without a backup."""
    backed = Backed()
    make_unclear(backed)
    world = supervise(token="", waits=False, **{**backed.env(), "SUPERVISOR_TOKEN": TOKEN})
    panel = visit(world).sign_in()
    section = panel.section("Backups")
    expect(section).to_contain_text("belong to no known snapshot")
    expect(panel.button("Keep the files that are here")).to_be_visible()
    panel.button("Start without a backup").click()
    panel.page.get_by_role("dialog").get_by_role("button", name="Start without a backup").click()
    expect(section).to_contain_text("no snapshots are taken")
    world.run.wait_for("started")
    assert listed(world.run)["state"] == "without"
