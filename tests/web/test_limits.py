"""Slow, large, many and broken clients: health keeps being answered."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Any

import pytest

from supervisor.web import connections
from tests.web.following import following
from tests.web.serving import BEARER, Answer, serving

DEADLINE_S = 30.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads have time, unless a test says otherwise: connections are closed for other reasons only."""
    monkeypatch.setattr(connections, "HEAD_S", 3600.0)


def pass_by(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the loop's clock forward: what is due within these seconds is due now, on a crowded machine too."""
    loop = asyncio.get_running_loop()
    now_s = loop.time
    monkeypatch.setattr(loop, "time", lambda: now_s() + seconds)


async def closed(reader: asyncio.StreamReader) -> bool:
    """Return whether the server closes a connection without a response."""
    try:
        return await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
    except ConnectionResetError:
        return True


async def test_a_head_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends its head slowly is disconnected after the limit, also on a kept connection."""
    monkeypatch.setattr(connections, "HEAD_S", 100.0)
    async with serving() as served:
        for first in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            if first:
                writer.write(first)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(Answer.of(head).headers["Content-Length"]))
            writer.write(b"GET /health HTTP/1.1\r\nX: ")
            # Once this one is answered, that one has been read.
            await served.get("/healthz")
            pass_by(100.0, monkeypatch)
            assert await closed(reader)
            writer.close()
        assert (await served.ask("GET", "/health")).status == 200


FIRST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WITH_BODY = HEAD + b"Content-Length: 2\r\n\r\n{}"
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


async def answered(reader: asyncio.StreamReader, count: int) -> None:
    """Read ``count`` responses."""
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(Answer.of(head).headers["Content-Length"]))


@pytest.mark.parametrize("parts", [[FIRST], [WITH_BODY], [IN_CHUNKS], [FIRST, FIRST], [FIRST, WITH_BODY]])
async def test_a_head_that_begins_with_what_came_before_it(parts: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that follow a whole request in one segment also start a head, with the same time limit."""
    monkeypatch.setattr(connections, "HEAD_S", 100.0)
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(b"".join(parts) + b"GET /hea")
        await answered(reader, len(parts))
        await served.get("/healthz")
        pass_by(100.0, monkeypatch)
        assert await closed(reader)
        writer.close()


@pytest.mark.parametrize("request_", [FIRST, WITH_BODY, IN_CHUNKS, FIRST + FIRST])
async def test_a_connection_that_is_kept_has_no_head_yet(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However its last request arrived, it outlives a head that starts later and times out."""
    monkeypatch.setattr(connections, "HEAD_S", 100.0)
    async with serving() as served:
        kept = [await served.connect() for _ in range(3)]
        for (reader, writer), cut in zip(kept, (1, len(request_) - 3, len(request_)), strict=True):
            writer.write(request_[:cut])
            await served.get("/healthz")
            writer.write(request_[cut:])
            await answered(reader, request_.count(b"HTTP/1.1"))
        later, dripping = await served.connect()
        dripping.write(b"GET /hea")
        await served.get("/healthz")
        pass_by(100.0, monkeypatch)
        assert await closed(later)
        for reader, writer in kept:
            writer.write(FIRST)
            await answered(reader, 1)
            writer.close()
        dripping.close()


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is 408, and the connection is closed."""
    monkeypatch.setattr("supervisor.web.app.BODY_S", 0.3)
    async with serving() as served:
        answer = await served.send(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert (answer.status, answer.headers["Connection"]) == (408, "close")


async def test_a_body_that_is_too_large_is_refused() -> None:
    """The limit is 64 KiB."""
    async with serving() as served:
        answer = await served.ask("POST", "/health", body=bytes(64 * 1024 + 1))
        assert (answer.status, answer.json["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_an_expectation_that_is_not_met_is_refused_as_everything_is() -> None:
    """The response is ours on any path; the expectation is not repeated."""
    async with serving() as served:
        for path in ("/api/session", "/nothing", "/health"):
            answer = await served.ask("POST", path, "Expect: <b>tea</b>\r\n", b"{}")
            assert answer.refusal == (417, "EXPECTATION_FAILED")
            assert (answer.headers["Connection"], "tea" in answer.json["error"]) == ("close", False)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)),
    ],
)
async def test_what_is_no_request_is_refused(data: bytes) -> None:
    """The response is 400, or the connection is closed; the next client is served."""
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(data)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
        writer.close()
        assert answer == b"" or Answer.of(answer).refusal in {(400, "BAD_REQUEST"), (431, "HEAD_TOO_LARGE")}
        assert b"Traceback" not in answer
        assert (await served.ask("GET", "/health")).status == 200


async def test_the_longest_idle_connection_makes_room() -> None:
    """Above 256, the oldest one is closed, and health keeps being answered."""
    async with serving() as served:
        idle = []
        for _ in range(300):
            idle.append(await asyncio.open_connection("127.0.0.1", served.port))
            if len(idle) > 256:
                assert (await served.ask("GET", "/health")).status == 200
        # A request has a connection of its own, so that 45 were too many.
        assert all([await closed(reader) for reader, _ in idle[:45]])
        for reader, writer in (idle[45], idle[-1]):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert Answer.of(await asyncio.wait_for(reader.read(), DEADLINE_S)).status == 200
        for _, writer in idle:
            writer.close()


async def test_a_kernel_without_memory_to_watch_the_listener_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts later, and nothing crashes."""
    loop = asyncio.get_running_loop()
    refused = [OSError(errno.ENOMEM, "no memory")]
    real = loop.add_reader

    def add(*words: Any) -> None:
        if refused:
            raise refused.pop()
        real(*words)

    monkeypatch.setattr(loop, "add_reader", add)
    async with serving() as served:
        assert (await served.ask("GET", "/healthz")).status == 200


async def test_a_kernel_without_memory_to_watch_one_client_costs_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that wait for the API to load, the other one gets its response."""
    refused: list[object] = []
    kind: Any = vars(asyncio.selector_events)["_SelectorSocketTransport"]

    def resume(transport: Any, really: Any = kind.resume_reading) -> None:
        if not refused:
            refused.append(transport)
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        really(transport)

    monkeypatch.setattr(kind, "resume_reading", resume)
    async with serving() as served:
        first, second = await asyncio.gather(
            *(served.ask("GET", "/api/processes", BEARER) for _ in range(2)), return_exceptions=True
        )
        assert refused
        answers = [each for each in (first, second) if isinstance(each, Answer) and each.status == 200]
        assert len(answers) == 1
        assert "internal error" not in served.logged()


async def test_a_start_that_fails_half_way_leaves_nothing_that_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for the second listener, the first one is closed again; the next attempt opens both."""
    async with serving() as served:
        copies: list[socket.socket] = []

        def dup(listener: socket.socket, really: Any = socket.socket.dup) -> socket.socket:
            if copies:
                raise OSError(errno.EMFILE, "Too many open files")
            copies.append(really(listener))
            return copies[0]

        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "dup", dup)
            with pytest.raises(OSError, match="Too many open files"):
                served.server._listen()
        assert copies[0].fileno() == -1
        assert (await served.get("/healthz")).status == 200


async def test_who_is_signed_in_makes_no_room() -> None:
    """A stream, and a kept connection that was signed in, stay while anonymous ones come and go."""
    async with serving() as served, following(served) as stream:
        await stream.until("state")
        reader, writer = await served.connect()
        writer.write(f"GET /api/logs HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode())
        await answered(reader, 1)
        idle = [await served.connect() for _ in range(300)]
        assert all([await closed(reader) for reader, _ in idle[:40]])
        served.log.record("info", "still here")
        assert await stream.lines(1)
        writer.write(f"GET /api/logs HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode())
        await reader.readuntil(b"still here")
        for _, other in (*idle, (reader, writer)):
            other.close()


async def test_bodies_that_drip_are_anonymous_connections_too() -> None:
    """Requests whose bodies do not arrive hold no more connections than others, and health keeps being answered."""
    async with serving() as served:
        dripping = [await served.connect() for _ in range(300)]
        for _, writer in dripping:
            writer.write(b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert all([await closed(reader) for reader, _ in dripping[:40]])
        assert (await served.ask("GET", "/health")).status == 200
        assert served.remembered() == []
        for _, writer in dripping:
            writer.close()


async def test_a_body_that_breaks_off_or_is_no_body_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """A client that resets halfway, or sends invalid chunks, causes no log entry."""
    async with serving() as served:
        _, writer = await served.connect()
        writer.write(b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")
        await served.ask("GET", "/healthz")
        writer.transport.abort()
        answer = await served.send(b"POST /api/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert answer.refusal == (400, "BAD_REQUEST")
        assert "aiohttp" not in answer.headers["Server"]
        # Here it breaks off after the response was sent, when the body is no longer read.
        reader, writer = await served.connect()
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
        await reader.readuntil(b"EXPECTATION_FAILED")
        writer.write(b"cdezz\r\n")
        assert await asyncio.wait_for(reader.read(), DEADLINE_S)
        writer.close()
        assert served.remembered() == []
        assert caplog.records == []


async def test_pipelined_requests_are_answered_in_order() -> None:
    """HTTP requires this."""
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        health, liveness, missing = (
            b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/health", b"/healthz", b"/nothing")
        )
        last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write((health + liveness) * 10 + (missing + health) * 5 + last)
        data = await asyncio.wait_for(reader.read(), DEADLINE_S)
        answers = [Answer.of(b"HTTP/1.1 " + part) for part in data.split(b"HTTP/1.1 ")[1:]]
        kinds = [(answer.status, "checks" in answer.json) for answer in answers]
        assert kinds == [(200, True), (200, False)] * 10 + [(404, False), (200, True)] * 5 + [(404, False)]
        writer.close()


async def test_a_head_may_be_large_but_not_without_end() -> None:
    """The limit is 32 KiB, in one header or many; more is refused, complete or not, also after another request."""
    async with serving() as served:
        for head in (f"Cookie: {'y' * 31_000}\r\n", f"Cookie: {'y' * 1000}\r\n" * 31):
            assert (await served.ask("GET", "/health", head)).status == 200
            for before in (b"", FIRST):
                for end in (b"", b"\r\n"):
                    data = b"GET /health HTTP/1.1\r\nHost: x\r\n" + (head + "Z: " + "y" * 2000).encode() + b"\r\n"
                    reader, writer = await served.connect()
                    if before:
                        writer.write(before)
                        await answered(reader, 1)
                    writer.write(data + end)
                    answer = Answer.of(await asyncio.wait_for(reader.read(), DEADLINE_S))
                    writer.close()
                    assert answer.refusal == (431, "HEAD_TOO_LARGE")


@pytest.mark.parametrize("path", ["/", "/health", "/api/logs", "/metrics"])
@pytest.mark.parametrize("name", ["X-%d", "Cookie"])
async def test_a_head_may_have_many_fields_but_not_without_end(path: str, name: str) -> None:
    """The limit is 512 on each path, in different headers or in one; more is refused as a head of too many bytes is."""
    async with serving() as served:
        for count, status in ((200, 200), (510, 200), (513, 431), (3000, 431)):
            text = "y" * min(50, 30_000 // count - 12)
            head = "".join(f"{name % number if '%' in name else name}: {text}\r\n" for number in range(count))
            for credentials in (BEARER, "") if path in {"/", "/health"} else (BEARER,):
                total = head.removeprefix(head[: head.index("\r\n") + 2] if credentials else "")
                answer = await served.ask("GET", path, credentials + total)
                assert answer.status == status, (count, credentials)
                assert status == 200 or answer.refusal == (431, "HEAD_TOO_LARGE")


async def test_what_follows_a_body_in_chunks_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trailers take memory as long as their end is missing; a body in tiny chunks is accepted."""
    monkeypatch.setattr("supervisor.web.app.BODY_S", 3600.0)
    async with serving() as served:
        tiny = b"".join(b"1\r\n%c\r\n" % each for each in b'{"token": "' + b"x" * 60_000 + b'"}')
        reader, writer = await served.connect()
        writer.write(IN_CHUNKS[:-12] + tiny + b"0\r\n\r\n")
        assert b" 401 " in await asyncio.wait_for(reader.readline(), DEADLINE_S)
        writer.close()
        reader, writer = await served.connect()
        writer.write(IN_CHUNKS[:-2])
        with contextlib.suppress(ConnectionError):
            for number in range(100):
                writer.write(b"T-%d: " % number + b"y" * 30_000 + b"\r\n")
                await writer.drain()
        assert await closed(reader)
        writer.close()


@pytest.mark.parametrize("over", ["the port", "the control socket"])
@pytest.mark.parametrize("request_", [FIRST, WITH_BODY, IN_CHUNKS, FIRST * 3, FIRST + WITH_BODY, b"no HTTP\r\n\r\n"])
async def test_who_closes_the_writing_side_is_answered(request_: bytes, over: str) -> None:
    """Each request gets a response, and then the connection is closed."""
    async with serving() as served:
        port = over == "the port"
        reader, writer = await (served.connect() if port else asyncio.open_unix_connection(served.control))
        writer.write(request_)
        writer.write_eof()
        answers = await asyncio.wait_for(reader.read(), DEADLINE_S)
        assert answers.count(b"HTTP/1.") == max(1, request_.count(b" HTTP/1.1"))
        writer.close()


@pytest.mark.parametrize("pause", ["after a pause", ""])
@pytest.mark.parametrize("request_", [WITH_BODY[:-1], IN_CHUNKS[:-2]])
async def test_who_closes_the_writing_side_in_a_body_is_refused(
    request_: bytes, pause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused at once, since the rest can no longer arrive."""
    monkeypatch.setattr("supervisor.web.app.BODY_S", 3600.0)
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(request_)
        if pause:
            await served.get("/healthz")
        writer.write_eof()
        answer = Answer.of(await asyncio.wait_for(reader.read(), DEADLINE_S))
        assert answer.refusal == (400, "BAD_REQUEST")
        writer.close()


@pytest.mark.parametrize("part", [b"", b"GET /heal", FIRST + b"GET /heal"])
async def test_who_closes_the_writing_side_and_asks_nothing_is_closed(part: bytes) -> None:
    """It is closed at once, without waiting for the time limit of a head or of a kept connection."""
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(part)
        if part.startswith(FIRST):
            await answered(reader, 1)
        writer.write_eof()
        assert await closed(reader)
        writer.close()
