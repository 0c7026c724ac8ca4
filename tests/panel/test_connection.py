"""The page's own connection: lost and restored, cut in mid-stream, and behind a proxy."""

from __future__ import annotations

import re
import signal
import socket
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.panel.panel import Panel
from tests.panel.proxies import PREFIX, prefixing, wire
from tests.panel.test_logs import copied
from tests.panel.world import TOKEN
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from tests.panel.world import World

    Visit = Callable[..., Panel]
    Supervise = Callable[..., World]

# A browser's limit for HTTP/1.1 and one address.
MOST_CONNECTIONS = 6
AWAY = re.compile(r"Not connected\. Trying again…")
# A browser's errors for a connection that was lost or refused.
LOST = ("net::ERR_", "status of 401", "status of 50")


def a_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def numbers(lines: list[str]) -> list[int]:
    """Return the numbers of a flood's lines."""
    return [int(found[1]) for line in lines if (found := re.search(r"flood line (\d+) of", line))]


def test_the_supervisor_goes_and_comes_back(visit: Visit, supervise: Supervise) -> None:
    """The page reports the lost connection, keeps what it showed, and asks for a sign-in once a new supervisor runs."""
    port = a_port()
    world = supervise(PORT=str(port))
    panel = visit(world).sign_in()
    panel.watch.expect(*LOST)
    world.run.send(signal.SIGKILL)
    expect(panel.connection).to_have_text(AWAY)
    expect(panel.process("moltis")).to_be_visible()
    world.run.wait()
    supervise(PORT=str(port))
    # Sessions are kept in memory only.
    panel.wait_sign_in()
    expect(panel.page.get_by_text("Your session has ended")).to_be_visible()
    panel.sign_in()


def test_a_click_while_it_is_away(visit: Visit, supervise: Supervise) -> None:
    """If an order cannot be sent, the error is shown where it was clicked."""
    world = supervise()
    panel = visit(world).sign_in()
    panel.watch.expect(*LOST)
    world.run.send(signal.SIGKILL)
    expect(panel.connection).to_have_text(AWAY)
    panel.button("Restart moltis").click()
    expect(panel.process("moltis").get_by_role("alert")).to_contain_text("does not answer")
    expect(panel.button("Restart moltis")).to_be_visible()


def test_a_cut_in_the_middle(visit: Visit, supervise: Supervise, stack: ExitStack) -> None:
    """After a cut, the lines logged meanwhile are there: none is missing, none is shown twice."""
    world = supervise()
    line = stack.enter_context(wire(world.port))
    panel = visit(line.url).sign_in()
    panel.watch.expect(*LOST)
    world.tell("flood 100 8")
    for number in (50, 300):
        world.run.wait_for(f"flood line {number} of many, as long as lines are")
        line.cut()
        expect(panel.connection).to_have_text(AWAY)
        line.repair()
        expect(panel.connection).to_have_text("Live")
    panel.log_has("flood line 799 of")
    assert numbers(copied(panel)) == list(range(800))


def test_lines_that_are_gone(visit: Visit, supervise: Supervise, stack: ExitStack) -> None:
    """If more is logged during a cut than the history holds, the page reports how many lines it missed."""
    world = supervise(SUPERVISOR_LOG_HISTORY="500")
    line = stack.enter_context(wire(world.port))
    panel = visit(line.url).sign_in()
    panel.watch.expect(*LOST)
    world.tell("say seen before")
    panel.log_has("seen before")
    line.cut()
    expect(panel.connection).to_have_text(AWAY)
    world.tell("flood 5000 0.4")
    world.tell("say seen after")
    world.run.wait_for("seen after")
    line.repair()
    panel.log_has("seen after")
    lines = copied(panel)
    skipped = [
        int(found[1].replace(",", "")) for text in lines if (found := re.search(r"([\d,]+) lines? skipped", text))
    ]
    assert sum(skipped) + len(numbers(lines)) == 2000
    assert len(numbers(lines)) < 500


def test_behind_a_proxy(visit: Visit, home: World, stack: ExitStack) -> None:
    """The panel works below a path, and with a stream that arrives in lumps."""
    panel = visit(stack.enter_context(prefixing(home.port))).sign_in()
    assert panel.page.url.partition("#")[0].endswith(f"{PREFIX}/")
    panel.show_app_only()
    home.tell("say through the proxy")
    panel.log_has("through the proxy")
    panel.page.reload()
    panel.wait_live()
    panel.button("Sign out").click()
    panel.wait_sign_in()


def test_several_pages(visit: Visit, supervise: Supervise) -> None:
    """The effect of an order from one page is shown on all open pages."""
    world = supervise()
    one, other = visit(world).sign_in(), visit(world).sign_in()
    one.button("Stop moltis").click()
    for panel in (one, other):
        expect(panel.button("Start moltis")).to_be_visible()
    other.button("Start moltis").click()
    wait_until(lambda: world.process("moltis")["pid"], what="a pid")
    for panel in (one, other):
        expect(panel.button("Stop moltis")).to_be_visible()


def test_too_many_tabs(visit: Visit, supervise: Supervise) -> None:
    """A tab whose stream gets no connection says so, and goes live once another tab is closed."""
    first = visit(supervise())
    # All tabs are opened before signing in: once all connections are taken, not even a page can be loaded.
    pages = [first.page, *(first.page.context.new_page() for _ in range(MOST_CONNECTIONS))]
    panels = [Panel(page, first.watch, first.url).open() for page in pages]
    panels[0].enter(TOKEN)
    notice = "opens no more than 6 connections to one address"

    def are_live(*, live: bool) -> list[Panel]:
        return [panel for panel in panels if (panel.connection.inner_text() == "Live") is live]

    wait_until(lambda: len(are_live(live=True)) == MOST_CONNECTIONS, what="six live tabs")
    (waiting,) = are_live(live=False)
    expect(waiting.page.get_by_text(f"{notice}, and 6 other tabs")).to_be_visible()
    panels.remove(closed := are_live(live=True)[0])
    closed.page.close()
    expect(waiting.connection).to_have_text("Live")
    # One more, to free a connection for requests: a live tab shows the notice too while a request of its own waits.
    panels.remove(closed := are_live(live=True)[0])
    closed.page.close()
    for panel in panels:
        expect(panel.connection).to_have_text("Live")
        expect(panel.page.get_by_text(notice)).to_be_hidden()
