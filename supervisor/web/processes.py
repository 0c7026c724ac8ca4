"""`/api/processes`: what runs, and orders to start, stop and restart it.

A process that shows takes each of the three in whatever state it is: where it is so already there is nothing to do, and
a start in backoff is a try at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervisor.core.process import Event, EventKind
from supervisor.web import backups, documents
from supervisor.web.access import CALLER
from supervisor.web.bodies import accepted, answer, body_of
from supervisor.web.error_codes import Code, RefusedError, no_process

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context


class OrderWish(msgspec.Struct, forbid_unknown_fields=True):
    """``without_backup`` agrees to a start though nothing was brought back from the backups."""

    without_backup: bool = False


async def processes(context: Context, _request: web.Request) -> web.Response:
    """Give every process."""
    return answer(documents.processes(context))


async def start(context: Context, request: web.Request) -> web.Response:
    """Start one, now."""
    return await _order(context, request, EventKind.START)


async def stop(context: Context, request: web.Request) -> web.Response:
    """Stop one, until it is started again."""
    return await _order(context, request, EventKind.STOP)


async def restart(context: Context, request: web.Request) -> web.Response:
    """Stop one and start it again."""
    return await _order(context, request, EventKind.RESTART)


async def _order(context: Context, request: web.Request, kind: EventKind) -> web.Response:
    wish = await body_of(request, OrderWish)
    name = request.match_info["name"]
    if name not in context.engine.children:
        raise no_process(name, context.engine.children)
    if context.store.snapshot.stopping:
        raise RefusedError(Code.STOPPING)
    if context.store.snapshot.backup.holds and kind is not EventKind.STOP:
        backups.start_without(context, request[CALLER].source, agreed=wish.without_backup)
        return accepted()
    context.log.record("info", "order received", child=name, order=kind.value, source=request[CALLER].source)
    context.engine.dispatch(name, Event(kind))
    return accepted()
