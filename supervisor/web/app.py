"""The API and the panel on aiohttp: application and connection handlers. Imported at the first request for them."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from supervisor.core.counts import OTHER
from supervisor.telemetry.spans import Parent, Span
from supervisor.web.auth import CALLER, READING, authorize, connection_of
from supervisor.web.connections import KEEP_ALIVE_S
from supervisor.web.error_codes import HEADERS, SESSION_ENDED, Code, RefusedError, encode_error
from supervisor.web.front import MOST_FIELDS, MOST_HEAD_BYTES
from supervisor.web.requests import Empty, parse_query
from supervisor.web.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Handler as RouteHandler
    from aiohttp.web_request import BaseRequest

    from supervisor.telemetry.spans import Attribute, Recorder
    from supervisor.web.connections import Connection
    from supervisor.web.context import Context
    from supervisor.web.routes import Route

    _Handle = Callable[[BaseRequest], Awaitable[web.StreamResponse]]

MOST_BODY_BYTES = 64 * 1024
BODY_S = 10.0
SHUTDOWN_S = 1.0
ENDPOINT = web.RequestKey("endpoint", str)
_BEGUN_S = web.RequestKey("begun_s", float)
_FIRST_SERVER_ERROR = 500
_API = "/api/"
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# A request body, or the rest of it, may still arrive after these.
_UNREAD = frozenset({Code.REQUEST_TIMEOUT, Code.PAYLOAD_TOO_LARGE, Code.EXPECTATION_FAILED})
# Exceptions in a handler are logged here, with their traceback; bad requests are the client's fault.
_DISABLED = logging.getLogger("requests_of_aiohttp")
_DISABLED.disabled = True
_OPTIONS: dict[str, Any] = {
    "logger": _DISABLED,
    "access_log": None,
    "keepalive_timeout": KEEP_ALIVE_S,
    "lingering_time": 1.0,
    "auto_decompress": False,
    "max_line_size": MOST_HEAD_BYTES,
    "max_field_size": MOST_HEAD_BYTES,
    "max_headers": MOST_FIELDS,
}
# It has no exception of its own.
_TOO_MANY_FIELDS = "Too many headers"
# Refusals by aiohttp itself.
_BY_STATUS = {
    code.status: code
    for code in (
        Code.BAD_REQUEST,
        Code.NOT_FOUND,
        Code.METHOD_NOT_ALLOWED,
        Code.REQUEST_TIMEOUT,
        Code.PAYLOAD_TOO_LARGE,
        Code.EXPECTATION_FAILED,
    )
}


class Api:
    """The aiohttp application with the supervisor's errors and limits. ``recorder`` gets spans, if they are enabled."""

    def __init__(self, context: Context, recorder: Recorder | None) -> None:
        self._context = context
        self._recorder = recorder
        self._runner = web.AppRunner(self._app(), handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> Callable[[], Handler]:
        """Start; return the factory of connection handlers."""
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("cannot serve: aiohttp made no server")
        handle = self._with_json_errors(server.request_handler)
        server.request_handler = handle if self._recorder is None else traced(handle, self._recorder.put)
        return partial(Handler, server, loop=asyncio.get_running_loop(), **_OPTIONS)

    async def close(self) -> None:
        """Finish the requests that are being answered."""
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._limit])
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._bound(route))
            if route.method == "GET":
                app.router.add_route("HEAD", route.path, self._bound(route))
        app.on_response_prepare.append(self._begin_answer)
        return app

    def _bound(self, route: Route) -> RouteHandler:
        async def handle(request: web.Request) -> web.StreamResponse:
            request[ENDPOINT] = route.path
            connection = connection_of(request)
            request[CALLER] = await authorize(self._context, route.access, request, connection)
            if request[CALLER].signed_in:
                connection.mark_signed_in()
            if not route.takes_query:
                parse_query(request, Empty)
            answer = await route.handler(self._context, request)
            # A stream checks it by itself.
            if not answer.prepared:
                self._check_session(request)
            return answer

        return handle

    def _check_session(self, request: web.Request) -> None:
        """Raise RefusedError if the session has ended while something was read for it; what was done stays done."""
        grant = request[CALLER].grant
        if request.method in READING and grant is not None and not self._context.keyring.is_valid(grant):
            raise RefusedError(Code.NOT_SIGNED_IN, SESSION_ENDED, headers={"WWW-Authenticate": "Bearer"})

    @web.middleware
    async def _limit(self, request: web.Request, handler: RouteHandler) -> web.StreamResponse:
        """Apply the limits of time and size."""
        connection = connection_of(request)
        in_chunks = "Transfer-Encoding" in request.headers
        connection.request_started(in_chunks=in_chunks)
        try:
            if request.body_exists:
                await _read_in_time(request, connection)
            return await handler(request)
        finally:
            connection.request_finished(None if in_chunks else request.content_length or 0)

    async def _begin_answer(self, request: web.Request, response: web.StreamResponse) -> None:
        """Count a response and complete its headers; called for every response when it is about to begin."""
        if _BEGUN_S in request:
            endpoint = request.get(ENDPOINT, OTHER)
            self._context.metrics.answered(endpoint, request.method, response.status, request[_BEGUN_S])
        add_default_headers(response)
        response.headers.pop("Server", None)
        if connection_of(request).is_last_answer:
            response.force_close()

    def _with_json_errors(self, handle: _Handle) -> _Handle:
        """Convert all errors into responses for people.

        It wraps aiohttp's own handling, which refuses some requests before any middleware.
        """

        async def answer(request: BaseRequest) -> web.StreamResponse:
            request[_BEGUN_S] = time.monotonic()
            try:
                _check_expectation(request)
                return await handle(request)
            except RefusedError as refusal:
                failed = refusal
            except web.HTTPException as failure:
                failed = refusal_of_status(failure.status, _allowed(failure))
            except Exception as failure:  # noqa: BLE001 - the border of a failure domain
                self._context.log.record(
                    "error", "request failed", path=request.path, why=repr(failure), traceback=traceback.format_exc()
                )
                failed = RefusedError(Code.INTERNAL_ERROR)
            response = error_response(failed)
            if failed.code in _UNREAD:
                response.force_close()
            return response

        return answer


