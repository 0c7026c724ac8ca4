"""A proxy before a server that may be slow, silent, cut off answers, or replace them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 16384
_HUGE_BYTES = 16 * 1024 * 1024


def _answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _refusal(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code} it is.</Message><Endpoint>elsewhere</Endpoint></Error>".encode()


_OTHER_ANSWERS = {
    "rubbish": b"\xff\x00 no HTTP at all \r\n\r\n" * 50,
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "error": _answer("500 Internal Server Error", b"oops"),
    "busy": _answer("409 Conflict", _refusal("ConditionalRequestConflict")),
    "forbidden": _answer("403 Forbidden", _refusal("AccessDenied")),
    "huge": b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{"BackendState": "' % _HUGE_BYTES + b"x" * _HUGE_BYTES,
    "elsewhere": _answer("301 Moved Permanently", _refusal("PermanentRedirect")),
}


def _writes_holder(data: bytes) -> bool:
    return data.startswith(b"PUT ") and data.split(b" ", 2)[1].endswith(b".holder")


class Flaky:
    """Forwards bytes from ``port`` (or a unix socket at ``path``) to another port or path, depending on ``mode``.

    Modes: pass, slow, crawl (six seconds for each request), silent, cut (half an answer, then the end), half (the same,
    then silence), refuse; rubbish, redirect, error, huge, busy (with another write), forbidden and elsewhere (it is in
    another region) give an answer of that kind in the server's place; careless removes the conditions of requests, so
    that the server always writes; late does so too, and delays writes to a holder's object
    until the mode changes, while ``is_late`` is whether there are any; unheard loses the responses to such writes, and
    ``unheard`` counts them; unreleased refuses the first of them that releases the repository, and is then pass;
    keeping refuses deletions, as for a key without that right, and keeping_all also those of locks. ``is_asked`` is
    whether a request was met by silence.
    """

    def __init__(self, target: int | str, path: str = "", host: str = "127.0.0.1") -> None:
        self.mode = "pass"
        self._target = target
        self._host = host
        self.is_late = threading.Event()
        self.unheard = 0
        self.is_asked = threading.Event()
        self._over = threading.Event()
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen()
        else:
            self._listener = socket.create_server((host, 0))
        self.port = 0 if path else int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop accepting connections."""
        self._over.set()
        # A thread that waits in accept(2) is not woken by close(2).
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection((self._host, self._target))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._target)
        except OSError:
            server.close()
            raise
        return server

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if self.mode == "refuse":
                return
            with self._connect() as server:
                unheard = threading.Event()
                back = threading.Thread(target=self._answer, args=(server, client, unheard), daemon=True)
                back.start()
                self._pass(client, server, unheard)
                back.join()

    def _pass(self, source: socket.socket, sink: socket.socket, unheard: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                while self.mode == "silent" and not self._over.is_set():
                    self.is_asked.set()
                    self._over.wait(0.05)
                if self.mode == "slow":
                    self._over.wait(0.02)
                if self.mode == "crawl":
                    self._over.wait(6.0)
                if self.mode == "refuse":
                    break
                if self.mode.startswith("keeping") and data.startswith(b"DELETE "):
                    path = data.split(b" ", 2)[1]
                    if self.mode == "keeping_all" or b"/locks/" not in path:
                        source.sendall(_OTHER_ANSWERS["forbidden"])
                        continue
                if _writes_holder(data):
                    data = self._hold_up(data, source, unheard)
                if self.mode in {"careless", "late"}:
                    data = data.replace(b"If-Match:", b"X-Match:").replace(b"If-None-Match:", b"X-None-Match:")
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _hold_up(self, data: bytes, source: socket.socket, unheard: threading.Event) -> bytes:
        """Return what to pass on of a write to a holder's object: nothing if it was answered here."""
        while self.mode == "late" and not self._over.is_set():
            self.is_late.set()
            self._over.wait(0.05)
        if self.mode == "unheard":
            unheard.set()
        if self.mode == "unreleased":
            while b'"mac":' not in data and (more := source.recv(_CHUNK_BYTES)):
                data += more
            if b'"released":true' in data:
                self.mode = "pass"
                source.sendall(_answer("503 Slow Down", _refusal("SlowDown")))
                return b""
        return data

    def _answer(self, server: socket.socket, client: socket.socket, unheard: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK_BYTES):
                if unheard.is_set():
                    self.unheard += 1
                    break
                if self.mode in _OTHER_ANSWERS:
                    client.sendall(_OTHER_ANSWERS[self.mode])
                    self._end(client, server)
                    return
                if self.mode in {"cut", "half"}:
                    client.sendall(data[: len(data) // 2])
                    while self.mode == "half" and not self._over.is_set():
                        self._over.wait(0.05)
                    self._end(client, server)
                    return
                client.sendall(data)
            # A client that still writes would wait for an answer that never comes.
            self._end(client, server)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def flaky(target: int | str, path: str = "", host: str = "127.0.0.1") -> Iterator[Flaky]:
    """Run such a proxy for the duration of a block; both ports are at the address ``host``."""
    way = Flaky(target, path, host)
    try:
        yield way
    finally:
        way.close()
        if path:
            os.unlink(path)
