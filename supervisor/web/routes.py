"""Every route there is: path, verb, who may call it, and what answers. No route is written without deciding who."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from supervisor.web import health

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from supervisor.web.context import Context

    Handler = Callable[[Context, web.Request], Awaitable[web.StreamResponse]]


class Access(Enum):
    """Who may call a route."""

    ANYONE = "anyone"


class Route(NamedTuple):
    """One line of the table. A GET answers HEAD as well."""

    method: str
    path: str
    access: Access
    handler: Handler


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", Access.ANYONE, health.healthz),
    Route("GET", "/readyz", Access.ANYONE, health.readyz),
    Route("GET", "/health", Access.ANYONE, health.health),
)