class Handler(RequestHandler):
    """A connection handler that also refuses invalid HTTP with the supervisor's errors.

    ``too_large`` is set if the head exceeded the limit and was not parsed. ``connection`` is the connection it serves.
    """

    __slots__ = ("connection", "too_large")

    connection: Connection

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.too_large = False

    @property
    def has_more(self) -> bool:
        """Whether pipelined requests are waiting."""
        return bool(self._messages)

    @property
    def is_idle(self) -> bool:
        """Whether no request is waiting or being answered."""
        return self._waiter is not None and not self._waiter.done()

    def close_after_answer(self) -> None:
        """Close after the current response; requests that wait already are answered first."""
        if not self.has_more:
            self.close()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the response to a request that could not be parsed."""
        super().handle_error(request, status, exc, message)
        is_large = self.too_large or isinstance(exc, LineTooLong) or _TOO_MANY_FIELDS in str(exc)
        answer = error_response(RefusedError(Code.HEAD_TOO_LARGE) if is_large else refusal_of_status(status))
        answer.force_close()
        add_default_headers(answer)
        # Without it aiohttp sends its name and version.
        answer.headers["Server"] = ""
        return answer


def error_response(refusal: RefusedError) -> web.Response:
    """Return the response for an error."""
    body, status = encode_error(refusal) + b"\n", refusal.code.status
    return web.Response(body=body, status=status, content_type="application/json", headers=refusal.headers)


def refusal_of_status(status: int, headers: Mapping[str, str] | None = None) -> RefusedError:
    """Return the error for a status with which aiohttp responds."""
    default = Code.INTERNAL_ERROR if status >= _FIRST_SERVER_ERROR else Code.BAD_REQUEST
    return RefusedError(_BY_STATUS.get(status, default), headers=headers)


def add_default_headers(response: web.StreamResponse) -> None:
    """Add the common headers to a response, unless it sets them itself."""
    for name, text in HEADERS.items():
        response.headers.setdefault(name, text)


async def _read_in_time(request: web.Request, connection: Connection) -> None:
    try:
        async with asyncio.timeout(BODY_S) as limit:
            # Data that has not arrived when the client closes never will.
            connection.on_end = partial(_end_now, limit)
            if connection.has_ended:
                _end_now(limit)
            await request.read()
    except TimeoutError as late:
        if connection.has_ended:
            raise RefusedError(Code.BAD_REQUEST, "the request ends in the middle of its body; send all of it") from late
        raise RefusedError(Code.REQUEST_TIMEOUT) from late
    finally:
        connection.on_end = lambda: None


def _end_now(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0)


def _check_expectation(request: BaseRequest) -> None:
    """Refuse the request before aiohttp does, whose response repeats the header and fails if that is not text."""
    expected = request.headers.get("Expect", "")
    if expected and request.version == HttpVersion11 and expected.lower() != "100-continue":
        raise RefusedError(Code.EXPECTATION_FAILED)


def _allowed(failure: web.HTTPException) -> dict[str, str]:
    return {"Allow": failure.headers["Allow"]} if "Allow" in failure.headers else {}


def traced(handle: _Handle, put: Callable[[Span], None]) -> _Handle:
    """Return a handler that additionally records a span."""

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
    """Return the span; None for requests outside the API, and for anonymous ones."""
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
    # There is no status if the client left before the response, as from the event stream.
    if status is not None:
        facts["http.response.status_code"] = status
    error = ""
    if status is not None and status >= _FIRST_SERVER_ERROR:
        facts["error.type"] = error = str(status)
    name = f"{request.method} {resource.canonical}"
    parent = parent_of(request.headers.get("traceparent", ""))
    return Span(name, begun_s, time.monotonic(), facts, error, server=True, parent=parent)


def parent_of(header: str) -> Parent | None:
    """Parse a `traceparent`; None if it is invalid."""
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    parent = Parent(int(found[2], 16), int(found[3], 16), int(found[4], 16))
    return parent if parent.trace_id and parent.span_id else None
