"""Probes against real servers, good and bad."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from supervisor.core.process import HttpProbe, TcpProbe
from supervisor.runtime.probes import ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def answering(answer: bytes | None, end: str = "close") -> AsyncIterator[int]:
    """Serve one answer to everyone; None says nothing at all. ``end`` is close, reset, or never before the client."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        await reader.readline()
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        if end == "never":
            await reader.read()
        if end == "reset":
            await writer.drain()
            writer.transport.abort()
            return
        writer.close()
        await writer.wait_closed()

    tasks: list[asyncio.Task[None] | None] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*(task for task in tasks if task is not None))


@pytest.mark.parametrize(
    ("answer", "miss"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", None),
        (b"HTTP/1.0 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "it answered 301"),
        (b"HTTP/1.1 503 Unavailable\r\n\r\n", "it answered 503"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (b"\xff" * 100_000, "the answer is not HTTP"),
        (b"", "it closed the connection without an answer"),
        (None, "no answer within 0.3 s"),
    ],
)
async def test_answers(answer: bytes | None, miss: str | None) -> None:
    """Only 2xx counts; redirects are not followed; garbage and silence are misses with a reason."""
    async with answering(answer) as port:
        assert await ask(HttpProbe(f"http://127.0.0.1:{port}/health"), deadline_s=0.3) == miss


@pytest.mark.parametrize("end", ["never", "reset"])
async def test_a_good_head_is_an_answer_however_it_ends(end: str) -> None:
    """Some apps keep the connection open, others break it off."""
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", end) as port:
        assert await ask(HttpProbe(f"http://127.0.0.1:{port}/health"), deadline_s=10) is None


async def test_connections() -> None:
    """For any other app a connection is enough."""
    async with answering(None) as port:
        assert await ask(TcpProbe("127.0.0.1", port)) is None
    miss = await ask(TcpProbe("127.0.0.1", port))
    assert miss is not None
    assert "connect" in miss
    assert await ask(HttpProbe(f"http://127.0.0.1:{port}/")) is not None
