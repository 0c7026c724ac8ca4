"""What the tests of the panel share: one browser, one supervisor in a tailnet for those that change nothing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.panel.browser import browsing, watched
from tests.panel.panel import Panel
from tests.panel.world import KEY, World, supervising, tailnet
from tests.support.peer import peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from tests.support.control import Control


# As long as the folder's tests last, and no longer: while Playwright is there, nobody else has an event loop.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser."""
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="package")
def home() -> Iterator[World]:
    """The supervisor that all share, connected, with a peer: nobody may change it."""
    with tailnet() as control, peer(control, "laptop", key=KEY), supervising(control, TS_AUTHKEY=KEY) as world:
        world.node.wait_state("connected")
        yield world


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What ends with the test, the last first: a page ends before the supervisor that it shows."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def control(stack: ExitStack) -> Control:
    """A control server of the test's own: it takes one key, and wants a visit to a link otherwise."""
    return stack.enter_context(tailnet())


@pytest.fixture
def supervise(stack: ExitStack) -> Callable[..., World]:
    """Start a supervisor of the test's own."""
    return lambda *given, **env: stack.enter_context(supervising(*given, **env))


@pytest.fixture
def visit(browser: Browser, stack: ExitStack) -> Callable[..., Panel]:
    """Open a supervisor's panel as a new visitor."""

    def visit(world: World | str, **options: Any) -> Panel:
        context, watch = stack.enter_context(watched(browser, **options))
        # By the time that the page asks for a link, somebody may have used it.
        watch.expect(r"status of 404 .*/api/tailscale/auth-url")
        return Panel(context.new_page(), watch, world if isinstance(world, str) else world.url)

    return visit


@pytest.fixture
def panel(visit: Callable[..., Panel], home: World) -> Panel:
    """Return the shared supervisor's panel, signed in."""
    return visit(home).sign_in()
