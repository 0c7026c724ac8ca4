"""The handlers of incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.incident_report import report
from supervisor.doctor.masking import ReportMask, names_of
from supervisor.logs.format import stamp
from supervisor.web import schemas_incidents as schemas
from supervisor.web.error_codes import Code, RefusedError
from supervisor.web.requests import json_response

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context


async def incidents(context: Context, _request: web.Request) -> web.Response:
    """Return all stored incidents, the newest first."""
    return json_response(schemas.incidents(context.store.snapshot))


async def incident(context: Context, request: web.Request) -> web.Response:
    """Return an incident with its last log lines."""
    known = context.store.snapshot.incidents.known
    found = next((each for each in known if each.id == request.match_info["id"]), None)
    if found is None:
        raise RefusedError(Code.UNKNOWN_INCIDENT)
    tailnet = context.store.snapshot.tailnet
    mask = ReportMask(context.log.redactor, names_of(tailnet))
    return json_response(schemas.story(found, mask.text(report(found, known, stamp))))
