"""A server that receives alerts, and answers as a test specifies."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Told(NamedTuple):
    """A request that was received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, decoded from JSON."""
        return json.loads(self.body)


class Hook:
    """The requests received so far; ``statuses`` are the next responses' (then 200), ``headers`` are sent with each."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.told: list[Told] = []
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}

    def wait(self, count: int = 1) -> list[Told]:
        """Wait until ``count`` requests have been received."""
        return wait_until(lambda: self.told if len(self.told) >= count else None, what=f"{count} alerts")


@contextlib.contextmanager
def hooking() -> Iterator[Hook]:
    """Run the server for the length of a block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            hook.told.append(Told(self.path, headers, body))
            self.send_response(hook.statuses.pop(0) if hook.statuses else 200)
            for name, text in {"Content-Length": "0", **hook.headers}.items():
                self.send_header(name, text)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook = Hook(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
