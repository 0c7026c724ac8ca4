"""What a store may answer to a request for an object: in parts, with odd headers, with an error, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import subprocess
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import anyio
import pytest

from supervisor.backup import holder, objects
from supervisor.backup.holder import Lease, LostError
from supervisor.backup.objects import BucketStore, FolderStore
from supervisor.backup.words import BackupError
from supervisor.config.parsers import SecretSource
from supervisor.runtime import loop_latency
from supervisor.secret import Secret
from tests.backup.test_holder import never, settings
from tests.backup.world import World, wait_for_state
from tests.support.backups import KEY, KEY_ID
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Scripted:
    """A server that gives each connection the same answer, in parts with pauses; ``heard`` are the request heads."""

    def __init__(self, *parts: bytes) -> None:
        self.heard: list[bytes] = []
        self._parts = parts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    self.heard.append(client.recv(65536))
                    for part in self._parts:
                        client.sendall(part)
                        # Each part arrives in a separate read at the other end.
                        time.sleep(0.05)

    def close(self) -> None:
        """Stop accepting connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def _scripted(*parts: bytes) -> Iterator[_Scripted]:
    server = _Scripted(*parts)
    try:
        yield server
    finally:
        server.close()


def _store_at(host: str, port: int) -> BucketStore:
    return BucketStore(f"s3:http://{host}:{port}/bucket/snapshots", *_keys())


def _keys() -> tuple[SecretSource, SecretSource]:
    return SecretSource("ID", value=Secret(KEY_ID)), SecretSource("KEY", value=Secret(KEY))


@pytest.mark.parametrize("begin", ["", "x" * 240, "x" * 270, " " * 4000, " " * 4060])
async def test_a_servers_text_is_masked_before_it_is_cut_and_shows_what_is_invisible(begin: str) -> None:
    """A server may repeat the keys that it was sent, also where no more is read."""
    body = f"{begin}{KEY_ID}\u202e and {KEY}".encode()
    head = b"HTTP/1.1 418 Oh\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with _scripted(head, body) as server:
        with pytest.raises(BackupError) as caught:
            await _store_at("127.0.0.1", server.port).get()
        why = caught.value.trouble.why
        told = f"418 I'm a Teapot: {begin.strip()}[redacted]\\u202e and [redacted]"
        if len(body) > 4096:
            told = "418, and a text that is too long to be shown"
        assert why == f"the repository's server refuses the holder's object: {told[:300]}"


_NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code><Message>It is not implemented.</Message></Error>"


@contextlib.contextmanager
def _without_conditions() -> Iterator[int]:
    """Serve objects, but refuse conditional writes, as Backblaze B2 and Alibaba's OSS do; yield the port."""
    kept: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(200 if self.path in kept else 404, kept.get(self.path, b""))

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["If-Match"] or self.headers["If-None-Match"]:
                self._say(501, _NOT_IMPLEMENTED)
                return
            kept[self.path] = body
            self._say(200, b"")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hash(kept.get(self.path, b""))}"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()


async def test_a_server_that_refuses_conditions_is_as_one_that_ignores_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be used: the object is read back after a write, and an instance whose name is not in it has lost."""
    monkeypatch.setattr(holder, "SETTLE_S", 0.01)
    with _without_conditions() as port:
        one, two = (Lease(settings(f"s3:http://127.0.0.1:{port}/bucket/snapshots")) for _ in range(2))
        await one.acquire("", never)
        assert not one.conditional
        await one.probe()
        await one.note_restored("12345678")
        await one.renew(1, "")
        await two.acquire("", never, force=True)
        with pytest.raises(LostError):
            await one.renew(1, "")


async def test_a_proxy_that_weakens_etags_does_not_matter() -> None:
    """A condition on a weak ETag is never met (RFC 9110, 13.1.1), and compressed answers get such an ETag."""
    with _scripted(b'HTTP/1.1 200 OK\r\nETag: W/"1"\r\nContent-Length: 1\r\n\r\nx') as server:
        store = _store_at("127.0.0.1", server.port)
        assert (await store.get()).tag == '"1"'
        assert await store.put(b"x", '"1"') == '"1"'
        assert all(b"Accept-Encoding: identity" in head for head in server.heard)


async def test_the_region_that_a_server_tells_is_signed_as_it_tells_it() -> None:
    """OpenStack's is RegionOne unless another one was chosen."""
    told = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>RegionOne</Region></Error>"
    with _scripted(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(told) + told) as server:
        with pytest.raises(BackupError):
            await _store_at("127.0.0.1", server.port).get()
        assert [b"/RegionOne/s3/aws4_request" in head for head in server.heard] == [False, True]


async def test_an_object_that_arrives_in_parts_is_read_whole() -> None:
    """Half of it would look like an object that was written with another password."""
    body = b'{"version":1,"instance":"one"}'
    head = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n' % len(body)
    with _scripted(head + body[:9], body[9:20], body[20:]) as server:
        assert (await _store_at("127.0.0.1", server.port).get()).data == body


