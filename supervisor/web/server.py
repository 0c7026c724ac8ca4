"""Serves HTTP on the sockets that were bound before anything was started."""

from __future__ import annotations

import asyncio
import logging
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from aiohttp import HttpVersion11, web

from supervisor.system.peercred import why_refused
from supervisor.web.access import CALLER, admit
from supervisor.web.bodies import Nothing, query_of
from supervisor.web.connections import MOST_CONNECTIONS, MOST_HEAD_BYTES, Connections
from supervisor.web.context import Context
from supervisor.web.counting import ENDPOINT
from supervisor.web.errors import Code, RefusedError, complete, error, of_status
from supervisor.web.handler import Handler, connection_of
from supervisor.web.keyring import Keyring
from supervisor.web.listening import Door, Listener, shares
from supervisor.web.metrics import Meters
from supervisor.web.printer import Printer
from supervisor.web.routes import ROUTES
from supervisor.web.streams import Streams
from supervisor.web.throttle import Throttle

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp.typedefs import Handler as Answers
    from aiohttp.web_request import BaseRequest

    from supervisor.config.plan import Plan
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import Channels, SnapshotStore
    from supervisor.telemetry.spans import Recorder
    from supervisor.web.connections import Connection
    from supervisor.web.routes import Route

    _Handle = Callable[[BaseRequest], Awaitable[web.StreamResponse]]

MOST_BODY_BYTES = 64 * 1024
BODY_S = 10.0
KEEP_ALIVE_S = 75.0
SHUTDOWN_S = 1.0
# After these a body, or the rest of one, may still be on its way.
_UNREAD = frozenset({Code.REQUEST_TIMEOUT, Code.PAYLOAD_TOO_LARGE, Code.EXPECTATION_FAILED})
# Whatever goes wrong in a handler is said by us, with its traceback; bad requests are the client's affair.
_SILENT = logging.getLogger("supervisor.web.requests")
_SILENT.disabled = True
_OPTIONS: dict[str, Any] = {
    "logger": _SILENT,
    "access_log": None,
    "keepalive_timeout": KEEP_ALIVE_S,
    "lingering_time": 1.0,
    "auto_decompress": False,
    "max_line_size": MOST_HEAD_BYTES,
    "max_field_size": MOST_HEAD_BYTES,
}


