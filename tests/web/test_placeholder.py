"""What answers on the app's own port while the app is held."""

from __future__ import annotations

import asyncio
import os
import socket
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest

from supervisor.core.backup import BackupView
from supervisor.web import placeholder
from supervisor.web.front import answer_to, unavailable
from tests.web.serving import serving

_MIB = 1024 * 1024
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HELD = BackupView(holds=True)
DEADLINE_S = 30.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients have time, unless a test says otherwise: connections are closed for other reasons only."""
    monkeypatch.setattr(placeholder, "HEAD_S", 3600.0)
    monkeypatch.setattr(placeholder, "_LINGER_S", 3600.0)


async def was_reset(reader: asyncio.StreamReader) -> bool:
    """Return whether a connection is closed by a reset, after whatever arrives before."""
    try:
        await asyncio.wait_for(reader.read(), DEADLINE_S)
    except ConnectionResetError:
        return True
    return False


async def test_what_a_stranger_sends_on_is_not_kept() -> None:
    """A client that keeps sending after its response takes up no memory."""

    def send(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(REQUEST)
            answer = client.recv(65536)
            with suppress(OSError):
                for _ in range(64):
                    client.sendall(bytes(_MIB))
            return answer

    async with serving(backup=HELD) as served:
        tracemalloc.start()
        try:
            assert (await asyncio.to_thread(send, served.app_port)).startswith(b"HTTP/1.1 503 ")
            assert tracemalloc.get_traced_memory()[1] < 16 * _MIB
        finally:
            tracemalloc.stop()


async def test_a_head_gets_no_body() -> None:
    """Its length is that of the omitted body."""
    async with serving(backup=HELD) as served:
        answers = []
        for method in (b"HEAD", b"GET"):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.app_port)
            writer.write(REQUEST.replace(b"GET", method))
            writer.write_eof()
            answers.append(await asyncio.wait_for(reader.read(), DEADLINE_S))
            writer.close()
    to_head, to_get = answers
    head, _, body = to_get.partition(b"\r\n\r\n")
    assert body
    assert to_head == head + b"\r\n\r\n"
    assert b"\r\nContent-Length: %d\r\n" % len(body) in to_head
    assert answer_to(b"HEAD /panel HTTP/1.1", unavailable()).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("parts", [[REQUEST], [REQUEST[:9], REQUEST[9:]], [REQUEST + REQUEST], [REQUEST, b"more"]])
async def test_who_closes_first_gets_the_answer_and_no_reset(parts: list[bytes]) -> None:
    """An orderly close leaves no trace on the port here: the client's own close came before it."""
    async with serving(backup=HELD) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.app_port)
        for part in parts:
            writer.write(part)
            await served.ask("GET", "/healthz")
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
        assert answer.count(b"HTTP/1.1 503 ") == 1
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST])
async def test_a_client_that_stays_is_reset_in_time(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that sends no request: nothing is left that keeps the port busy."""
    monkeypatch.setattr(placeholder, "HEAD_S", 0.1)
    monkeypatch.setattr(placeholder, "_LINGER_S", 0.1)
    async with serving(backup=HELD) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.app_port)
        writer.write(sent)
        assert await was_reset(reader)
        writer.close()


async def test_a_head_without_end_is_reset() -> None:
    """The limit is that of the supervisor's own port."""
    async with serving(backup=HELD) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.app_port)
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000)
        assert await was_reset(reader)
        writer.close()


async def test_beyond_64_the_longest_idle_makes_room() -> None:
    """The last one is answered, as on the supervisor's own port."""
    async with serving(backup=HELD) as served:
        idle = [await asyncio.open_connection("127.0.0.1", served.app_port) for _ in range(80)]
        assert all([await was_reset(reader) for reader, _ in idle[:16]])
        for reader, writer in (idle[16], idle[-1]):
            writer.write(REQUEST)
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        for _, writer in idle:
            writer.close()


async def test_the_port_is_released_at_once() -> None:
    """Whoever is connected is reset, the app can bind the port, and the supervisor's own port stays."""
    async with serving(backup=HELD) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.app_port)
        # Its connection has been accepted by now.
        await served.ask("GET", "/healthz")
        # Not accepted yet.
        with socket.create_connection(("127.0.0.1", served.app_port)) as late:
            served.release()
            assert await was_reset(reader)
            late.settimeout(DEADLINE_S)
            with pytest.raises(ConnectionResetError):
                await asyncio.to_thread(late.recv, 1)
        with socket.socket() as app:
            app.bind(("127.0.0.1", served.app_port))
        writer.close()
        assert (await served.ask("GET", "/healthz")).status == 200


async def test_a_connection_that_is_being_accepted_at_the_release_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release comes between accept and the start of its protocol."""
    async with serving(backup=HELD) as served:
        loop = asyncio.get_running_loop()
        real = loop.connect_accepted_socket

        async def connect(*words: Any) -> Any:
            served.release()
            return await real(*words)

        monkeypatch.setattr(loop, "connect_accepted_socket", connect)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.app_port)
        assert await was_reset(reader)
        writer.close()


async def test_a_start_that_fails_leaves_nothing_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the supervisor would still hold the port when the app needs it."""
    async with serving(backup=HELD) as served:

        def count() -> int:
            found = 0
            for fd in os.listdir("/proc/self/fd"):
                with suppress(OSError), socket.socket(fileno=os.dup(int(fd))) as each:
                    name = each.getsockname()
                    found += name[1:2] == (served.app_port,)
            return found

        duplicate = socket.socket.dup

        def fail(listener: socket.socket) -> socket.socket:
            if listener.getsockname()[1:2] == (served.app_port,):
                raise OSError("no memory")
            return duplicate(listener)

        before = count()
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "dup", fail)
            with pytest.raises(OSError, match="no memory"):
                served.server._listen()
        assert count() == before == 2
