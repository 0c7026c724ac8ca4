"""`/api/processes`: what runs, and orders to start, stop and restart it.

A process that shows takes each of the three in whatever state it is: where it is so already there is nothing to do, and
a start in backoff is a try at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.lifecycle import Event, Kind
from supervisor.web import documents
from supervisor.web.access import CALLER
from supervisor.web.bodies import Nothing, accepted, answer, body_of
from supervisor.web.errors import Code, RefusedError, no_process

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context


async def processes(context: Context, _request: web.Request) -> web.Response:
    """Give every process."""
    return answer(documents.processes(context))


async def start(context: Context, request: web.Request) -> web.Response:
    """Start one, now."""
    return await _order(context, request, Kind.START)


async def stop(context: Context, request: web.Request) -> web.Response:
    """Stop one, until it is started again."""
    return await _order(context, request, Kind.STOP)


async def restart(context: Context, request: web.Request) -> web.Response:
    """Stop one and start it again."""
    return await _order(context, request, Kind.RESTART)


async def _order(context: Context, request: web.Request, kind: Kind) -> web.Response:
    await body_of(request, Nothing)
    name = request.match_info["name"]
    if name not in context.engine.children:
        raise no_process(name, context.engine.children)
    if context.board.snapshot.stopping:
        raise RefusedError(Code.STOPPING)
    context.hub.record("info", "order received", child=name, order=kind.value, source=request[CALLER].source)
    context.engine.feed(name, Event(kind))
    return accepted()
