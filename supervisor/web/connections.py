"""Limits the time and the size of request heads, and answers health checks itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from supervisor.web.acceptor import AT_ONCE, OpenConnection
from supervisor.web.front import HEAD_END, MOST_HEAD_BYTES, answer_to, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.system.peercred import Socket
    from supervisor.web.acceptor import Connections
    from supervisor.web.front import Front

HEAD_S = 10.0
# Longer than reverse proxies keep an idle connection for another request (Caddy 120 s, Traefik 90 s): if it were closed
# just then, the client would get a 502.
KEEP_ALIVE_S = 150.0
# With its framing and trailers, which aiohttp does not limit; a body of 64 KiB in chunks of one byte has 384 KiB.
_MOST_CHUNKED_BYTES = 512 * 1024
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


class Connection(OpenConnection):
    """A protocol between the transport and aiohttp's handler that limits the time and the size of request heads.

    Plain health requests are answered here; the first other request creates the handler. With ``check`` it is one of
    the control socket; it returns why a peer is refused, or an empty text. ``has_ended`` is whether the client has
    closed its sending side (it may still read); ``on_end`` is called when that happens.
    """

    def __init__(self, connections: Connections, front: Front, check: Callable[[Socket], str] | None = None) -> None:
        super().__init__(connections)
        self.has_ended = False
        self.on_end: Callable[[], object] = lambda: None
        self.over_control = check is not None
        self.refused = ""
        self._check = check
        self._front = front
        self._handler: ConnectionHandler | None = None
        # Input not processed yet.
        self._input = bytearray()
        self._in_request = False
        self._in_chunks = False
        # The time limit of the first head starts with the connection, that of a later one with its first byte.
        self._is_kept = False
        self._is_writing_paused = False
        self._received = _HeadMeter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit of the first head."""
        if self._check is not None:
            # Checked now, before the peer's pid can be reused.
            self.refused = self._check(transport.get_extra_info("socket"))
        super().connection_made(transport)
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
        for _ in range(AT_ONCE):
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
                self._end_after(HEAD_S if self._input else KEEP_ALIVE_S, self._take_late_head)

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
        elif self._in_chunks and self._received.beyond_bytes > _MOST_CHUNKED_BYTES:
            self.abort()
            return
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
        super().connection_lost(exc)
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

    def request_started(self, *, in_chunks: bool) -> None:
        """Stop the time limit: a head is complete and its request, whose body may be chunked, is being handled."""
        self._in_request = True
        self._in_chunks = in_chunks
        self._stop_limit()
        self._connections.active(self)

    def mark_signed_in(self) -> None:
        """Mark the connection as authenticated."""
        self._connections.known(self)

    @property
    def is_idle(self) -> bool:
        """Whether no request is waiting or being answered."""
        return not self._in_request and not self.unsent_bytes and (self._handler is None or self._handler.is_idle)

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
        self._in_request = self._in_chunks = False
        self._connections.active(self)
        if self._received.goes_on(body_bytes) and self._limit is None:
            self._expect_head()

    def stop(self) -> None:
        """Close at the end of the run, unless a handler does."""
        if self._handler is None:
            self._transport.close()

    def _expect_head(self) -> None:
        self._end_after(HEAD_S, self._take_late_head)

    def _take_late_head(self) -> None:
        self._limit = None
        if self.unsent_bytes:
            # The previous response is still being read by the client, so the next head is not due yet.
            self._expect_head()
        else:
            self.abort()


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

    @property
    def beyond_bytes(self) -> int:
        """The number of bytes since the last complete head."""
        return self._beyond or 0

    def goes_on(self, body_bytes: int | None) -> bool:
        """Return whether more input than the finished request was received, and restart the count."""
        counted = self._beyond is not None and body_bytes is not None
        more = self._beyond != body_bytes if counted else self._last != HEAD_END
        self._head_bytes = max(0, (self._beyond or 0) - (body_bytes or 0))
        self._beyond = None
        self._in_head = True
        return more
