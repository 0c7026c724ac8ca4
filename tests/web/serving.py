"""The real HTTP server on real sockets, with an artificial snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.core.process import State
from supervisor.core.snapshot import ProcessView, Snapshot, TailnetView
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime.engine import Engine
from supervisor.runtime.store import Channels, SnapshotStore
from supervisor.system.reaper import Reaper
from supervisor.web.server import Server
from tests.config.machine import plan
from tests.support.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from supervisor.core.process import ProcessSpec

READY = ProcessView("moltis", State.RUNNING, critical=True, pid=1, ready=True, ready_since_s=0.0, ever_ready=True)
TOKEN = "an-admin-token-of-good-length"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
JSON = "Content-Type: application/json\r\n"


class Served(NamedTuple):
    """A running server. ``log_path`` is the file that receives the merged log.

    ``app_port`` is the app's own, on which it answers too until ``release`` is called.
    """

    store: SnapshotStore
    log: LogPipeline
    engine: Engine
    channels: Channels
    port: int
    control: str
    log_path: str
    server: Server
    app_port: int
    releasing: list[Callable[[], None]]

    def release(self) -> None:
        """Release the app's port, as when the app is started."""
        for close in self.releasing:
            close()

    async def ask(self, method: str, path: str, head: str = "", body: bytes = b"", host: str = "x") -> Answer:
        """Send one request and return the answer."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{head}\r\n"
        return await self.send(lines.encode(errors="surrogateescape") + body)

    async def send(self, data: bytes) -> Answer:
        """Send these bytes and return the answer."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return Answer.of(await asyncio.wait_for(reader.read(), DEADLINE_S))
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def get(self, path: str, head: str = BEARER) -> Answer:
        """Send a GET request, signed in."""
        return await self.ask("GET", path, head)

    async def post(self, path: str, body: object = None, head: str = BEARER) -> Answer:
        """Send a POST request, signed in."""
        data = b"" if body is None else json.dumps(body).encode()
        return await self.ask("POST", path, (JSON if data else "") + head, data)

    async def over_control(self, method: str, path: str) -> Answer:
        """Send one request over the control socket."""
        reader, writer = await asyncio.open_unix_connection(self.control)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return Answer.of(await asyncio.wait_for(reader.read(), DEADLINE_S))
        finally:
            writer.close()

    def logged(self) -> str:
        """Close the log and return its full text, as the container's reader gets it."""
        self.log.close(15)
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def remembered(self) -> list[str]:
        """Return the messages of the history."""
        return [line.message for line in self.log.history.read(0, 1000).lines]


class Answer(NamedTuple):
    """A parsed response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> Answer:
        """Parse a response."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return cls(int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body)

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """The status and the code of an error, which must have a text."""
        assert self.json["error"]
        return self.status, self.json["code"]


@contextlib.asynccontextmanager
async def serving(
    *processes: ProcessView,
    tailnet: TailnetView | None = None,
    environ: dict[str, str] | None = None,
    specs: Iterable[ProcessSpec] = (),
    history_lines: int = 100,
    **more: Any,
) -> AsyncIterator[Served]:
    """Serve for the duration of a block. With ``specs`` the processes are real, and not started."""
    specs = tuple(specs)
    views = processes or (() if specs else (READY,))
    store = SnapshotStore(Snapshot(processes=views, tailnet=tailnet or TailnetView(), **more))
    with tempfile.TemporaryDirectory(prefix="web-") as folder:
        out_fd = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT)
        log = LogPipeline(
            format="json", color=False, redactor=Redactor([]), history_lines=history_lines, names=[], out_fd=out_fd
        )
        log.start(asyncio.get_running_loop())
        engine, channels = Engine(specs, store, log, Reaper(), ()), Channels()
        listener, held = _listener(), _listener()
        releasing = [held.close]
        control = socket.socket(socket.AF_UNIX)
        control.bind(f"{folder}/control.sock")
        control.listen()
        control.setblocking(False)
        settings = {"SUPERVISOR_TOKEN": TOKEN, **(environ or {})}
        resolved = plan({name: text for name, text in settings.items() if text})
        more = {"held": [held], "when_released": releasing.append}
        server = Server(resolved, store, log, engine, channels, [listener], control, **more)
        task = asyncio.get_running_loop().create_task(server.run())
        port = listener.getsockname()[1]
        paths = f"{folder}/control.sock", f"{folder}/log"
        app_port = held.getsockname()[1]
        served = Served(store, log, engine, channels, port, *paths, server, app_port, releasing)
        try:
            await served.ask("GET", "/healthz")
            yield served
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            _end_children(engine)
            log.close()
            for each in (listener, held, control):
                each.close()
            os.close(out_fd)


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


def _end_children(engine: Engine) -> None:
    for child in engine.children.values():
        if child.view.pid is not None:
            os.killpg(child.view.pid, signal.SIGKILL)
            os.waitpid(child.view.pid, 0)
