"""Every route there is: path, verb, who may call it, and what answers. No route is written without deciding who."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.web import backups, events, health, logs, metrics, processes, rpc, sessions, tailscale
from supervisor.web.access import Access
from supervisor.web.pages import asset, index

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from supervisor.web.context import Context

    Handler = Callable[[Context, web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One line of the table. A GET answers HEAD as well.

    ``takes_query`` says that its handler looks at the query, or that none does harm: probes and browsers add to theirs.
    Everywhere else there is none.
    """

    method: str
    path: str
    access: Access
    handler: Handler
    takes_query: bool = False


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", Access.ANYONE, health.healthz, takes_query=True),
    Route("GET", "/readyz", Access.ANYONE, health.readyz, takes_query=True),
    Route("GET", "/health", Access.ANYONE, health.health, takes_query=True),
    Route("GET", "/metrics", Access.SIGNED_IN, metrics.metrics),
    Route("GET", "/", Access.ANYONE, index, takes_query=True),
    Route("GET", "/panel/{file}", Access.ANYONE, asset, takes_query=True),
    Route("POST", "/api/session", Access.ANYONE, sessions.sign_in),
    Route("DELETE", "/api/session", Access.SIGNED_IN, sessions.sign_out),
    Route("POST", "/api/session/code", Access.ANYONE, sessions.new_code),
    Route("GET", "/api/tailscale/status", Access.SIGNED_IN, tailscale.status),
    Route("POST", "/api/tailscale/connect", Access.SIGNED_IN, tailscale.connect),
    Route("POST", "/api/tailscale/disconnect", Access.SIGNED_IN, tailscale.disconnect),
    Route("GET", "/api/tailscale/auth-url", Access.SIGNED_IN, tailscale.auth_url),
    Route("GET", "/api/processes", Access.SIGNED_IN, processes.processes),
    Route("POST", "/api/processes/{name}/start", Access.SIGNED_IN, processes.start),
    Route("POST", "/api/processes/{name}/stop", Access.SIGNED_IN, processes.stop),
    Route("POST", "/api/processes/{name}/restart", Access.SIGNED_IN, processes.restart),
    Route("GET", "/api/backups", Access.SIGNED_IN, backups.backups),
    Route("POST", "/api/backups", Access.SIGNED_IN, backups.back_up),
    Route("POST", "/api/backups/{id}/restore", Access.SIGNED_IN, backups.restore),
    Route("GET", "/api/logs", Access.SIGNED_IN, logs.logs, takes_query=True),
    Route("GET", "/api/events", Access.SIGNED_IN, events.events, takes_query=True),
    Route("POST", "/api/rpc", Access.SIGNED_IN, rpc.rpc),
)
