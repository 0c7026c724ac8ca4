"""Accepts connections, limits their number and the time for a request head, and answers health checks itself."""

from __future__ import annotations

import asyncio
import errno
import os
import select
from itertools import islice
from typing import TYPE_CHECKING, Protocol, cast

from supervisor.system import descriptors
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.web.front import HEAD_END, MOST_HEAD_BYTES, answer_to, unavailable
from supervisor.web.throttle import RepeatLimiter

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.logs.pipeline import LogPipeline
    from supervisor.system.peercred import Socket
    from supervisor.web.front import Front

HEAD_S = 10.0
MOST_CONNECTIONS = 256
# Longer than reverse proxies keep an idle connection for another request (Caddy 120 s, Traefik 90 s): if it were closed
# just then, the client would get a 502.
KEEP_ALIVE_S = 150.0
# Per turn of the loop: connections accepted or closed, and health requests of one connection.
_AT_ONCE = 16
# Invalid in a head: it makes aiohttp refuse what it has received of one.
_NO_HEAD = b"\0" + HEAD_END


class ConnectionHandler(Protocol):
    """The part of aiohttp's request handler that is used here.

    ``too_large`` is set if the head exceeded the limit and was not parsed. ``has_more`` is whether pipelined requests
    are waiting, ``is_idle`` whether no request is waiting or being answered.
    """

    connection: Connection
    too_large: bool

    @property
    def has_more(self) -> bool: ...  # noqa: D102 - above
    @property
    def is_idle(self) -> bool: ...  # noqa: D102 - above
    def close_after_answer(self) -> None: ...  # noqa: D102 - as asyncio's, like the others
    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...  # noqa: D102
    def data_received(self, data: bytes) -> None: ...  # noqa: D102
    def eof_received(self) -> object: ...  # noqa: D102
    def connection_lost(self, exc: BaseException | None) -> None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102


