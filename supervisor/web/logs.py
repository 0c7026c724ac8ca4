"""`GET /api/logs`: the merged log as far as it is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from supervisor.logs.history import SUPERVISOR
from supervisor.web import documents
from supervisor.web.bodies import answer, query_of
from supervisor.web.errors import Code, RefusedError, no_process

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context

MOST_LINES = 1000


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Either the lines ``after`` a number, at most ``limit`` of them, or the ``last`` so many; the last by default."""

    after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    last: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] = MOST_LINES
    process: str | None = None


async def logs(context: Context, request: web.Request) -> web.Response:
    """Give a page of the history."""
    query = query_of(request, Query)
    check_process(context, query.process)
    if query.after is not None and query.last is not None:
        raise RefusedError(Code.INVALID_QUERY, "cannot use the query: after and last exclude each other; leave one")
    begin = -(query.last or query.limit) if query.after is None else query.after
    page = context.hub.history.read(begin, query.limit, query.process)
    return answer({"lines": documents.lines(page.lines), "lost": page.lost, "after": page.after})


def check_process(context: Context, name: str | None) -> None:
    """Raise RefusedError where there is no process of that name, and no log of it."""
    names = [SUPERVISOR, *(view.name for view in context.board.snapshot.processes)]
    if name is not None and name not in names:
        raise no_process(name, names)
