"""Which connections make room when file descriptors run short."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from supervisor.system.descriptors import DESCRIPTORS
from supervisor.web import acceptor, connections
from supervisor.web.acceptor import DescriptorShortage
from tests.web.following import following
from tests.web.serving import BEARER, Served, serving
from tests.web.test_limits import answered, closed

ASKED = f"GET /api/processes HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads have time: connections are closed for other reasons only."""
    monkeypatch.setattr(connections, "HEAD_S", 3600.0)
    monkeypatch.setattr(acceptor, "AT_ONCE", 4)


def shortage(served: Served) -> DescriptorShortage:
    """Return what handles a lack of descriptors, for the connections of a server."""
    return DescriptorShortage(served.log, served.server._kinds)


async def signed_in(served: Served, *, over_control: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that was kept after a request."""
    reader, writer = await (asyncio.open_unix_connection(served.control) if over_control else served.connect())
    writer.write(ASKED)
    await answered(reader, 1)
    return reader, writer


@pytest.mark.parametrize("over_control", [False, True])
async def test_idle_ones_that_are_signed_in_make_room_once_no_anonymous_one_is_left(*, over_control: bool) -> None:
    """Of those, the longest idle one is closed first; a later request makes it the last."""
    async with serving() as served:
        first, second = [await signed_in(served, over_control=over_control) for _ in range(2)]
        first[1].write(ASKED)
        await answered(first[0], 1)
        anonymous = await served.connect()
        await served.ask("GET", "/healthz")
        lack = shortage(served)
        assert lack.make_room()
        assert await closed(anonymous[0])
        assert lack.make_room()
        assert await closed(second[0])
        first[1].write(ASKED)
        await answered(first[0], 1)
        assert lack.make_room()
        assert await closed(first[0])
        assert not lack.make_room()
        for _, writer in (first, second, anonymous):
            writer.close()


async def test_anonymous_ones_that_cannot_be_closed_yet_are_waited_for() -> None:
    """While one is being accepted or its request is about to be read, nobody who is signed in is closed for it."""
    async with serving() as served:
        kept = await signed_in(served)
        public = served.server._kinds[0]
        task = asyncio.create_task(asyncio.Event().wait())
        public.opening.add(task)  # type: ignore[arg-type]
        assert not shortage(served).make_room()
        public.opening.clear()
        task.cancel()
        kept[1].write(ASKED)
        await answered(kept[0], 1)
        assert shortage(served).make_room()
        assert await closed(kept[0])
        kept[1].close()


async def test_streams_are_closed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay while the reserve has descriptors: it comes before what somebody is using."""
    spare = [3]
    monkeypatch.setattr(DESCRIPTORS, "give_spare", lambda _most: spare.pop() if spare else 0)
    async with serving() as served, following(served) as stream:
        await stream.until("state")
        kept = await signed_in(served)
        lack = shortage(served)
        assert lack.make_room()
        assert await closed(kept[0])
        assert lack.make_room()
        served.log.record("info", "still here")
        assert await stream.lines(1)
        assert lack.make_room()
        with pytest.raises(aiohttp.ClientError):
            await stream.until("nothing of this kind")
        assert not lack.make_room()
        kept[1].close()
