"""Signing in, its refusals, and signing out."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.panel.world import TOKEN, World, supervising
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.panel.panel import Panel

    Visit = Callable[..., Panel]

REFUSED = "status of 401"
PRINT = "Print a new code in the log"
PRINTED = "sign in to the panel with this code"
SESSION = "JSON.parse(Object.values(localStorage).find((each) => each.includes('session'))).session"


@pytest.fixture(scope="module")
def tokenless() -> Iterator[World]:
    """A supervisor without an admin token."""
    with supervising(token="") as world:
        yield world


def a_code(world: World) -> str:
    """Return a fresh sign-in code, as `moltis-supervisor token` does."""
    return str(world.node.call("POST", "/api/session/code", {})[1]["code"])


def test_with_the_token(visit: Visit, home: World) -> None:
    """The token signs in, the session survives a reload, and the token is nowhere on the page."""
    panel = visit(home).sign_in()
    assert TOKEN not in panel.everything()
    panel.page.reload()
    panel.wait_live()


def test_with_a_code(visit: Visit, tokenless: World) -> None:
    """A one-time code signs in, in lower case and with a hyphen too."""
    code = a_code(tokenless)
    visit(tokenless).sign_in(f" {code[:10].lower()}-{code[10:]}")


def test_with_a_link(visit: Visit, tokenless: World) -> None:
    """The code is removed from the address bar and the history; used again it is refused, with what to do."""
    code = a_code(tokenless)
    panel = visit(tokenless).open(f"#code={code}")
    panel.wait_live()
    assert code not in panel.everything()
    again = visit(tokenless)
    again.watch.expect(REFUSED)
    again.open(f"#code={code}")
    again.wait_sign_in()
    expect(again.alert).to_contain_text("code")
    assert code not in again.page.url


def test_with_a_link_that_was_cut_off(visit: Visit, tokenless: World) -> None:
    """The truncated code is refused like any wrong one, with what to do."""
    panel = visit(tokenless)
    panel.watch.expect(REFUSED)
    panel.open("#code=ABC%2")
    panel.wait_sign_in()
    expect(panel.alert).to_contain_text("neither the token nor a valid code")


def test_a_new_code_in_the_log(visit: Visit, tokenless: World) -> None:
    """A new code is only in the container's log; asked again too soon, the page says to wait and where to look."""
    code = tokenless.run.wait_for(PRINTED)["code"]
    panel = visit(tokenless).open()
    panel.watch.expect("status of 429")
    panel.button(PRINT).click()
    expect(panel.page.get_by_text("less than a minute ago")).to_be_visible()
    assert code not in panel.everything()
    # Answered here: the test does not wait a minute for another.
    panel.page.route("**/api/session/code", lambda route: route.fulfill(status=202, json={"ok": True}))
    panel.button(PRINT).click()
    expect(panel.page.get_by_text("A new code is in the container's log")).to_be_visible()
    panel.enter(code)
    panel.wait_live()
    assert code not in str(tokenless.node.call("GET", "/api/logs?last=1000"))


def test_no_code_where_there_is_a_token(visit: Visit, home: World) -> None:
    """With an admin token no code is needed: the page says so, and none is printed."""
    panel = visit(home).open()
    panel.watch.expect("status of 4")
    panel.button(PRINT).click()
    expect(panel.page.get_by_text("SUPERVISOR_TOKEN").filter(visible=True).last).to_be_visible()
    expect(panel.button(PRINT)).to_be_hidden()
    assert not home.run.all(PRINTED)


def test_a_wrong_token(visit: Visit, home: World) -> None:
    """A wrong token is refused where it was entered, and a right one is accepted afterwards."""
    panel = visit(home).open()
    panel.watch.expect(REFUSED)
    panel.enter("not-the-token")
    expect(panel.alert).to_be_visible()
    panel.wait_sign_in()
    panel.enter(TOKEN)
    panel.wait_live()


def guess(world: World) -> int:
    """Try a wrong token; return the status of the response."""
    body, head = json.dumps({"token": "wrong"}).encode(), {"Content-Type": "application/json"}
    return status(urllib.request.Request(f"{world.url}api/session", body, head))  # noqa: S310 - loopback


def asking(world: World, session: str) -> int:
    """Send a request with a session; return the status of the response."""
    head = {"Authorization": f"Bearer {session}"}
    return status(urllib.request.Request(f"{world.url}api/processes", headers=head))  # noqa: S310 - loopback


def status(asked: urllib.request.Request) -> int:
    """Send a request; return the status of the response."""
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - loopback
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_too_many_guesses(visit: Visit, supervise: Callable[..., World]) -> None:
    """After too many wrong guesses the page says how long to wait; the right token is still accepted."""
    world = supervise()
    assert 429 in [guess(world) for _ in range(12)]
    panel = visit(world).open()
    panel.watch.expect("status of 429")
    panel.enter("wrong again")
    expect(panel.alert).to_contain_text("Too many wrong")
    expect(panel.alert).to_contain_text("seconds")
    panel.enter(TOKEN)
    panel.wait_live()


def test_a_session_that_has_ended(visit: Visit, home: World) -> None:
    """An open page whose session has ended returns to the sign-in view and says why."""
    panel = visit(home).sign_in()
    panel.watch.expect(REFUSED)
    # As the supervisor does after twelve hours: the page learns of it only from the stream.
    ended = "async (kept) => (await fetch('api/session', {method: 'DELETE', headers: {Authorization: kept}})).status"
    assert panel.page.evaluate(ended, f"Bearer {panel.page.evaluate(SESSION)}") == 204
    panel.wait_sign_in()
    expect(panel.page.get_by_text("Your session has ended")).to_be_visible()
    panel.enter(TOKEN)
    panel.wait_live()


def test_signing_out_in_another_tab(visit: Visit, home: World) -> None:
    """Signing out in one tab signs out the visitor's other tab."""
    panel = visit(home).sign_in()
    panel.watch.expect(REFUSED)
    other = panel.page.context.new_page()
    other.goto(home.url)
    expect(other.get_by_role("status", name="Connection")).to_have_text("Live")
    other.get_by_role("button", name="Sign out").click()
    panel.wait_sign_in()


def test_signing_out_without_an_answer(visit: Visit, home: World) -> None:
    """Signing out hides the panel at once, even if the supervisor does not answer."""
    panel = visit(home).sign_in()
    panel.page.route("**/api/session", lambda _route: None)
    panel.button("Sign out").click()
    panel.wait_sign_in()


def test_signing_out(visit: Visit, home: World) -> None:
    """The session ends at the supervisor too, and nothing of it stays in the browser."""
    panel = visit(home).sign_in()
    session = str(panel.page.evaluate(SESSION))
    assert session in panel.everything()
    assert asking(home, session) == 200
    panel.button("Sign out").click()
    panel.wait_sign_in()
    assert session not in panel.everything()
    # With too many wrong guesses before, the answer to a session that has ended is 429.
    wait_until(lambda: asking(home, session) in {401, 429}, what="the session's end")
    panel.page.reload()
    panel.wait_sign_in()
    assert session not in panel.everything()
