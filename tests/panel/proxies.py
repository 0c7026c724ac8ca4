"""A wire between browser and panel that can be cut, and a proxy that adds a path prefix."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

PREFIX = "/apps/moltis"
# The buffering proxy holds data back until it has this much, or until this much time has passed.
BUFFER_BYTES = 16 * 1024
BUFFER_S = 1.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"}


class Wire:
    """Relays bytes to what ``dial`` connects to; once cut, no connection works until it is repaired."""

    def __init__(self, dial: Callable[[], socket.socket]) -> None:
        self._dial = dial
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut = False
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def cut(self) -> None:
        """Close all connections, and from now on each new one at once."""
        self._run(self._end())

    def repair(self) -> None:
        """Accept connections again."""
        self._cut = False

    async def _end(self) -> None:
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            there = await asyncio.open_connection(sock=await asyncio.to_thread(self._dial))
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        with contextlib.suppress(OSError):
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        for each in (writer, there[1]):
            each.transport.abort()
            self._writers.discard(each)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@contextlib.contextmanager
def _turning(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Run a loop in a thread for the length of a block."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def wire(to: int | Callable[[], socket.socket]) -> Iterator[Wire]:
    """Run a wire to a local port, or to what a function connects to, for the length of a block."""
    one = Wire((lambda: socket.create_connection(("127.0.0.1", to))) if isinstance(to, int) else to)
    with _turning(one._loop):
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(one._pass_on, sock=one._listener), one._loop
        ).result(10)
        try:
            yield one
        finally:
            one.cut()
            one._loop.call_soon_threadsafe(server.close)


@contextlib.contextmanager
def prefixing(port: int) -> Iterator[str]:
    """Run a proxy that serves a panel below a path and delays its stream; yield the panel's address."""
    loop = asyncio.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    with _turning(loop):
        runner = asyncio.run_coroutine_threadsafe(_start(listener, port), loop).result(10)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{PREFIX}/"
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)


async def _start(listener: socket.socket, port: int) -> web.AppRunner:
    app = web.Application()

    async def session(_app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(auto_decompress=False) as client:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await _hand_on(client, request, f"http://127.0.0.1:{port}/{request.match_info['rest']}")

            app.router.add_route("*", PREFIX + "/{rest:.*}", handle)
            yield

    app.cleanup_ctx.append(session)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


async def _hand_on(client: aiohttp.ClientSession, request: web.Request, url: str) -> web.StreamResponse:
    head = {name: text for name, text in request.headers.items() if name.lower() not in _HOP_BY_HOP}
    body = await request.read()
    async with client.request(request.method, url, params=request.query, headers=head, data=body or None) as answer:
        kept = [(name, text) for name, text in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        # The browser may have disconnected.
        with contextlib.suppress(ConnectionError):
            while held := await _lump(answer.content):
                await response.write(held)
            await response.write_eof()
        return response


async def _lump(content: aiohttp.StreamReader) -> bytes:
    """Return what arrives until there is enough or the time is over; nothing at the end."""
    held = await content.readany()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BUFFER_S):
            while held and len(held) < BUFFER_BYTES and (more := await content.readany()):
                held += more
    return held
