"""The table of routes: path, method, required access, and handler. A route cannot be defined without its access."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.process import EventKind
from supervisor.web import events, handlers, handlers_incidents, handlers_tailnet
from supervisor.web.auth import Access
from supervisor.web.static import asset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from supervisor.web.context import Context

    Handler = Callable[[Context, web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """A route. GET routes answer HEAD too.

    ``takes_query`` is whether the handler reads the query, or ignores it, as probes and browsers add parameters. Other
    routes refuse a query.
    """

    method: str
    path: str
    access: Access
    handler: Handler
    takes_query: bool = False


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", Access.ANYONE, handlers.probe, takes_query=True),
    Route("GET", "/readyz", Access.ANYONE, handlers.probe, takes_query=True),
    Route("GET", "/health", Access.ANYONE, handlers.health, takes_query=True),
    Route("GET", "/metrics", Access.SIGNED_IN, handlers.metrics),
    Route("GET", "/", Access.ANYONE, asset, takes_query=True),
    Route("GET", "/panel/{file}", Access.ANYONE, asset, takes_query=True),
    Route("POST", "/api/session", Access.ANYONE, handlers.sign_in),
    Route("DELETE", "/api/session", Access.SIGNED_IN, handlers.sign_out),
    Route("POST", "/api/session/code", Access.ANYONE, handlers.new_code),
    Route("GET", "/api/tailscale/status", Access.SIGNED_IN, partial(handlers_tailnet.read, "tailscale.status")),
    Route("POST", "/api/tailscale/connect", Access.SIGNED_IN, partial(handlers_tailnet.order, "tailscale.connect")),
    Route(
        "POST", "/api/tailscale/disconnect", Access.SIGNED_IN, partial(handlers_tailnet.order, "tailscale.disconnect")
    ),
    Route("GET", "/api/tailscale/auth-url", Access.SIGNED_IN, partial(handlers_tailnet.read, "tailscale.auth_url")),
    Route("GET", "/api/processes", Access.SIGNED_IN, handlers.processes),
    Route("POST", "/api/processes/{name}/start", Access.SIGNED_IN, partial(handlers.order, EventKind.START)),
    Route("POST", "/api/processes/{name}/stop", Access.SIGNED_IN, partial(handlers.order, EventKind.STOP)),
    Route("POST", "/api/processes/{name}/restart", Access.SIGNED_IN, partial(handlers.order, EventKind.RESTART)),
    Route("GET", "/api/backups", Access.SIGNED_IN, handlers.backups),
    Route("POST", "/api/backups", Access.SIGNED_IN, handlers.back_up),
    Route("POST", "/api/backups/{id}/restore", Access.SIGNED_IN, handlers.restore),
    Route("GET", "/api/incidents", Access.SIGNED_IN, handlers_incidents.incidents),
    Route("GET", "/api/incidents/{id}", Access.SIGNED_IN, handlers_incidents.incident),
    Route("GET", "/api/doctor", Access.SIGNED_IN, handlers.doctor),
    Route("GET", "/api/logs", Access.SIGNED_IN, handlers.logs, takes_query=True),
    Route("GET", "/api/events", Access.SIGNED_IN, events.events, takes_query=True),
    Route("POST", "/api/rpc", Access.SIGNED_IN, handlers_tailnet.rpc),
)
