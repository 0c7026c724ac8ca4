"""`GET /api/events`: state and log as they change, resumable by the id of the last event that a client got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from aiohttp import web

from supervisor.web.access import CALLER, connection_of
from supervisor.web.bodies import query_of
from supervisor.web.logs import MOST_LINES, check_process, line_of
from supervisor.web.streams import Stream, Wish

if TYPE_CHECKING:
    from supervisor.web.context import Context

_HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
_LAST_ID = "Last-Event-ID"


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """``after`` is the id of an event, for clients that cannot send the header; ``last`` so many lines to begin with.

    Without either the whole history comes first. ``figures`` asks for memory and CPU now and then, ``colors`` for the
    colours that lines came with.
    """

    after: str = ""
    last: Annotated[int, msgspec.Meta(ge=0, le=MOST_LINES)] | None = None
    process: str | None = None
    logs: Literal["on", "off"] = "on"
    figures: Literal["on", "off"] = "off"
    colors: Literal["on", "off"] = "off"


async def events(context: Context, request: web.Request) -> web.StreamResponse:
    """Stream until the client goes, its session ends, or the supervisor does."""
    query = query_of(request, Query)
    check_process(context, query.process)
    if request.method == "HEAD":
        return web.Response(headers=_HEADERS)
    begin = _begin(context, request.headers.get(_LAST_ID, query.after), query)
    response = web.StreamResponse(headers=_HEADERS)
    wish = Wish(begin, query.process, query.logs == "on", query.figures == "on", query.colors == "on")
    stream = Stream(context, request[CALLER], wish, response, connection_of(request))
    context.streams.enter(stream)
    try:
        await response.prepare(request)
        await stream.run()
        await response.write_eof()
    except (TimeoutError, ConnectionError):
        # Only the connection's end frees what still waits to be taken.
        if request.transport is not None:
            request.transport.abort()
    finally:
        context.streams.leave(stream)
    return response


def _begin(context: Context, event_id: str, query: Query) -> int:
    """Return the number of the line to go on after."""
    history = context.log.history
    number = line_of(event_id, context.streams.boot, history.next - 1) if "-" in event_id else None
    if number is not None:
        return number
    if query.last is None:
        return history.oldest - 1
    if not query.last:
        return history.next - 1
    page = history.read(-query.last, query.last, query.process)
    return page.lines[0].number - 1 if page.lines else page.after
