"""A real HTTP server on a real control socket with responses set by the test, such as no healthy supervisor sends."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


class Asked(NamedTuple):
    """A request that was received."""

    method: str
    path: str
    body: Any = None
    last_event_id: str | None = None


class Raw(NamedTuple):
    """A response that is not JSON: its bytes are sent unchanged, then the connection is closed."""

    data: bytes


Answer = tuple[int, dict[str, Any]] | Raw
Given = Answer | Callable[[Asked], Answer]

RUNNING = {"name": "moltis", "state": "running", "ready": True, "pid": 41, "uptime_s": 75.2, "restarts": 2}
TAILSCALED = {"name": "tailscaled", "state": "running", "ready": True, "pid": 40, "memory_bytes": 33_000_000}
CONNECTED = {
    "state": "connected",
    "tailscale_up": True,
    "hostname": "moltis.tail0.ts.net",
    "tailscale_ip": "100.64.0.7",
    "choice": "connected",
    "since": "2026-01-01T00:00:00Z",
}
NEEDS_LOGIN = {"state": "needs login", "tailscale_up": False, "since": "2026-01-01T00:00:00Z", "choice": "connected"}


class Supervisor:
    """The server at the control socket; ``given`` maps "GET /path" to responses, ``asked`` lists requests received."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[Asked] = []
        self.given: dict[str, Given] = {
            "GET /health": (200, {"status": "pass", "checks": {}}),
            "GET /api/processes": (200, {"processes": [TAILSCALED, RUNNING]}),
            "GET /api/tailscale/status": (200, CONNECTED),
        }

    def answer(self, asked: Asked) -> Answer:
        """Record a request and return its response."""
        self.asked.append(asked)
        given = self.given.get(f"{asked.method} {asked.path.partition('?')[0]}")
        if given is None:
            return 404, {"code": "NOT_FOUND", "error": "there is nothing at this path"}
        return given if isinstance(given, tuple) else given(asked)

    def bodies(self, path: str) -> list[Any]:
        """Return the bodies that were posted to a path."""
        return [asked.body for asked in self.asked if asked.method == "POST" and asked.path == path]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    supervisor: Supervisor

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not log clients that disconnected."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send the response."""
        self._answer()

    def do_POST(self) -> None:
        """Send the response."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
        """Log nothing."""

    def address_string(self) -> str:
        """Return a name for a client, which has no address."""
        return "unix"

    def _asked(self) -> Asked:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return Asked(self.command, self.path, json.loads(body) if body else None, self.headers.get("Last-Event-ID"))

    def _answer(self) -> None:
        supervisor = cast("_Server", self.server).supervisor
        answer = supervisor.answer(self._asked())
        self.close_connection = True
        if isinstance(answer, Raw):
            self.wfile.write(answer.data)
            return
        status, document = answer
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def stream(*events: str) -> Raw:
    """Return an event stream that ends after these events."""
    return Raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + "".join(events).encode())


def log_event(place: str, *numbers: int, lost: int = 0) -> str:
    """Return the event with these numbered lines."""
    data = {"lines": [log_line(number) for number in numbers], "lost": lost}
    return f"event: log\nid: {place}\ndata: {json.dumps(data)}\n\n"


def log_line(number: int, message: str = "", process: str = "moltis", level: str = "info") -> dict[str, Any]:
    """Return a line of the log in the API's form."""
    at = "2026-11-24T06:13:46.154Z"
    return {"id": number, "at": at, "process": process, "level": level, "message": message or f"line {number}"}


@contextlib.contextmanager
def answering() -> Iterator[Supervisor]:
    """Run the server for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="control-") as folder:
        supervisor = Supervisor(Path(folder))
        server = _Server(str(supervisor.folder / "control.sock"), _Handler)
        server.supervisor = supervisor
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield supervisor
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
