"""What answers in place of the app while it is held."""

from __future__ import annotations

import asyncio
import os
import socket
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.backup import BackupView
from supervisor.core.snapshot import Snapshot
from supervisor.runtime.store import SnapshotStore
from supervisor.web.front import answer_to, unavailable
from supervisor.web.placeholder import Placeholder

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1024 * 1024


def test_what_a_stranger_sends_on_is_not_kept() -> None:
    """A client that keeps sending after its response takes up no memory."""

    def send(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.recv(65536)
            with suppress(OSError):
                for _ in range(64):
                    client.sendall(bytes(_MIB))
            return answer

    async def run() -> bytes:
        store = SnapshotStore(Snapshot(backup=BackupView(holds=True)))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(Placeholder(store, [listener], lambda _close: None).run())
            answer = await asyncio.to_thread(send, listener.getsockname()[1])
            serving.cancel()
            await asyncio.wait([serving])
        return answer

    tracemalloc.start()
    try:
        assert asyncio.run(run()).startswith(b"HTTP/1.1 503 ")
        assert tracemalloc.get_traced_memory()[1] < 16 * _MIB
    finally:
        tracemalloc.stop()


def test_a_head_gets_no_body() -> None:
    """Its length is that of the omitted body."""
    store = SnapshotStore(Snapshot(backup=BackupView(holds=True)))

    def ask(port: int, method: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(method + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(ConnectionResetError):
                while part := client.recv(65536):
                    answer += part
            return answer

    async def run() -> list[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(Placeholder(store, [listener], lambda _close: None).run())
            port = listener.getsockname()[1]
            answers = [await asyncio.to_thread(ask, port, method) for method in (b"HEAD", b"GET")]
            serving.cancel()
            await asyncio.wait([serving])
        return answers

    to_head, to_get = asyncio.run(run())
    head, _, body = to_get.partition(b"\r\n\r\n")
    assert body
    assert to_head == head + b"\r\n\r\n"
    assert b"\r\nContent-Length: %d\r\n" % len(body) in to_head
    assert answer_to(b"HEAD /panel HTTP/1.1", unavailable()).endswith(b"\r\n\r\n")


def test_a_start_that_fails_half_way_leaves_nothing_that_listens() -> None:
    """Otherwise the supervisor would still hold the port when the app needs it."""

    async def run() -> int:
        store = SnapshotStore(Snapshot(backup=BackupView(holds=True)))
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as other:
            other.close()
            with suppress(OSError):
                await Placeholder(store, [listener, other], lambda _close: None).run()
            return sum(each == os.readlink(f"/proc/self/fd/{listener.fileno()}") for each in links())

    def links() -> Iterator[str]:
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                yield os.readlink(f"/proc/self/fd/{fd}")

    assert asyncio.run(run()) == 1
