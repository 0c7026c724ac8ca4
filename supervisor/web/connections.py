"""Accepts connections, limits their number and the time of a head, and answers health until the API is asked."""

from __future__ import annotations

import asyncio
import errno
from itertools import islice
from typing import TYPE_CHECKING, Protocol, cast

from supervisor.system import descriptors
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.web.front import MOST_HEAD_BYTES, unavailable
from supervisor.web.throttle import RepeatLimiter

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.logs.pipeline import LogPipeline
    from supervisor.system.peercred import Socket
    from supervisor.web.front import Front

HEAD_S = 10.0
MOST_CONNECTIONS = 256
KEEP_ALIVE_S = 75.0
# What one turn of the loop takes: connections that are accepted or closed, health requests of one connection.
_AT_ONCE = 16
_HEAD_END = b"\r\n\r\n"
# No head may hold it: aiohttp then refuses what it has of one.
_NO_HEAD = b"\0" + _HEAD_END


class ConnectionHandler(Protocol):
    """What answers requests of a connection: aiohttp's handler, as far as it is used here.

    ``too_large`` says that the head was, so that nobody looked at what is in it. ``has_more`` tells whether further
    requests wait for their turn, ``is_idle`` whether none is here or being answered.
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
    """All open connections of one kind, the longest idle first; ``most`` of them may be anonymous.

    ``check`` makes them connections of the control socket: it says why whoever connected is refused, if so.
    """

    def __init__(self, front: Front, most: int, check: Callable[[Socket], str] | None = None) -> None:
        self.check = check
        self.most = most
        self._front = front
        self._anonymous: dict[Connection, None] = {}
        self._known: dict[Connection, None] = {}

    def __call__(self) -> Connection:
        """Make the protocol of a new connection; what the event loop asks for."""
        return Connection(self, self._front)

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

    There is no handler until something comes that is not a plain health request: these are answered here.
    ``has_ended`` says that the client sends nothing more, though it may read on; ``on_end`` is called when that is so.
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
        # Input that nobody has answered yet.
        self._input = bytearray()
        self._limit: asyncio.TimerHandle | None = None
        self._in_request = False
        # The first head is due from the connection's beginning, a later one from its first byte.
        self._is_kept = False
        self._is_writing_paused = False
        self._received = _HeadMeter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count: the first head is due."""
        self._transport = cast("asyncio.Transport", transport)
        if self._connections.check is not None:
            # Now, before the process at the other end has time to become another one.
            self.refused = self._connections.check(transport.get_extra_info("socket"))
        self._connections.opened(self)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Answer health requests, and pass on what follows anything else."""
        if self._handler is not None:
            self._pass_on(self._handler, data)
            return
        if self._is_kept and not self._input:
            self._stop_limit()
            self._expect_head()
        self._input += data
        self._answer_health()

    def _answer_health(self) -> None:
        """Answer the health requests that are here; with the first one that is none, the handler takes over."""
        for _ in range(_AT_ONCE):
            end = self._input.find(_HEAD_END)
            if end < 0 or self._is_writing_paused or self._transport.is_closing():
                break
            answer = None if self.over_control else self._front.answer(bytes(self._input[:end]))
            if answer is None:
                break
            del self._input[: end + len(_HEAD_END)]
            self._connections.active(self)
            self._is_kept = True
            self._stop_limit()
            self._transport.write(answer.data)
            if not answer.keeps_open:
                self._transport.close()
        else:
            # Others have their turn; until then nothing more is read.
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._answer_more)
            return
        self._await_input()

    def _answer_more(self) -> None:
        if not self._transport.is_closing():
            self._answer_health()

    def _await_input(self) -> None:
        """Wait for what is still to come, or leave what is here to the handler."""
        if self._is_writing_paused:
            self._transport.pause_reading()
        elif self._transport.is_closing():
            self._input.clear()
        elif self._input and (self.over_control or _HEAD_END in self._input or not self._front.waits(self._input)):
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
        """Have a handler answer from now on; None where there is none to be had."""
        if self._transport.is_closing():
            return
        if make_handler is None:
            self._transport.write(unavailable())
            self._transport.close()
            return
        self._handler = handler = make_handler()
        handler.connection = self
        handler.connection_made(self._transport)
        self._transport.resume_reading()
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
        """Go on where answers are still due: a client may close its writing side after its last request."""
        if self._handler is None:
            # It is read when every whole request that came before it has been answered.
            return False
        self._handler.eof_received()
        if self._handler.is_idle:
            return False
        self.has_ended = True
        self._handler.close_after_answer()
        self.on_end()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._stop_limit()
        self._connections.closed(self)
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what waits for it."""
        self._is_writing_paused = True
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The client takes it again."""
        self._is_writing_paused = False
        if self._handler is not None:
            self._handler.resume_writing()
        else:
            asyncio.get_running_loop().call_soon(self._answer_more)

    def request_started(self) -> None:
        """A head is complete, and its request is being answered."""
        self._in_request = True
        self._stop_limit()
        self._connections.active(self)

    def mark_signed_in(self) -> None:
        """Whoever sent the request has signed in."""
        self._connections.known(self)

    @property
    def unsent_bytes(self) -> int:
        """How much waits here until the client takes it."""
        return self._transport.get_write_buffer_size()

    @property
    def is_last_answer(self) -> bool:
        """Whether nothing comes after the request that is being answered."""
        return self.has_ended and self._handler is not None and not self._handler.has_more

    def request_finished(self, body_bytes: int | None) -> None:
        """The answer is on its way. The request's body had so many bytes; None where only its end tells."""
        self._in_request = False
        self._connections.active(self)
        if self._received.goes_on(body_bytes) and self._limit is None:
            self._expect_head()

    def close_unhandled(self) -> None:
        """Close where no handler does."""
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
            # The answer before it is still being taken: until then nobody looks at a head.
            self._expect_head()
        else:
            self.abort()

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _HeadMeter:
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


