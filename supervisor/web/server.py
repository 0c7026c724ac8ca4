"""Serves HTTP on the sockets that were bound before anything was started."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from supervisor.web.connections import Connections
from supervisor.web.context import Context
from supervisor.web.errors import error
from supervisor.web.routes import ROUTES

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from aiohttp.typedefs import Handler

    from supervisor.logs.hub import LogHub
    from supervisor.plan.model import Plan
    from supervisor.runtime.board import Board
    from supervisor.runtime.engine import Engine
    from supervisor.web.routes import Route

MOST_BODY_BYTES = 64 * 1024
BODY_S = 10.0
KEEP_ALIVE_S = 75.0
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Server:
    """One HTTP server over all the sockets."""

    def __init__(self, plan: Plan, board: Board, hub: LogHub, engine: Engine, sockets: Sequence[socket.socket]) -> None:
        self._context = Context(plan, board, hub, engine)
        self._hub = hub
        self._sockets = sockets
        self._connections: Connections | None = None
        # Whatever goes wrong in a handler is said by us, with its traceback; bad requests are the client's affair.
        logging.getLogger("aiohttp").setLevel(logging.CRITICAL + 1)

    async def run(self) -> None:
        """Serve until cancelled."""
        runner = web.AppRunner(
            self._app(), access_log=None, keepalive_timeout=KEEP_ALIVE_S, handler_cancellation=True, lingering_time=1.0
        )
        await runner.setup()
        if runner.server is None:
            raise RuntimeError("cannot serve: aiohttp made no server")
        self._connections = Connections(runner.server)
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(self._connections, sock=listener.dup(), backlog=256) for listener in self._sockets
        ]
        try:
            await anyio.sleep_forever()
        finally:
            for server in servers:
                server.close()
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._guard])
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._bound(route))
            if route.method == "GET":
                app.router.add_route("HEAD", route.path, self._bound(route))
        app.on_response_prepare.append(_finish_headers)
        return app

    def _bound(self, route: Route) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await route.handler(self._context, request)

        return handle

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keep the limits, and turn everything that goes wrong into an answer for people."""
        connection = self._connections.of(request.protocol) if self._connections is not None else None
        if connection is not None:
            connection.begin()
        try:
            if request.body_exists:
                async with asyncio.timeout(BODY_S):
                    await request.read()
            return await handler(request)
        except TimeoutError:
            return _closing(error(408))
        except web.HTTPException as failure:
            answer = error(failure.status, headers=_allowed(failure))
            return _closing(answer) if failure.status == web.HTTPRequestEntityTooLarge.status_code else answer
        except Exception as failure:  # noqa: BLE001 - the border of a failure domain
            self._hub.record(
                "error", "request failed", path=request.path, why=repr(failure), traceback=traceback.format_exc()
            )
            return error(500)
        finally:
            if connection is not None:
                connection.end()


def _allowed(failure: web.HTTPException) -> dict[str, str]:
    return {"Allow": failure.headers["Allow"]} if "Allow" in failure.headers else {}


def _closing(answer: web.Response) -> web.Response:
    answer.force_close()
    return answer


async def _finish_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, text in _HEADERS.items():
        response.headers.setdefault(name, text)
    response.headers.pop("Server", None)
