"""HTTP from others: a response of the LocalAPI, and a request that may be one for health."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from typing import TYPE_CHECKING

from anyio import to_thread
from hypothesis import given
from hypothesis import strategies as st

from supervisor.tailnet.http1 import BrokenError, exchange
from supervisor.tailnet.localapi import LocalApi, LocalApiError
from tests.fuzz.mutating import a_round, mutations, rounds, thorough
from tests.support.listening import listening
from tests.web.serving import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nEtag: a\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 500 Oops\r\n\r\nno",
)
_FRAME = b'{"State":6,"ErrMessage":"no","BrowseToURL":"https://login.example.com/a/1"}\n'
STREAMS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(_FRAME), _FRAME),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n"
    % (_FRAME[:5], len(_FRAME) - 5, _FRAME[5:]),
    b"HTTP/1.1 200 OK\r\n\r\n" + _FRAME * 3,
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
)
REQUESTS = (
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /health?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /api/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nExpect: 100-continue\r\n\r\n",
)


async def _read(path: str) -> None:
    with contextlib.suppress(BrokenError):
        async with exchange(path, "GET", "/") as answer:
            await answer.body()


async def _follow(path: str) -> None:
    with contextlib.suppress(LocalApiError):
        async for frame in LocalApi(path, str).watch():
            assert isinstance(frame.error, str)


async def _ask_all(answers: Iterable[bytes], ask: Callable[[str], Awaitable[None]]) -> None:
    """Request each of these responses from a server, one after the other."""
    left = [*answers]

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0))
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        async with listening(serve, path):
            for _ in [*left]:
                async with asyncio.timeout(30):
                    await ask(path)


@thorough
@given(st.lists(mutations(ANSWERS), min_size=1, max_size=5))
def test_an_answer_of_the_local_api(answers: list[bytes]) -> None:
    """The response is read completely or raises BrokenError; reading always ends."""
    asyncio.run(_ask_all(answers, _read))


@thorough
@given(st.lists(mutations(STREAMS), min_size=1, max_size=5))
def test_the_stream_of_the_bus(answers: list[bytes]) -> None:
    """Its frames are read until it ends, or it raises LocalApiError."""
    asyncio.run(_ask_all(answers, _follow))


async def _send(port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError):
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(30):
            await reader.read()
    writer.close()


async def test_requests_of_all_sorts() -> None:
    """Whatever is sent, the server answers or closes, logs no error of its own, and answers health right after."""
    batches: list[list[bytes]] = []

    @a_round
    @given(st.lists(mutations(REQUESTS), min_size=1, max_size=5))
    def collect(requests: list[bytes]) -> None:
        batches.append(requests)

    async with serving() as served:
        for _ in rounds():
            batches.clear()
            await to_thread.run_sync(collect)
            for requests in batches:
                await _send(served.port, b"".join(requests))
        answer = await served.ask("GET", "/healthz")
        assert answer.status == 200
        assert "request failed" not in served.logged()
        assert "internal error" not in served.logged()
