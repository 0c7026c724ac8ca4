"""Keeps slow and idle clients from shutting others out: time limits for a head, and a limit on connections."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.system.peercred import Socket
    from supervisor.web.handler import Handler

HEAD_S = 10.0
# The cookies of the app come to this host name too.
MOST_HEAD_BYTES = 32 * 1024
MOST_CONNECTIONS = 256
_HEAD_END = b"\r\n\r\n"
# No head may hold it: aiohttp then refuses what it has of one.
_NO_HEAD = b"\0" + _HEAD_END


class Connections:
    """All open connections of one kind, the longest idle first; ``most`` of them may be anonymous.

    ``check`` makes them connections of the control socket: it says why whoever connected is refused, if so.
    """

    def __init__(
        self, make_handler: Callable[[], Handler], most: int, check: Callable[[Socket], str] | None = None
    ) -> None:
        self.check = check
        self.most = most
        self._make_handler = make_handler
        self._anonymous: dict[Connection, None] = {}
        self._known: dict[Connection, None] = {}

    def __call__(self) -> Connection:
        """Make the protocol of a new connection; what the event loop asks for."""
        return Connection(self, self._make_handler())

    def __iter__(self) -> Iterator[Connection]:
        """Go through all that are open."""
        yield from (*self._anonymous, *self._known)

    def opened(self, connection: Connection) -> None:
        """Take a new one in; where there are too many, the longest idle anonymous one goes."""
        self._anonymous[connection] = None
        if len(self._anonymous) > self.most:
            self.make_room(1)

    def make_room(self, count: int) -> int:
        """Close so many at most, the longest idle anonymous ones; return how many."""
        closed = tuple(islice(self._anonymous, count))
        for connection in closed:
            self.closed(connection)
            connection.abort()
        return len(closed)

    def closed(self, connection: Connection) -> None:
        """Forget one."""
        self._anonymous.pop(connection, None)
        self._known.pop(connection, None)

    def active(self, connection: Connection) -> None:
        """A request has arrived, or its answer is out: of the anonymous ones, it is the last to go."""
        if connection in self._anonymous:
            del self._anonymous[connection]
            self._anonymous[connection] = None

    def known(self, connection: Connection) -> None:
        """Whoever is there has signed in: it is not anonymous any more, and makes room for no one."""
        if connection in self._anonymous:
            del self._anonymous[connection]
            self._known[connection] = None


class Connection(asyncio.Protocol):
    """Stands between the transport and aiohttp's handler, to know how long a head takes to arrive, and how large it is.

    ``has_ended`` says that the client sends nothing more, though it may read on; ``on_end`` is called when that is so.
    """

    def __init__(self, connections: Connections, handler: Handler) -> None:
        self.handler = handler
        handler.connection = self
        self.has_ended = False
        self.on_end: Callable[[], object] = lambda: None
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._in_request = False
        self._received = _Received()
        self.over_control = connections.check is not None
        self.refused = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count: the first head is due."""
        self._transport = cast("asyncio.Transport", transport)
        if self._connections.check is not None:
            # Now, before the process at the other end has time to become another one.
            self.refused = self._connections.check(transport.get_extra_info("socket"))
        self.handler.connection_made(transport)
        self._connections.opened(self)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Pass on; on a kept connection this is where the next head begins."""
        if not self._in_request and self._limit is None:
            self._expect_head()
        if self._received.take(data) > MOST_HEAD_BYTES:
            self.handler.too_large = True
            data = _NO_HEAD
        self.handler.data_received(data)

    def eof_received(self) -> bool:
        """Go on where answers are still due: a client may close its writing side after its last request."""
        self.handler.eof_received()
        if self.handler.is_idle:
            return False
        self.has_ended = True
        self.handler.expect_no_more()
        self.on_end()
        return True

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
        self._connections.active(self)

    def known(self) -> None:
        """Whoever sent the request has signed in."""
        self._connections.known(self)

    @property
    def unsent_bytes(self) -> int:
        """How much waits here until the client takes it."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def is_last_answer(self) -> bool:
        """Whether nothing comes after the request that is being answered."""
        return self.has_ended and not self.handler.has_more

    def end(self, body_bytes: int | None) -> None:
        """The answer is on its way. The request's body had so many bytes; None where only its end tells."""
        self._in_request = False
        self._connections.active(self)
        if self._received.goes_on(body_bytes) and self._limit is None:
            self._expect_head()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _expect_head(self) -> None:
        self._limit = asyncio.get_running_loop().call_later(HEAD_S, self._take_late_head)

    def _take_late_head(self) -> None:
        if self.unsent_bytes:
            # The answer before it is still being taken: until then nobody looks at a head.
            self._expect_head()
        else:
            self.abort()

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _Received:
    """Tells by counting how large a head is, and whether something follows a request: aiohttp keeps that to itself.

    Where requests come without waiting for answers the count is lost until they pause; then the last bytes have to do,
    as a head, and a body in chunks, end with an empty line.
    """

    def __init__(self) -> None:
        self._last = b""
        self._head_bytes = 0
        self._beyond: int | None = None
        self._in_head = True

    def take(self, data: bytes) -> int:
        """Count what has come; return how large the head is of which this is a part, 0 where it is of none."""
        head_bytes = 0
        if self._in_head:
            head_bytes = self._head_bytes = self._head_bytes + len(data)
            known = self._last + data
            at = known.find(_HEAD_END, int(self._last == _HEAD_END))
            if at >= 0:
                self._in_head = False
                self._beyond = len(known) - at - len(_HEAD_END)
                head_bytes -= self._beyond
        elif self._beyond is not None:
            self._beyond += len(data)
        self._last = (self._last + data[-len(_HEAD_END) :])[-len(_HEAD_END) :]
        return head_bytes

    def goes_on(self, body_bytes: int | None) -> bool:
        """Tell, now that a request is over, whether more than it has come; then count anew."""
        counted = self._beyond is not None and body_bytes is not None
        more = self._beyond != body_bytes if counted else self._last != _HEAD_END
        self._head_bytes = max(0, (self._beyond or 0) - (body_bytes or 0))
        self._beyond = None
        self._in_head = True
        return more