_PAUSE_S = 0.02
_LONG_PAUSE_S = 0.5
_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# What else the process opens: pipes of children that are started later, files, tailscaled's socket, probes.
_KEPT_FREE = 64
_LEAST = 8


class DescriptorShortage:
    """What all listeners share when there are no descriptors left: whose connections make room, and the log."""

    def __init__(self, log: LogPipeline, kinds: Sequence[Connections]) -> None:
        self._log = log
        self._kinds = kinds
        self._repeated = RepeatLimiter(self._log_count)

    def make_room(self) -> float:
        """Close idle connections, or draw on the reserve; return how long to wait until the next try."""
        self._repeated.add()
        closed = sum(kind.make_room(_AT_ONCE) for kind in self._kinds)
        if closed:
            # It comes back first, as connections are let in with what is left of it.
            asyncio.get_running_loop().call_later(_PAUSE_S / 2, DESCRIPTORS.refill)
        return _PAUSE_S if closed or DESCRIPTORS.give_spare(_AT_ONCE // 4) else _LONG_PAUSE_S

    def _log_count(self, count: int) -> None:
        self._log.record(
            "warning",
            "too few file descriptors",
            limit=descriptors.limit(),
            times=count,
            what_to_do="idle connections are closed; raise the limit of open files (ulimit -n, docker run --ulimit)",
        )


class Acceptor:
    """Takes the connections of one listening socket, which is non-blocking, until it is closed."""

    def __init__(self, listener: socket.socket, connections: Connections, make_room: Callable[[], float]) -> None:
        self._listener = listener
        self._connections = connections
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._resume()

    def close(self) -> None:
        """Take no more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._take)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connected, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._loop.remove_reader(self._listener)
                wait_s = self._make_room() if error.errno in _LACK else _LONG_PAUSE_S
                self._pause = self._loop.call_later(wait_s, self._resume)
                return
            opening = self._loop.create_task(self._begin(connected))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _begin(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._connections, connected)
        except OSError:
            # It is gone already, or no descriptor is left to watch it with.
            connected.close()


def connection_limits(most: int) -> tuple[int, int]:
    """Return how many anonymous connections the port may have, and how many the control socket: ``most`` at best."""
    left = descriptors.left() - _KEPT_FREE
    return max(_LEAST, min(most, left * 3 // 4)), max(_LEAST, min(most, left // 4))
