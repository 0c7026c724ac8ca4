"""`GET /api/logs`: the merged log as far as it is remembered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec

from supervisor.config.diagnostics import shown
from supervisor.logs.history import SUPERVISOR
from supervisor.web import documents
from supervisor.web.bodies import answer, query_of
from supervisor.web.error_codes import Code, RefusedError, no_process

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context

MOST_LINES = 1000
# Python refuses to read numbers of some thousand digits.
_PLACE = re.compile(r"(?:([0-9a-f]{1,32})-)?([0-9]{1,18})")


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Either the lines ``after`` a place, at most ``limit`` of them, or the ``last`` so many; the last by default."""

    after: str | None = None
    last: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] = MOST_LINES
    process: str | None = None


async def logs(context: Context, request: web.Request) -> web.Response:
    """Give a page of the history."""
    query = query_of(request, Query)
    check_process(context, query.process)
    if query.after is not None and query.last is not None:
        raise RefusedError(Code.INVALID_QUERY, "cannot use the query: after and last exclude each other; leave one")
    begin = -(query.last or query.limit) if query.after is None else _line_at(context, query.after)
    page = context.log.history.read(begin, query.limit, query.process)
    told = {"lines": documents.lines(page.lines), "lost": page.lost, "after": page.after}
    return answer(told | {"boot": context.streams.boot})


def line_of(place: str, boot: str, newest: int) -> int | None:
    """Return the number in a line's number or an event's id; None where it is none, or one of another run."""
    found = _PLACE.fullmatch(place)
    if found is None or found[1] not in {None, boot} or int(found[2]) > newest:
        return None
    return int(found[2])


def _line_at(context: Context, place: str) -> int:
    """Return the number of the line to go on after: none where the place is of another run of the supervisor."""
    if not _PLACE.fullmatch(place):
        why = f"after is {shown(place)}, neither the number of a line nor the id of an event"
        raise RefusedError(Code.INVALID_QUERY, f"cannot use the query: {why}; see the API's page")
    return line_of(place, context.streams.boot, context.log.history.next - 1) or 0


def check_process(context: Context, name: str | None) -> None:
    """Raise RefusedError where there is no process of that name, and no log of it."""
    names = [SUPERVISOR, *(view.name for view in context.store.snapshot.processes)]
    if name is not None and name not in names:
        raise no_process(name, names)