async def test_the_host_that_is_signed_is_the_host_that_is_sent() -> None:
    """This holds for a name in any case."""
    with _scripted(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as server:
        assert (await _store_at("LocalHost", server.port).get()).data is None
        assert f"\r\nHost: LocalHost:{server.port}\r\n".lower().encode() in server.heard[0].lower()
        assert b"LocalHost" in server.heard[0]


async def test_a_password_for_the_host_in_netrc_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are signed with the bucket's key, as those of restic are; the file may be on a disk that hangs."""
    (tmp_path / "netrc").write_text("default login somebody password a-password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with _scripted(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as server:
        assert (await _store_at("127.0.0.1", server.port).get()).data is None
        assert b"\r\nAuthorization: AWS4-HMAC-SHA256 " in server.heard[0]


async def test_the_way_to_a_bucket_may_lead_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for restic, a proxy without a scheme is an HTTP proxy."""
    with _scripted(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as server:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{server.port}")
        assert (await _store_at("bucket.invalid", 80).get()).data is None
        assert server.heard[0].startswith(b"GET http://bucket.invalid/bucket/snapshots.holder HTTP/1.1\r\n")


@pytest.mark.parametrize("proxy", ["http://me:theSecret@[::1", "http://me:theSecret@a..b:8080", "me:theSecret@h:99999"])
async def test_a_proxy_that_is_no_url(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported, without the password in it."""
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(BackupError) as caught:
        await _store_at("bucket.invalid", 80).get()
    told = "cannot reach the repository's server: HTTP_PROXY is not a valid address"
    assert caught.value.trouble.why == told
    assert "theSecret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("date", ["Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "rubbish", ""])
async def test_a_time_of_writing_that_makes_no_sense_is_none(date: str) -> None:
    """The object is read nevertheless."""
    answer = f"HTTP/1.1 200 OK\r\nLast-Modified: {date}\r\nContent-Length: 1\r\n\r\nx".encode()
    with _scripted(answer) as server:
        found = await _store_at("127.0.0.1", server.port).get()
        assert (found.data, found.written_s) == (b"x", None)


@pytest.mark.parametrize("status", ["502 Bad Gateway", "504 Gateway Timeout", "429 Too Many Requests"])
async def test_a_server_that_is_away_for_a_moment_is_asked_again(status: str) -> None:
    """The error is temporary, so the last snapshot waits; it does not mention restic, which was not involved."""
    with (
        _scripted(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as server,
        pytest.raises(BackupError) as caught,
    ):
        await _store_at("127.0.0.1", server.port).get()
    assert caught.value.trouble.may_pass
    assert "restic" not in str(caught.value)


# Prints the modules of aiohttp that the loop's thread imports, where the panel has loaded the server's part alone.
_FIRST_REQUEST = """
import asyncio, sys, threading
from supervisor.backup.objects import BucketStore
from supervisor.backup.words import BackupError
from supervisor.config.parsers import SecretSource
from supervisor.secret import Secret
from supervisor.web.server import load_without_client

class Importer:
    def find_spec(self, name, *_):
        if name.startswith("aiohttp") and threading.current_thread() is threading.main_thread():
            print(name)

async def ask():
    key = SecretSource("KEY", value=Secret("key"))
    try:
        await BucketStore("s3:http://127.0.0.1:1/bucket/snapshots", key, key).get()
    except BackupError as error:
        print(error)

load_without_client()
sys.meta_path.insert(0, Importer())
asyncio.run(ask())
"""


def test_a_first_request_imports_the_client_in_a_thread() -> None:
    """The import takes a quarter of a second, which would delay health and signals."""
    ended = subprocess.run([sys.executable, "-c", _FIRST_REQUEST], capture_output=True, text=True, check=True)
    assert ended.stdout == "the repository's server cannot be reached: connection refused; it is tried again\n"


async def test_disks_that_hang_hold_up_no_request_to_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may take every thread: what was imported needs none, and what was not is reported in time."""
    with _scripted(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as server:
        store = _store_at("127.0.0.1", server.port)
        assert (await store.get()).data is None
        monkeypatch.setattr(objects, "_TIMEOUT_S", 0.2)
        monkeypatch.setattr(loop_latency, "_slots", asyncio.Semaphore(0))
        with anyio.fail_after(10):
            assert (await store.get()).data is None
            with pytest.raises(BackupError, match="the HTTP client could not be loaded"):
                await _store_at("127.0.0.1", server.port).get()


async def test_a_folder_that_does_not_answer_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a bucket, a renewal is retried with the same store."""
    monkeypatch.setattr(objects, "_TIMEOUT_S", 0.2)
    store = FolderStore(str(tmp_path / "repository"))
    tag = await store.put(b"1", "")
    with (tmp_path / "repository.holder.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(2):
            with pytest.raises(BackupError, match="it is locked; it is tried again"):
                await store.put(b"2", tag)
    monkeypatch.setattr(objects, "_TIMEOUT_S", 10)
    wait_until(lambda: not store._busy.locked(), what="the end of the first write")
    # The write that was given up may still be made later.
    assert (await store.get()).data in {b"1", b"2"}
    await store.put(b"3", (await store.get()).tag)
    assert (await store.get()).data == b"3"


def test_a_stop_does_not_wait_for_a_folder_that_does_not_answer() -> None:
    """It ends in time, and reports what it could not do."""
    world = World()
    with world.running(SUPERVISOR_STOP_TIMEOUT="8s") as run:
        wait_for_state(run, "idle")
        with open(f"{world.repository}.holder.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert run.stop(15) == 0
        run.wait_for("cannot hand over")