class Server:
    """One HTTP server over all the sockets. ``control`` is the control socket, where there is one.

    ``recorder`` takes spans, where they are wanted.
    """

    def __init__(
        self,
        plan: Plan,
        store: SnapshotStore,
        log: LogPipeline,
        engine: Engine,
        channels: Channels,
        sockets: Sequence[socket.socket],
        control: socket.socket | None,
        recorder: Recorder | None = None,
    ) -> None:
        address = plan.listen._replace(port=sockets[0].getsockname()[1]) if sockets else plan.listen
        keyring = Keyring(plan.settings.token, log)
        printer = Printer(keyring, log, store, address)
        boot = f"{int((store.snapshot.started_s + store.snapshot.wall_offset_s) * 1000):x}"
        self._meters = Meters()
        self._context = Context(
            plan, store, log, engine, channels, keyring, printer, Throttle(log), Streams(boot), self._meters
        )
        keyring.on_end = self._context.streams.look
        self._log = log
        self._recorder = recorder
        self._sockets = sockets
        self._control = control
        self._kinds: list[Connections] = []

    async def run(self) -> None:
        """Serve until cancelled."""
        runner = web.AppRunner(self._app(), handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        listeners = self._listen(runner)
        if not self._context.keyring.has_token:
            self._context.printer.print_code()
        try:
            await anyio.sleep_forever()
        finally:
            self._meters.lag.stop()
            for listener in listeners:
                listener.close()
            with anyio.CancelScope(shield=True):
                await self.close()
                await runner.cleanup()

    async def close(self) -> None:
        """Tell whoever follows the events that this is the end; it takes no longer than a moment."""
        await self._context.streams.close()

    def _listen(self, runner: web.AppRunner) -> list[Listener]:
        if runner.server is None:
            raise RuntimeError("cannot serve: aiohttp made no server")
        answers = self._in_our_words(runner.server.request_handler)
        if self._recorder is not None:
            # Loaded where spans are wanted.
            from supervisor.web.tracing import traced

            answers = traced(answers, self._recorder.put)
        runner.server.request_handler = answers
        loop = asyncio.get_running_loop()
        make_handler = partial(Handler, runner.server, loop=loop, **_OPTIONS)
        most, most_over_control = shares(MOST_CONNECTIONS)
        public = Connections(make_handler, most)
        control = Connections(make_handler, most_over_control, why_refused)
        self._kinds = [public, control]
        door = Door(self._log, self._kinds)
        wanted = [(public, listener) for listener in self._sockets]
        wanted += [(control, self._control)] if self._control is not None else []
        return [Listener(listener.dup(), kind, door.make_room) for kind, listener in wanted]

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._limit])
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._bound(route))
            if route.method == "GET":
                app.router.add_route("HEAD", route.path, self._bound(route))
        app.on_response_prepare.append(self._begin_answer)
        return app

    def _bound(self, route: Route) -> Answers:
        async def handle(request: web.Request) -> web.StreamResponse:
            request[ENDPOINT] = route.path
            connection = connection_of(request)
            request[CALLER] = await admit(self._context, route.access, request, connection)
            if request[CALLER].signed_in:
                connection.known()
            if not route.takes_query:
                query_of(request, Nothing)
            return await route.handler(self._context, request)

        return handle

    @web.middleware
    async def _limit(self, request: web.Request, handler: Answers) -> web.StreamResponse:
        """Keep the limits of time and size."""
        connection = connection_of(request)
        connection.begin()
        try:
            if request.body_exists:
                await _read_in_time(request, connection)
            return await handler(request)
        finally:
            connection.end(None if "Transfer-Encoding" in request.headers else request.content_length or 0)

    async def _begin_answer(self, request: web.Request, response: web.StreamResponse) -> None:
        """Count it and complete its headers; called for every answer when it is about to begin."""
        self._meters.counting.answered(request, response.status)
        complete(response)
        response.headers.pop("Server", None)
        if connection_of(request).is_last_answer:
            response.force_close()

    def _in_our_words(self, handle: _Handle) -> _Handle:
        """Turn everything that goes wrong into an answer for people.

        Around all of aiohttp's: it refuses some requests before a middleware is asked.
        """

        async def answer(request: BaseRequest) -> web.StreamResponse:
            self._meters.counting.begun(request)
            try:
                _check_expectation(request)
                return await handle(request)
            except RefusedError as refusal:
                failed = refusal
            except web.HTTPException as failure:
                failed = of_status(failure.status, _allowed(failure))
            except Exception as failure:  # noqa: BLE001 - the border of a failure domain
                self._log.record(
                    "error", "request failed", path=request.path, why=repr(failure), traceback=traceback.format_exc()
                )
                failed = RefusedError(Code.INTERNAL_ERROR)
            return _closing(error(failed)) if failed.code in _UNREAD else error(failed)

        return answer


async def _read_in_time(request: web.Request, connection: Connection) -> None:
    try:
        async with asyncio.timeout(BODY_S) as limit:
            # What is not here by the client's end never comes.
            connection.on_end = partial(_end_now, limit)
            if connection.has_ended:
                _end_now(limit)
            await request.read()
    except TimeoutError as late:
        if connection.has_ended:
            raise RefusedError(Code.BAD_REQUEST, "the request ends in the midst of its body; send all of it") from late
        raise RefusedError(Code.REQUEST_TIMEOUT) from late
    finally:
        connection.on_end = lambda: None


def _end_now(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0)


def _check_expectation(request: BaseRequest) -> None:
    """Refuse it before aiohttp does, whose refusal repeats what was expected and fails where that is no text."""
    expected = request.headers.get("Expect", "")
    if expected and request.version == HttpVersion11 and expected.lower() != "100-continue":
        raise RefusedError(Code.EXPECTATION_FAILED)


def _allowed(failure: web.HTTPException) -> dict[str, str]:
    return {"Allow": failure.headers["Allow"]} if "Allow" in failure.headers else {}


def _closing(answer: web.Response) -> web.Response:
    answer.force_close()
    return answer