class Connections:
    """All open connections of one kind, the longest idle first; at most ``most`` of them are anonymous.

    With ``check`` they are connections of the control socket; it returns why a peer is refused, or an empty text.
    """

    def __init__(self, front: Front, most: int, check: Callable[[Socket], str] | None = None) -> None:
        self.check = check
        self.most = most
        self._front = front
        self._anonymous: dict[Connection, None] = {}
        self._known: dict[Connection, None] = {}

    def __call__(self) -> Connection:
        """Return the protocol for a new connection; called by the event loop."""
        return Connection(self, self._front)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over all open connections."""
        yield from (*self._anonymous, *self._known)

    def opened(self, connection: Connection) -> None:
        """Add a connection; above the limit, close the longest idle anonymous one."""
        self._anonymous[connection] = None
        self.make_room(len(self._anonymous) - self.most)

    def make_room(self, count: int) -> int:
        """Close anonymous connections, of which ``count`` have been idle the longest; return how many were closed.

        One whose first input has just arrived stays: it may be a health check that waited to be accepted.
        """
        closed = [each for each in islice(self._anonymous, max(0, count)) if not each.has_first_input]
        for connection in closed:
            self.closed(connection)
            connection.abort()
        return len(closed)

    def closed(self, connection: Connection) -> None:
        """Remove a connection."""
        self._anonymous.pop(connection, None)
        self._known.pop(connection, None)

    def active(self, connection: Connection) -> None:
        """Move a connection to the end of the idle order: a request has arrived, or its response was sent."""
        if connection in self._anonymous:
            del self._anonymous[connection]
            self._anonymous[connection] = None

    def known(self, connection: Connection) -> None:
        """Mark a connection as authenticated: it is no longer closed to make room."""
        if connection in self._anonymous:
            del self._anonymous[connection]
            self._known[connection] = None


class Connection(asyncio.Protocol):
    """A protocol between the transport and aiohttp's handler that limits the time and the size of request heads.

    Plain health requests are answered here; the first other request creates the handler. ``has_ended`` is whether the
    client has closed its sending side (it may still read); ``on_end`` is called when that happens.
    """

    _transport: asyncio.Transport

    def __init__(self, connections: Connections, front: Front) -> None:
        self.has_ended = False
        self.on_end: Callable[[], object] = lambda: None
        self.over_control = connections.check is not None
        self.refused = ""
        self._connections = connections
        self._front = front
        self._handler: ConnectionHandler | None = None
        # Input not processed yet.
        self._input = bytearray()
        self._limit: asyncio.TimerHandle | None = None
        self._in_request = False
        # The time limit of the first head starts with the connection, that of a later one with its first byte.
        self._is_kept = False
        self._has_read = False
        self._is_writing_paused = False
        self._received = _HeadMeter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit of the first head."""
        self._transport = cast("asyncio.Transport", transport)
        if self._connections.check is not None:
            # Checked now, before the peer's pid can be reused.
            self.refused = self._connections.check(transport.get_extra_info("socket"))
        self._connections.opened(self)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Answer health requests; pass everything from the first other request on to the handler."""
        if self._handler is not None:
            self._pass_on(self._handler, data)
            return
        if self._is_kept and not self._input:
            self._stop_limit()
            self._expect_head()
        self._has_read = True
        self._input += data
        self._answer_health()

    def _answer_health(self) -> None:
        """Answer the buffered health requests; the first other request attaches the handler."""
        for _ in range(_AT_ONCE):
            end = self._input.find(HEAD_END)
            if end < 0 or self._is_writing_paused or self._transport.is_closing():
                break
            answer = None if self.over_control else self._front.answer(bytes(self._input[:end]))
            if answer is None:
                break
            del self._input[: end + len(HEAD_END)]
            self._connections.active(self)
            self._is_kept = True
            self._stop_limit()
            self._transport.write(answer.data)
            if not answer.keeps_open:
                self._transport.close()
        else:
            # Yield to other connections; reading is paused until then.
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._answer_more)
            return
        self._await_input()

    def _answer_more(self) -> None:
        if not self._transport.is_closing():
            self._answer_health()

    def _await_input(self) -> None:
        """Wait for more input, or attach the handler to the input that is there."""
        if self._is_writing_paused:
            self._transport.pause_reading()
        elif self._transport.is_closing():
            self._input.clear()
        elif self._input and (self.over_control or HEAD_END in self._input or not self._front.waits(self._input)):
            self._stop_limit()
            self._transport.pause_reading()
            self._front.when_loaded(self._attach_handler)
        else:
            self._transport.resume_reading()
            if self._limit is None:
                self._limit = asyncio.get_running_loop().call_later(
                    HEAD_S if self._input else KEEP_ALIVE_S, self._take_late_head
                )

    def _attach_handler(self, make_handler: Callable[[], ConnectionHandler] | None) -> None:
        """Attach a handler; None if it could not be loaded."""
        if self._transport.is_closing():
            return
        if make_handler is None:
            self._transport.write(answer_to(self._input, unavailable()))
            self._transport.close()
            return
        self._handler = handler = make_handler()
        handler.connection = self
        handler.connection_made(self._transport)
        try:
            self._transport.resume_reading()
        except OSError:
            # The kernel lacks memory to watch it (epoll_ctl); those that wait beside it have to go on.
            self._transport.abort()
            return
        self._expect_head()
        data = bytes(self._input)
        self._input.clear()
        self._pass_on(handler, data)

    def _pass_on(self, handler: ConnectionHandler, data: bytes) -> None:
        if not self._in_request and self._limit is None:
            self._expect_head()
        if self._received.take(data) > MOST_HEAD_BYTES:
            handler.too_large = True
            data = _NO_HEAD
        handler.data_received(data)

    def eof_received(self) -> bool:
        """Keep the connection open while responses are due: a client may half-close after its last request."""
        if self._handler is None:
            # All complete requests before the end of input have been answered by now.
            return False
        self._handler.eof_received()
        if self._handler.is_idle:
            return False
        self.has_ended = True
        self._handler.close_after_answer()
        self.on_end()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection, and pass the event on."""
        self._stop_limit()
        self._connections.closed(self)
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """Stop answering: the write buffer is full."""
        self._is_writing_paused = True
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Go on answering: the write buffer has room again."""
        self._is_writing_paused = False
        if self._handler is not None:
            self._handler.resume_writing()
        else:
            asyncio.get_running_loop().call_soon(self._answer_more)

    def request_started(self) -> None:
        """Stop the time limit: a head is complete and its request is being handled."""
        self._in_request = True
        self._stop_limit()
        self._connections.active(self)

    def mark_signed_in(self) -> None:
        """Mark the connection as authenticated."""
        self._connections.known(self)

    @property
    def has_first_input(self) -> bool:
        """Whether its first input has arrived, and will be read in the next turn of the loop."""
        if self._has_read or self._transport.is_closing():
            return False
        try:
            arrived = select.poll()
            arrived.register(self._transport.get_extra_info("socket"), select.POLLIN)
            return bool(arrived.poll(0))
        except OSError:
            # The kernel lacks memory for it.
            return False

    @property
    def unsent_bytes(self) -> int:
        """The size of the write buffer in bytes."""
        return self._transport.get_write_buffer_size()

    @property
    def is_last_answer(self) -> bool:
        """Whether the client will send no request after the current one."""
        return self.has_ended and self._handler is not None and not self._handler.has_more

    def request_finished(self, body_bytes: int | None) -> None:
        """Expect the next head: the response was sent. ``body_bytes`` is the request's body; None if chunked."""
        self._in_request = False
        self._connections.active(self)
        if self._received.goes_on(body_bytes) and self._limit is None:
            self._expect_head()

    def close_unhandled(self) -> None:
        """Close the connection if it has no handler."""
        if self._handler is None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _expect_head(self) -> None:
        self._limit = asyncio.get_running_loop().call_later(HEAD_S, self._take_late_head)

    def _take_late_head(self) -> None:
        self._limit = None
        if self.unsent_bytes:
            # The previous response is still being read by the client, so the next head is not due yet.
            self._expect_head()
        else:
            self.abort()

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _HeadMeter:
    """Counts bytes to know the size of a head and whether input follows a request; aiohttp does not expose either.

    Pipelined requests make the count unreliable until the client pauses. The last bytes are used then: a head and a
    chunked body both end with an empty line.
    """

    def __init__(self) -> None:
        self._last = b""
        self._head_bytes = 0
        self._beyond: int | None = None
        self._in_head = True

    def take(self, data: bytes) -> int:
        """Count received data; return the size so far of the head that it belongs to, 0 if it belongs to none."""
        head_bytes = 0
        if self._in_head:
            head_bytes = self._head_bytes = self._head_bytes + len(data)
            known = self._last + data
            at = known.find(HEAD_END, int(self._last == HEAD_END))
            if at >= 0:
                self._in_head = False
                self._beyond = len(known) - at - len(HEAD_END)
                head_bytes -= self._beyond
        elif self._beyond is not None:
            self._beyond += len(data)
        self._last = (self._last + data[-len(HEAD_END) :])[-len(HEAD_END) :]
        return head_bytes

    def goes_on(self, body_bytes: int | None) -> bool:
        """Return whether more input than the finished request was received, and restart the count."""
        counted = self._beyond is not None and body_bytes is not None
        more = self._beyond != body_bytes if counted else self._last != HEAD_END
        self._head_bytes = max(0, (self._beyond or 0) - (body_bytes or 0))
        self._beyond = None
        self._in_head = True
        return more


