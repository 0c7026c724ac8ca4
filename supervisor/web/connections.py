"""Keeps slow and idle clients from shutting others out: time limits for a head, and a limit on connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.web_protocol import RequestHandler

HEAD_S = 10.0
MOST_CONNECTIONS = 256


class Connections:
    """All open connections of the server, the longest idle first."""

    def __init__(self, make_handler: Callable[[], RequestHandler]) -> None:
        self._make_handler = make_handler
        self._idle: dict[Connection, None] = {}
        self._by_handler: dict[object, Connection] = {}

    def __call__(self) -> Connection:
        """Make the protocol of a new connection; what ``loop.create_server`` asks for."""
        return Connection(self, self._make_handler())

    def of(self, handler: object) -> Connection | None:
        """Return the connection that a request came over."""
        return self._by_handler.get(handler)

    def opened(self, connection: Connection) -> None:
        """Take a new one in; where there are too many, the longest idle one goes."""
        self._by_handler[connection.handler] = connection
        self._idle[connection] = None
        if len(self._by_handler) > MOST_CONNECTIONS and self._idle:
            oldest = next(iter(self._idle))
            self.closed(oldest)
            oldest.abort()

    def closed(self, connection: Connection) -> None:
        """Forget one."""
        self._by_handler.pop(connection.handler, None)
        self._idle.pop(connection, None)

    def busy(self, connection: Connection) -> None:
        """A request has arrived whole: it is not idle now."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Its answer is out: it is the last one to have been idle."""
        if connection.handler in self._by_handler:
            self._idle[connection] = None


class Connection(asyncio.Protocol):
    """Stands between the transport and aiohttp's handler, to know how long a head takes to arrive."""

    def __init__(self, connections: Connections, handler: RequestHandler) -> None:
        self.handler = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._in_request = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count: the first head is due."""
        self._transport = cast("asyncio.Transport", transport)
        self.handler.connection_made(transport)
        self._connections.opened(self)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Pass on; on a kept connection this is where the next head begins."""
        if not self._in_request and self._limit is None:
            self._expect_head()
        self.handler.data_received(data)

    def eof_received(self) -> None:
        """Pass on."""
        self.handler.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._stop_limit()
        self._connections.closed(self)
        self.handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on."""
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self.handler.resume_writing()

    def begin(self) -> None:
        """A head is complete, and its request is being answered."""
        self._in_request = True
        self._stop_limit()
        self._connections.busy(self)

    def end(self) -> None:
        """The answer is out."""
        self._in_request = False
        self._connections.idle(self)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _expect_head(self) -> None:
        self._limit = asyncio.get_running_loop().call_later(HEAD_S, self.abort)

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
