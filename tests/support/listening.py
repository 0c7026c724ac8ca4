"""A server on a unix socket that leaves neither connections nor handlers behind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Take = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Connection(asyncio.StreamReaderProtocol):
    def __init__(self, take: Take) -> None:
        self.made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.handled = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await take(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()
                self.handled.set()

        super().__init__(asyncio.StreamReader(), handle)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self.made.set_result(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()

    async def end(self) -> None:
        (await self.made).abort()
        await self.lost.wait()
        await self.handled.wait()


@contextlib.asynccontextmanager
async def listening(take: Take, path: str) -> AsyncIterator[None]:
    """Handle each connection with ``take`` for the duration of a block; at its end all are closed."""
    connections: list[_Connection] = []

    def accept() -> _Connection:
        connections.append(_Connection(take))
        return connections[-1]

    server = await asyncio.get_running_loop().create_unix_server(accept, path)
    try:
        yield
    finally:
        server.close()
        for connection in connections:
            await connection.end()