_PAUSE_S = 0.02
_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Reserved for the rest of the process: pipes of children started later, files, tailscaled's socket, probes.
_KEPT_FREE = 64
_LEAST = 8


class DescriptorShortage:
    """Handles a shortage of file descriptors for all listeners."""

    def __init__(self, log: LogPipeline, kinds: Sequence[Connections]) -> None:
        self._log = log
        self._kinds = kinds
        self._repeated = RepeatLimiter(self._log_count)

    def make_room(self) -> bool:
        """Close idle connections, or use the reserve; return whether there is room from the next turn of the loop on.

        Turns follow each other without a pause, so that health checks do not wait behind hundreds of idle connections.
        """
        self._repeated.add()
        if sum(kind.make_room(_AT_ONCE) for kind in self._kinds):
            # In the next turn, they are closed and the reserve is refilled before a connection is accepted.
            asyncio.get_running_loop().call_soon(DESCRIPTORS.refill)
            return True
        return DESCRIPTORS.give_spare(_AT_ONCE // 4) > 0

    def close(self) -> None:
        """Log what was counted since the last record."""
        self._repeated.close()

    def _log_count(self, count: int) -> None:
        self._log.record(
            "warning",
            "too few file descriptors",
            limit=descriptors.limit(),
            times=count,
            what_to_do="idle connections are closed; raise the limit of open files (ulimit -n, docker run --ulimit)",
        )


class Acceptor:
    """Accepts connections on one non-blocking listening socket until it is closed."""

    def __init__(self, listener: socket.socket, connections: Connections, make_room: Callable[[], bool]) -> None:
        self._listener = listener
        self._connections = connections
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._resume()

    def close(self) -> None:
        """Stop accepting connections."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _resume(self) -> None:
        self._pause = None
        try:
            self._loop.add_reader(self._listener, self._take)
        except OSError:
            # The kernel lacks memory to watch it (epoll_ctl).
            self._pause = self._loop.call_later(_PAUSE_S, self._resume)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                # gVisor drops a connection that it has no descriptor for: one has to be free before it is asked.
                os.close(os.dup(self._listener.fileno()))
                connected, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                # Those being opened can be closed soon, if nothing else can.
                if not (error.errno in _LACK and (self._make_room() or self._opening)):
                    self._loop.remove_reader(self._listener)
                    self._pause = self._loop.call_later(_PAUSE_S, self._resume)
                return
            opening = self._loop.create_task(self._begin(connected))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _begin(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._connections, connected)
        except OSError:
            # The client has disconnected, or epoll is out of resources.
            connected.close()


def connection_limits(most: int) -> tuple[int, int]:
    """Return the limits of anonymous connections for the port and for the control socket, each at most ``most``."""
    left = descriptors.left() - _KEPT_FREE
    return max(_LEAST, min(most, left * 3 // 4)), max(_LEAST, min(most, left // 4))
