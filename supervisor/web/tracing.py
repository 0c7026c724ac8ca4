"""Makes spans of API requests, of signed-in callers' alone: nobody else can make the supervisor send anything."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from aiohttp import web

from supervisor.telemetry.spans import Parent, Span
from supervisor.web.access import CALLER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.web_request import BaseRequest

    from supervisor.telemetry.spans import Attribute

    _Handle = Callable[[BaseRequest], Awaitable[web.StreamResponse]]

_API = "/api/"
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_BROKEN = 500


def traced(handle: _Handle, put: Callable[[Span], None]) -> _Handle:
    """Return a handler that does the same and hands in a span of it."""

    async def answer(request: BaseRequest) -> web.StreamResponse:
        begun_s = time.monotonic()
        status = None
        try:
            response = await handle(request)
            status = response.status
            return response
        finally:
            span = _span_of(request, status, begun_s)
            if span is not None:
                put(span)

    return answer


def _span_of(request: BaseRequest, status: int | None, begun_s: float) -> Span | None:
    """Return it; None for what is no request to the API, or nobody's who is signed in."""
    caller = request.get(CALLER)
    if caller is None or not caller.signed_in or not isinstance(request, web.Request):
        return None
    resource = request.match_info.route.resource
    if resource is None or not resource.canonical.startswith(_API):
        return None
    facts: dict[str, Attribute] = {
        "http.request.method": request.method,
        "http.route": resource.canonical,
        "url.path": request.path,
        "url.scheme": "http",
    }
    # There is no status where the client went before its answer, as from the event stream.
    if status is not None:
        facts["http.response.status_code"] = status
    error = ""
    if status is not None and status >= _BROKEN:
        facts["error.type"] = error = str(status)
    name = f"{request.method} {resource.canonical}"
    parent = parent_of(request.headers.get("traceparent", ""))
    return Span(name, begun_s, time.monotonic(), facts, error, server=True, parent=parent)


def parent_of(header: str) -> Parent | None:
    """Return what a `traceparent` names; None where it is none."""
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    parent = Parent(int(found[2], 16), int(found[3], 16), int(found[4], 16))
    return parent if parent.trace_id and parent.span_id else None
