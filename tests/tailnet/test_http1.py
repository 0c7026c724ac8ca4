"""The HTTP that the LocalAPI needs: over real sockets, with whole, split and broken responses."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.tailnet import localapi
from supervisor.tailnet.http1 import BrokenError, exchange
from supervisor.tailnet.localapi import LocalApi, LocalApiError, SilentError, UnreachableError
from tests.support.listening import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Records requests, and answers each with the same bytes; an empty answer is never sent."""

    def __init__(self, path: str, answer: tuple[bytes, ...]) -> None:
        self.path = path
        self.asked: list[bytes] = []
        self._answer = answer

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        size_bytes = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.asked.append(head + await reader.readexactly(size_bytes))
        for piece in self._answer:
            writer.write(piece)
            await writer.drain()
            # Each is to arrive separately.
            await asyncio.sleep(0.001)
        if not self._answer:
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def answering(tmp_path: Path, *answer: bytes) -> AsyncIterator[Server]:
    """Answer on a unix socket for the duration of a block."""
    server = Server(str(tmp_path / "socket"), answer)
    async with listening(server.take, server.path):
        yield server


async def test_what_is_asked(tmp_path: Path) -> None:
    """The host is the one that tailscaled accepts, the body is complete, and no header is a browser's."""
    async with answering(tmp_path, OK, b"Content-Length: 0\r\n\r\n") as server:
        async with exchange(server.path, "POST", "/x?y=1", b"body", {"If-Match": "tag"}) as answer:
            assert await answer.body() == b""
        head, _, body = server.asked[0].partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"POST /x?y=1 HTTP/1.1",
            b"Host: local-tailscaled.sock",
            b"Connection: close",
            b"Content-Length: 4",
            b"If-Match: tag",
        ]
        assert body == b"body"


@pytest.mark.parametrize(
    "pieces",
    [
        (OK, b"Etag: t\r\nContent-Length: 5\r\n\r\nhe", b"llo"),
        (OK, b"etag:t\r\n\r\nhe", b"llo"),
        (OK, b"ETag:  t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r", b"\nll", b"o\r\n0\r\n\r\n"),
    ],
    ids=["length", "to the end", "chunks"],
)
async def test_a_body_however_it_comes(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    """It may have a length, end with the connection, or be chunked, and be split anywhere."""
    async with answering(tmp_path, *pieces) as server, exchange(server.path, "GET", "/") as answer:
        assert (answer.status, answer.good, answer.headers["etag"]) == (200, True, "t")
        assert await answer.body() == b"hello"


async def test_an_answer_without_a_body(tmp_path: Path) -> None:
    """No body is waited for."""
    async with (
        answering(tmp_path, b"HTTP/1.1 204 No Content\r\n\r\n") as server,
        exchange(server.path, "GET", "/") as answer,
    ):
        assert await answer.body() == b""


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200",),
        (b"nonsense\r\n\r\n",),
        (b"HTTP/1.1 many\r\n\r\n",),
        (b"x" * 200_000,),
        (OK, b"Content-Length: 9\r\n\r\nhello"),
        (OK, b"Content-Length: -1\r\n\r\nhello"),
        (OK, b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello"),
        (OK, b"Transfer-Encoding: chunked\r\n\r\nnine\r\nhello"),
        (OK, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello"),
    ],
)
async def test_no_whole_answer(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    """A truncated response, or invalid HTTP, is never accepted."""
    async with answering(tmp_path, *pieces) as server:
        with pytest.raises(BrokenError):
            async with exchange(server.path, "GET", "/") as answer:
                await answer.body()
        with pytest.raises(UnreachableError, match="the connection to tailscaled broke"):
            await LocalApi(server.path, str).status()


async def test_nobody_there(tmp_path: Path) -> None:
    """The reason is given in words."""
    with pytest.raises(UnreachableError, match="no such file or directory"):
        await LocalApi(str(tmp_path / "none"), str).status()


async def test_somebody_silent(tmp_path: Path) -> None:
    """A request waits no longer than its timeout."""
    async with answering(tmp_path) as server:
        with pytest.raises(SilentError, match=r"within 0\.05 s"):
            await LocalApi(server.path, str).status(timeout_s=0.05)


async def test_an_answer_that_is_not_json(tmp_path: Path) -> None:
    """It is reported as such."""
    async with answering(tmp_path, OK, b"\r\n<html>") as server:
        with pytest.raises(LocalApiError, match="cannot be understood"):
            await LocalApi(server.path, str).status()


async def test_frames_of_the_bus(tmp_path: Path) -> None:
    """There is one per line, however split and however long; a stream that breaks off is an error."""
    long = b'{"ErrMessage":"' + b"x" * 200_000 + b'"}\n'
    chunk = b'\n{"State":2,"Prefs":{"a":1},"SelfChange":{"b":[]}}\n' + long
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    async with answering(tmp_path, head, b"%x\r\n" % len(chunk), chunk[:70_000], chunk[70_000:], b"\r\n") as server:
        frames = LocalApi(server.path, str).watch()
        first = await anext(frames)
        assert (first.state, first.prefs is not None, first.self_change is not None) == (2, True, True)
        assert len((await anext(frames)).error or "") == 200_000
        with pytest.raises(UnreachableError):
            await anext(frames)


class Pieces:
    """A response whose body arrives in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield them."""
        for piece in self._pieces:
            yield piece


@given(st.lists(st.lists(st.sampled_from([b"a", b"bc", b" ", b"\n", b"\n\n"]), min_size=1, max_size=6).map(b"".join)))
def test_lines_are_whole_wherever_they_are_cut(pieces: list[bytes]) -> None:
    """Blank lines are omitted, and so is an incomplete last one."""

    async def lines() -> list[bytes]:
        return [line async for line in localapi._lines(Pieces(pieces))]  # type: ignore[arg-type]

    *whole, _ = b"".join(pieces).split(b"\n")
    assert asyncio.run(lines()) == [line for line in whole if line.strip()]


async def test_a_line_that_does_not_end_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """This also applies to a line in many pieces."""
    monkeypatch.setattr(localapi, "MOST_FRAME_BYTES", 1000)
    lines = localapi._lines(Pieces([b"{}\n", *[b"x" * 100] * 11]))  # type: ignore[arg-type]
    assert await anext(lines) == b"{}"
    with pytest.raises(LocalApiError, match="more than 1000 bytes"):
        await anext(lines)
