"""Responds with 503 and the reason on the app's own port while the app is held."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.runtime.store import Watch
from supervisor.web.error_codes import Code, RefusedError, encode_error
from supervisor.web.front import HEAD_END, MOST_HEAD_BYTES, answer_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.backup import BackupView
    from supervisor.runtime.store import SnapshotStore

HEAD_S = 10.0
_LINGER_S = 2.0
_MOST = 64
# Closes with a reset, which leaves no TIME_WAIT: the app binds the port a moment later.
_NO_LINGER = struct.pack("ii", 1, 0)


class Placeholder:
    """Serves ``sockets`` until the hold ends; the callback passed to ``when_released`` closes it at once."""

    def __init__(
        self,
        store: SnapshotStore,
        sockets: Sequence[socket.socket],
        when_released: Callable[[Callable[[], None]], None],
    ) -> None:
        self._store = store
        self._sockets = sockets
        self._when_released = when_released
        self._open = 0

    async def run(self) -> None:
        """Serve until released or cancelled."""
        servers: list[asyncio.Server] = []

        def close() -> None:
            for server in servers:
                server.close()

        self._when_released(close)
        watch = Watch(self._store, lambda snapshot: not snapshot.backup.holds)
        try:
            for listener in self._sockets:
                await self._listen(listener.dup(), servers)
            await watch.until_true()
        finally:
            watch.close()
            # After a failure too: one that went on listening would keep the port from the app.
            close()

    async def _listen(self, copy: socket.socket, servers: list[asyncio.Server]) -> None:
        try:
            servers.append(await asyncio.start_server(self._serve, sock=copy, limit=MOST_HEAD_BYTES))
        except OSError:
            copy.close()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MOST:
                await self._answer(reader, writer)
        finally:
            self._open -= 1
            connection = writer.get_extra_info("socket")
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(HEAD_END)
            writer.write(answer_to(head, unavailable(self._store.snapshot.backup)))
            await writer.drain()
            # The side that closes first keeps the port in TIME_WAIT for a minute, so that is left to the client.
            async with asyncio.timeout(_LINGER_S):
                while await reader.read(MOST_HEAD_BYTES):
                    pass


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
