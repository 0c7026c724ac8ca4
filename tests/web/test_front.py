"""Health is answered without the API; other requests are passed to it whole, even while it is loading."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import pytest

from supervisor.core.process import State
from supervisor.core.snapshot import TailnetView
from supervisor.runtime.loop_latency import load_module
from supervisor.web import connections, front, server
from tests.web.serving import BEARER, READY, TOKEN, Answer, serving

if TYPE_CHECKING:
    from types import ModuleType

    from tests.web.serving import Served

DEADLINE_S = 30.0
FIRST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = f"POST /api/session HTTP/1.1\r\nHost: x\r\n{'X: y' * 10}\r\nContent-Type: application/json\r\n".encode()
BODY = b'{"token":"%s"}' % TOKEN.encode()
WITH_BODY = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SIGNED_IN = f"GET /health HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode()
PLAIN = [
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /readyz HTTP/1.1\r\nHost: [::1]:8080\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\n\r\n",
    b"GET /health?a=b&c=%20 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"HEAD /health HTTP/1.1\r\nhost:x\r\nCookie: a=b; c=d\r\nCONNECTION:  Keep-Alive \r\n\r\n",
    b"HEAD /readyz HTTP/1.0\r\n\r\n",
    b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\nX-Empty:\r\n\r\n",
    b"GET /healthz HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n",
]
NOT_PLAIN = [
    SIGNED_IN,
    WITH_BODY,
    b"GET /health HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    b"GET /health HTTP/1.1\nHost: x\r\n\r\n",
    b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /health#a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /health/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
]


class Gate:
    """Holds the loading of the API until it is opened, and counts how often it was started."""

    def __init__(self) -> None:
        self.opened, self.reached = asyncio.Event(), asyncio.Event()
        self.begun = 0

    async def load(self, module: str) -> ModuleType:
        """Load a module once the gate is open."""
        self.begun += 1
        self.reached.set()
        await self.opened.wait()
        return await load_module(module)


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Provide a closed gate in front of the API."""
    gate = Gate()
    monkeypatch.setattr(server, "load_module", gate.load)
    return gate


async def answered(reader: asyncio.StreamReader, *, head: bool = False) -> Answer:
    """Read one response."""
    data = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
    answer = Answer.of(data)
    body = b"" if head else await reader.readexactly(int(answer.headers["Content-Length"]))
    return answer._replace(body=body)


async def raw(served: Served, data: bytes) -> bytes:
    """Return the complete responses, with the time replaced."""
    reader, writer = await served.connect()
    writer.write(data)
    writer.write_eof()
    answers = await asyncio.wait_for(reader.read(), DEADLINE_S)
    writer.close()
    return re.sub(rb"Date: [^\r]*", b"Date: then", answers)


