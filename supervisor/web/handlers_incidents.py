"""The handlers of incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.web import schemas_incidents as schemas
from supervisor.web.error_codes import Code, RefusedError
from supervisor.web.requests import json_response

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context


async def incidents(context: Context, _request: web.Request) -> web.Response:
    """Give all that are kept, the newest first."""
    return json_response(schemas.incidents(context.store.snapshot))


async def incident(context: Context, request: web.Request) -> web.Response:
    """Give one with its last lines."""
    known = context.store.snapshot.incidents.known
    found = next((each for each in known if each.id == request.match_info["id"]), None)
    if found is None:
        raise RefusedError(Code.UNKNOWN_INCIDENT)
    return json_response(schemas.story(found))
