"""Accepts connections on all listening sockets, limits their number, and makes room if file descriptors run short."""

from __future__ import annotations

import asyncio
import errno
import os
import select
from itertools import islice
from typing import TYPE_CHECKING, cast

from supervisor.system import descriptors
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.web.throttle import RepeatLimiter

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.logs.pipeline import LogPipeline

MOST_CONNECTIONS = 256
# Per turn of the loop: connections accepted or closed, and health requests of one connection.
AT_ONCE = 16


class Connections:
    """All open connections of one kind, made by ``make``, the longest idle first; at most ``most`` are anonymous."""

    def __init__(self, make: Callable[[Connections], OpenConnection], most: int) -> None:
        self.most = most
        # Accepted, but not yet in the hands of a protocol.
        self.opening: set[asyncio.Task[None]] = set()
        self._make = make
        self._anonymous: dict[OpenConnection, None] = {}
        self._known: dict[OpenConnection, None] = {}

    def __call__(self) -> OpenConnection:
        """Return the protocol for a new connection; called by the event loop."""
        return self._make(self)

    def __iter__(self) -> Iterator[OpenConnection]:
        """Iterate over all open connections."""
        yield from (*self._anonymous, *self._known)

    @property
    def has_anonymous(self) -> bool:
        """Whether there are anonymous connections, which make room before others do."""
        return bool(self._anonymous or self.opening)

    def opened(self, connection: OpenConnection) -> None:
        """Add a connection; above the limit, close the longest idle anonymous one."""
        self._anonymous[connection] = None
        self.make_room(len(self._anonymous) - self.most)

    def make_room(self, count: int) -> int:
        """Close anonymous connections, of which ``count`` have been idle the longest; return how many were closed.

        One whose first input has just arrived stays: it may be a health check that waited to be accepted.
        """
        return self._close(
            [each for each in islice(self._anonymous, max(0, count)) if not each.has_first_input],
        )

    def close_known(self, count: int, *, busy: bool) -> int:
        """Close up to ``count`` authenticated connections that have been idle the longest; return how many were closed.

        With ``busy`` those whose requests are being answered are closed too, such as event streams.
        """
        return self._close(list(islice((each for each in self._known if busy or each.is_idle), count)))

    def _close(self, connections: list[OpenConnection]) -> int:
        for connection in connections:
            self.closed(connection)
            connection.abort()
        return len(connections)

    def closed(self, connection: OpenConnection) -> None:
        """Remove a connection."""
        self._anonymous.pop(connection, None)
        self._known.pop(connection, None)

    def active(self, connection: OpenConnection) -> None:
        """Move a connection to the end of the idle order: a request has arrived, or its response was sent."""
        for kind in (self._anonymous, self._known):
            if connection in kind:
                del kind[connection]
                kind[connection] = None

    def known(self, connection: OpenConnection) -> None:
        """Mark a connection as authenticated: it makes room only for want of descriptors, and after all others."""
        if connection in self._anonymous:
            del self._anonymous[connection]
            self._known[connection] = None


class OpenConnection(asyncio.Protocol):
    """An open connection that is one of ``connections``, and ends at a time limit."""

    _transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._limit: asyncio.TimerHandle | None = None
        self._has_read = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's
        """Remove the connection."""
        self._stop_limit()
        self._connections.closed(self)

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
    def is_idle(self) -> bool:
        """Whether no request is waiting or being answered."""
        return True

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def stop(self) -> None:
        """Close at the end of the run."""
        self.abort()

    def _end_after(self, limit_s: float, end: Callable[[], object]) -> None:
        self._limit = asyncio.get_running_loop().call_later(limit_s, end)

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


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

        If neither helps, those that are authenticated and busy are closed: their streams can be resumed. Turns follow
        each other without a pause, so that health checks do not wait behind hundreds of idle connections.
        """
        self._repeated.add()
        closed = sum(kind.make_room(AT_ONCE) for kind in self._kinds) or self._close_known(busy=False)
        if not closed and DESCRIPTORS.give_spare(AT_ONCE // 4):
            return True
        if not (closed or self._close_known(busy=True)):
            return False
        # In the next turn, they are closed and the reserve is refilled before a connection is accepted.
        asyncio.get_running_loop().call_soon(DESCRIPTORS.refill)
        return True

    def _close_known(self, *, busy: bool) -> int:
        """Close authenticated connections, unless anonymous ones are left, which can be closed soon."""
        if any(kind.has_anonymous for kind in self._kinds):
            return 0
        return sum(kind.close_known(AT_ONCE // 4, busy=busy) for kind in self._kinds)

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
        self.connections = connections
        self._listener = listener
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Stop accepting connections; further calls do nothing."""
        if self._listener.fileno() < 0:
            return
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
        for _ in range(AT_ONCE):
            try:
                # gVisor drops a connection that it has no descriptor for: one has to be free before it is asked.
                os.close(os.dup(self._listener.fileno()))
                connected, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                # Those being opened can be closed soon, if nothing else can.
                if not (error.errno in _LACK and (self._make_room() or self.connections.opening)):
                    self._loop.remove_reader(self._listener)
                    self._pause = self._loop.call_later(_PAUSE_S, self._resume)
                return
            opening = self._loop.create_task(self._begin(connected))
            self.connections.opening.add(opening)
            opening.add_done_callback(self.connections.opening.discard)

    async def _begin(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self.connections, connected)
        except OSError:
            # The client has disconnected, or epoll is out of resources.
            connected.close()


def connection_limits(most: int) -> tuple[int, int]:
    """Return the limits of anonymous connections for the port and for the control socket, each at most ``most``."""
    left = descriptors.left() - _KEPT_FREE
    return max(_LEAST, min(most, left * 3 // 4)), max(_LEAST, min(most, left // 4))
