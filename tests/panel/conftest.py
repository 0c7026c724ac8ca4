"""Fixtures of the panel tests: one browser, and one supervisor in a tailnet, shared by tests that change nothing."""

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


# Ends with this folder's tests: while Playwright runs, no other event loop can run.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser."""
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="package")
def home() -> Iterator[World]:
    """The shared supervisor, connected, with a peer; tests must not change it."""
    with tailnet() as control, peer(control, "laptop", key=KEY), supervising(control, TS_AUTHKEY=KEY) as world:
        world.node.wait_state("connected")
        yield world


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """A stack closed in reverse order at the end of the test: a page is closed before the supervisor that it shows."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def control(stack: ExitStack) -> Control:
    """A control server for one test: it accepts one key; any other login needs a visit to its link."""
    return stack.enter_context(tailnet())


@pytest.fixture
def supervise(stack: ExitStack) -> Callable[..., World]:
    """Start a supervisor for one test."""
    return lambda *given, **env: stack.enter_context(supervising(*given, **env))


@pytest.fixture
def visit(browser: Browser, stack: ExitStack) -> Callable[..., Panel]:
    """Open a supervisor's panel as a new visitor."""

    def visit(world: World | str, **options: Any) -> Panel:
        context, watch = stack.enter_context(watched(browser, **options))
        # When the page asks for the login link, it may already have been used.
        watch.expect(r"status of 404 .*/api/tailscale/auth-url")
        return Panel(context.new_page(), watch, world if isinstance(world, str) else world.url)

    return visit


@pytest.fixture
def panel(visit: Callable[..., Panel], home: World) -> Panel:
    """Return the shared supervisor's panel, signed in."""
    return visit(home).sign_in()
