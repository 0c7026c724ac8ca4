"""A minimal HTTP/1.1 client for the LocalAPI: one request per connection, over a unix socket.

A library would take a tenth of a second to import, which would delay the login.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# Any other Host, and any Origin or Referer, is refused with 403.
HOST = "local-tailscaled.sock"
_PIECE_BYTES = 64 * 1024
_MOST_HEAD_BYTES = 64 * 1024
MOST_BODY_BYTES = 64 * 1024 * 1024
_WITHOUT_BODY = frozenset({204, 304})
_NO_HTTP = "the answer is not HTTP"
_CUT_SHORT = "the answer ended too soon"


class BrokenError(Exception):
    """The connection broke, or the response is incomplete."""


class Http1Response(NamedTuple):
    """The head of a response, with header names in lower case, and its body."""

    status: int
    headers: Mapping[str, str]
    reader: asyncio.StreamReader

    @property
    def good(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - as HTTP has it

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body in chunks. Raises BrokenError if it is incomplete."""
        if self.status in _WITHOUT_BODY:
            return
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            async for piece in _chunks(self.reader):
                yield piece
        elif "content-length" in self.headers:
            async for piece in _exactly(self.reader, _number(self.headers["content-length"], 10)):
                yield piece
        else:
            while piece := await self.reader.read(_PIECE_BYTES):
                yield piece

    async def body(self) -> bytes:
        """Return the whole body."""
        found = bytearray()
        async for piece in self.pieces():
            found += piece
            if len(found) > MOST_BODY_BYTES:
                raise BrokenError(f"the answer has more than {MOST_BODY_BYTES} bytes")
        return bytes(found)


@contextlib.asynccontextmanager
async def exchange(
    socket_path: str,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    over_s: float = 0.0,
) -> AsyncIterator[Http1Response]:
    """Send a request and yield the response; the connection is closed at the end of the block.

    A caller that is cancelled waits up to ``over_s`` until the server has given up the request too.
    Raises OSError if nothing listens, and BrokenError.
    """
    reader, writer = await asyncio.open_unix_connection(socket_path, limit=_MOST_HEAD_BYTES)
    try:
        fields = {"Host": HOST, "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join([*lines, "\r\n"]).encode() + body)
        await writer.drain()
        yield await _head(reader)
    except asyncio.CancelledError:
        if over_s:
            await _give_up(reader, writer, over_s)
        raise
    except OSError as error:
        raise BrokenError(str(error)) from error
    finally:
        # Closed without waiting: a caller that gives up on a hung tailscaled also drops its connection.
        writer.transport.abort()


async def _give_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, over_s: float) -> None:
    """Tell the server that nobody waits for its answer, and wait for the end of what it has begun.

    Go's server cancels a request when the client has closed its side, and answers when the request is over.
    """
    with anyio.move_on_after(over_s, shield=True), contextlib.suppress(OSError):
        writer.write_eof()
        while await reader.read(_PIECE_BYTES):
            pass


async def _head(reader: asyncio.StreamReader) -> Http1Response:
    text = (await _up_to(reader, b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise BrokenError(_NO_HTTP)
    pairs = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Http1Response(_number(rest[:3], 10), headers, reader)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size_bytes := _number((await _up_to(reader, b"\r\n")).partition(b";")[0].decode("latin-1"), 16):
        async for piece in _exactly(reader, size_bytes):
            yield piece
        await _up_to(reader, b"\r\n")


async def _exactly(reader: asyncio.StreamReader, size_bytes: int) -> AsyncIterator[bytes]:
    while size_bytes:
        piece = await reader.read(min(size_bytes, _PIECE_BYTES))
        if not piece:
            raise BrokenError(_CUT_SHORT)
        size_bytes -= len(piece)
        yield piece


async def _up_to(reader: asyncio.StreamReader, end: bytes) -> bytes:
    try:
        return (await reader.readuntil(end)).removesuffix(end)
    except asyncio.IncompleteReadError as error:
        raise BrokenError(_CUT_SHORT) from error
    except asyncio.LimitOverrunError as error:
        raise BrokenError(_NO_HTTP) from error


def _number(text: str, base: int) -> int:
    try:
        found = int(text, base)
    except ValueError as error:
        raise BrokenError(_NO_HTTP) from error
    if found < 0:
        raise BrokenError(_NO_HTTP)
    return found
