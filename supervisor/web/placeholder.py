"""Responds with 503 and the reason on the app's own port while the app is held."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from supervisor.web.acceptor import Connections, OpenConnection
from supervisor.web.connections import HEAD_S
from supervisor.web.error_codes import Code, RefusedError, encode_error
from supervisor.web.front import HEAD_END, MOST_HEAD_BYTES, answer_to

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from supervisor.core.backup import BackupView
    from supervisor.runtime.store import SnapshotStore
    from supervisor.web.acceptor import Acceptor

_LINGER_S = 2.0
_MOST = 64
# Closes with a reset, which leaves no TIME_WAIT: the app binds the port a moment later.
_NO_LINGER = struct.pack("ii", 1, 0)


class Placeholder:
    """The app's own port, on which ``sockets`` listen.

    The callback passed to ``when_released`` releases it to the app at once.
    """

    def __init__(
        self,
        store: SnapshotStore,
        sockets: Sequence[socket.socket],
        when_released: Callable[[Callable[[], None]], None],
    ) -> None:
        self.sockets = sockets
        self.is_released = False
        self._store = store
        self._when_released = when_released

    def connections(self, most: int) -> Connections:
        """Return the kind of connections that are to be accepted on the sockets, at most ``most``."""
        return Connections(partial(HeldConnection, self), min(_MOST, most))

    def close_at_release(self, acceptors: Sequence[Acceptor], connections: Connections) -> None:
        """Close what is given once the port is released."""
        self._when_released(partial(self._release, acceptors, connections))

    def _release(self, acceptors: Sequence[Acceptor], connections: Connections) -> None:
        self.is_released = True
        for acceptor in acceptors:
            acceptor.close()
        for connection in connections:
            connection.abort()

    def response(self) -> bytes:
        """Return the response to any request."""
        return unavailable(self._store.snapshot.backup)


class HeldConnection(OpenConnection):
    """A connection to the app's port: any request gets the placeholder's response."""

    def __init__(self, placeholder: Placeholder, connections: Connections) -> None:
        super().__init__(connections)
        self._placeholder = placeholder
        self._input = bytearray()
        self._is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit of the head."""
        super().connection_made(transport)
        self._end_after(HEAD_S, self.abort)
        if self._placeholder.is_released:
            # It was accepted just before that.
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Answer the first request; drop everything after its head."""
        self._has_read = True
        if self._is_answered:
            return
        self._input += data
        if HEAD_END in self._input:
            self._is_answered = True
            self._transport.write(answer_to(self._input, self._placeholder.response()))
            self._input.clear()
            # The side that closes first keeps the port in TIME_WAIT for a minute, so that is left to the client.
            self._stop_limit()
            self._end_after(_LINGER_S, self.abort)
        elif len(self._input) > MOST_HEAD_BYTES:
            self.abort()

    def abort(self) -> None:
        """Close at once, with a reset."""
        connection = self._transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        super().abort()


def unavailable(view: BackupView) -> bytes:
    """Return the response to any request."""
    said = "; ".join(filter(None, (f"the app is not started: {view.state.value}", view.why)))
    body = encode_error(RefusedError(Code.NOT_STARTED, said)) + b"\n"
    fields = (
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Retry-After: 5",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join(["HTTP/1.1 503 Service Unavailable", *fields, "", ""]).encode() + body