@pytest.mark.parametrize("request_", PLAIN)
async def test_health_is_answered_as_the_api_answers_it(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are identical byte for byte, even with 503, and are counted alike."""
    tailnet = TailnetView("embedded", "needs login", away_since_s=-1000.0)
    for view in (READY, READY._replace(state=State.BACKOFF, ready=False)):
        async with serving(view, tailnet=tailnet) as served:
            ours = await raw(served, request_)
            assert served.server._api._api is None
            meters = served.server._context.metrics
            counted, meters.requests = meters.requests, {}
            with monkeypatch.context() as patch:
                patch.setattr(front, "parse", lambda _head: None)
                assert ours == await raw(served, request_)
            assert ours.startswith(b"HTTP/1.")
            assert set(meters.requests) <= set(counted)


@pytest.mark.parametrize("request_", NOT_PLAIN)
async def test_what_is_no_plain_health_request_is_left_to_the_api(request_: bytes) -> None:
    """These have a token, a body, or a head that can be read in more than one way."""
    assert front.parse(request_.partition(b"\r\n\r\n")[0]) is None
    async with serving() as served:
        assert (await raw(served, request_)).startswith(b"HTTP/")
        assert served.server._api._api is not None


@pytest.mark.parametrize("before", [b"", FIRST, FIRST * 40])
@pytest.mark.parametrize("request_", [SIGNED_IN, WITH_BODY, IN_CHUNKS])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_hand_over_loses_nothing(gate: Gate, before: bytes, request_: bytes, size: int) -> None:
    """This applies however its bytes arrive and whatever follows on the connection, before and during the loading."""
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(before)
        for _ in range(before.count(b"GET")):
            assert (await answered(reader)).status == 200
        for begin in range(0, len(request_), size):
            writer.write(request_[begin : begin + size])
            await asyncio.sleep(0)
        writer.write(FIRST + request_)
        assert (await served.ask("GET", "/readyz")).status == 200
        gate.opened.set()
        first, second, third = [await answered(reader) for _ in range(3)]
        assert (first.status, second.status, third.status) == (200, 200, 200)
        assert second.json == {"status": "pass"}
        assert set(first.json) == set(third.json) >= ({"session"} if request_ is not SIGNED_IN else {"changes"})
        assert gate.begun == 1
        writer.close()


@pytest.mark.parametrize("request_", [SIGNED_IN, WITH_BODY, FIRST * 20 + WITH_BODY, WITH_BODY + FIRST * 2])
async def test_who_closes_the_writing_side_while_it_loads_is_answered(gate: Gate, request_: bytes) -> None:
    """Each request gets a response, and then the connection is closed."""
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request_)
        writer.write_eof()
        assert (await served.ask("GET", "/readyz")).status == 200
        gate.opened.set()
        answers = await asyncio.wait_for(reader.read(), DEADLINE_S)
        assert answers.count(b"HTTP/1.1 200 OK") == request_.count(b" HTTP/1.1")
        writer.close()


async def test_health_is_answered_while_the_api_loads(gate: Gate) -> None:
    """It is answered thousands of times, on kept and new connections; requests for the API get their response later."""
    async with serving() as served:
        waiting = [asyncio.ensure_future(served.get("/api/processes")) for _ in range(20)]
        reader, writer = await served.connect()
        for _ in range(30):
            writer.write(FIRST * 100)
            answers = [await answered(reader) for _ in range(100)]
            assert {answer.status for answer in answers} == {200}
        for _ in range(100):
            assert (await served.ask("GET", "/health")).status == 200
        assert not any(each.done() for each in waiting)
        gate.opened.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
        assert gate.begun == 1
        assert served.server._context.metrics.requests["/healthz", "GET", "200"] == 3001
        writer.close()


async def test_connections_without_a_handler_end_with_the_server(gate: Gate) -> None:
    """This applies to idle ones, and to those waiting for the API, which nobody would answer any more."""
    async with serving() as served:
        idle, first = await served.connect()
        first.write(FIRST)
        assert (await answered(idle)).status == 200
        waiting, second = await served.connect()
        second.write(SIGNED_IN)
        await served.get("/healthz", head="")
        # On a busy machine, a later connection may be read first.
        await asyncio.wait_for(gate.reached.wait(), DEADLINE_S)
        assert gate.begun == 1
    for reader in (idle, waiting):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
    first.close()
    second.close()


async def test_the_first_head_is_due_from_the_beginning_of_its_connection() -> None:
    """Parts that arrive later do not extend its deadline; on a kept connection, the time starts with the first byte."""
    async with serving() as served:
        reader, writer = await served.connect()
        await served.get("/healthz", head="")
        (connection,) = served.server._kinds[0]
        assert isinstance(connection, connections.Connection)
        assert connection._limit is not None
        due_s = connection._limit.when()
        writer.write(FIRST[:7])
        await served.get("/healthz", head="")
        assert (bytes(connection._input), connection._limit.when()) == (FIRST[:7], due_s)
        writer.write(FIRST[7:])
        assert (await answered(reader)).status == 200
        assert connection._limit.when() > due_s + connections.KEEP_ALIVE_S - 2 * connections.HEAD_S
        writer.write(FIRST[:7])
        await served.get("/healthz", head="")
        assert connection._limit.when() < asyncio.get_running_loop().time() + connections.HEAD_S
        writer.close()


async def test_who_goes_while_it_loads_is_forgotten(gate: Gate) -> None:
    """Nothing is answered, logged or kept for them."""
    async with serving() as served:
        for _ in range(5):
            _, writer = await served.connect()
            writer.write(SIGNED_IN)
            await served.get("/healthz", head="")
            writer.transport.abort()
        gate.opened.set()
        assert (await served.get("/api/processes")).status == 200
        assert served.remembered() == []


async def test_an_api_that_cannot_be_loaded_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that need it are refused at once, and health keeps working; a later request succeeds."""
    monkeypatch.setattr(server, "API", "supervisor.web.missing")
    async with serving() as served:
        for _ in range(3):
            answer = await served.get("/api/processes")
            assert answer.refusal == (500, "INTERNAL_ERROR")
            assert answer.headers["Connection"] == "close"
            assert (await served.ask("GET", "/health")).status == 200
        told = [text for text in served.remembered() if "service crashed" in text]
        assert len(told) == 1
        assert "supervisor.web.missing" in told[0]
        monkeypatch.setattr(server, "API", "supervisor.web.app")
        served.server._api._again_s = 0.0
        assert (await served.get("/api/processes")).status == 200


async def test_a_client_that_takes_no_answers_holds_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests wait in the kernel until it reads, and are then all answered."""
    monkeypatch.setattr(connections, "HEAD_S", 3600.0)
    async with serving() as served:
        reader, writer = await served.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 50_000
        writer.write(FIRST * count + b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for _ in range(20):
            assert (await served.ask("GET", "/health")).status == 200
            kept = [each for each in served.server._kinds[0] if isinstance(each, connections.Connection)]
            kept = [connection for connection in kept if connection._is_writing_paused]
            assert all(connection.unsent_bytes < 256 * 1024 for connection in kept)
            assert all(len(connection._input) < 512 * 1024 for connection in kept)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        data = await asyncio.wait_for(reader.read(), DEADLINE_S)
        assert (data.count(b"HTTP/1.1 200 OK"), data.count(b"HTTP/1.1 404")) == (count, 1)
        with contextlib.suppress(ConnectionError):
            writer.close()
