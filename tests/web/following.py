"""Follows an event stream as a client does, and parses it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from tests.web.serving import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.web.serving import Served

DEADLINE_S = 15.0


class Event(NamedTuple):
    """One event; a comment has no kind."""

    kind: str
    id: str
    data: Any

    @property
    def number(self) -> int:
        """The number of the line in its id."""
        return int(self.id.rpartition("-")[2])


class Follower:
    """Reads one stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def block(self) -> str:
        """Return the text up to the next empty line; empty at the end of the stream."""
        lines = []
        async with asyncio.timeout(DEADLINE_S):
            while (line := await self.response.content.readline()) not in {b"\n", b""}:
                lines.append(line.decode())
        return "".join(lines)

    async def next(self) -> Event:
        """Return the next event or comment."""
        block = await self.block()
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        event = Event(fields.get("event", ""), fields.get("id", ""), json.loads(fields.get("data", "null")))
        self.last_id = event.id or self.last_id
        return event

    async def until(self, kind: str, holds: Callable[[Any], bool] = lambda _data: True) -> Event:
        """Return the next event of this kind whose data match."""
        while True:
            event = await self.next()
            if event.kind == kind and holds(event.data):
                return event

    async def lines(self, count: int) -> list[Any]:
        """Return the next ``count`` lines; none may have been lost."""
        found: list[Any] = []
        while len(found) < count:
            event = await self.until("log")
            assert event.data["lost"] == 0
            found += event.data["lines"]
        return found


@asynccontextmanager
async def following(
    served: Served | str, query: str = "", token: str = TOKEN, **headers: str
) -> AsyncIterator[Follower]:
    """Follow a server of the tests, or the one at a control socket, for the duration of a block."""
    is_path = isinstance(served, str)
    connector = aiohttp.UnixConnector(served) if isinstance(served, str) else None
    address = "localhost" if isinstance(served, str) else f"127.0.0.1:{served.port}"
    sent = {**({} if is_path else {"Authorization": f"Bearer {token}"}), **headers}
    # A line of a stream may be long.
    async with (
        aiohttp.ClientSession(connector=connector, read_bufsize=2**24) as session,
        session.get(f"http://{address}/api/events{query}", headers=sent) as response,
    ):
        assert response.status == 200, await response.text()
        follower = Follower(response)
        assert await follower.block() == "retry: 2000\n"
        yield follower
