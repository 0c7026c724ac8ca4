"""The real HTTP server on a real socket, over a made-up world."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.core.model import State
from supervisor.core.snapshot import ProcessView, Snapshot, TailnetView
from supervisor.logs.hub import LogHub
from supervisor.logs.redact import Redactor
from supervisor.runtime.board import Board
from supervisor.runtime.engine import Engine
from supervisor.system.reaper import Reaper
from supervisor.web.server import Server
from tests.plan.machine import plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READY = ProcessView("moltis", State.RUNNING, critical=True, pid=1, ready=True, ready_since_s=0.0, ever_ready=True)


class Served(NamedTuple):
    """A running server."""

    board: Board
    hub: LogHub
    port: int

    async def ask(self, method: str, path: str, head: str = "", body: bytes = b"") -> Answer:
        """Send one request and return the answer."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{head}\r\n"
        return await self.send(lines.encode() + body)

    async def send(self, data: bytes) -> Answer:
        """Send these bytes and return the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            return Answer.of(await asyncio.wait_for(reader.read(), 15))
        finally:
            writer.close()


class Answer(NamedTuple):
    """An answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> Answer:
        """Take an answer apart."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return cls(int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body)

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


@contextlib.asynccontextmanager
async def serving(*processes: ProcessView, tailnet: TailnetView | None = None, **more: Any) -> AsyncIterator[Served]:
    """Serve for the length of a block."""
    views = processes or (READY,)
    board = Board(Snapshot(processes=views, tailnet=tailnet or TailnetView(), **more))
    hub = LogHub(format="json", color=False, redactor=Redactor([]), history_lines=100, names=[])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    engine = Engine([], board, hub, Reaper(), ())
    task = asyncio.get_running_loop().create_task(Server(plan(), board, hub, engine, [listener]).run())
    served = Served(board, hub, listener.getsockname()[1])
    try:
        await served.ask("GET", "/healthz")
        yield served
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        listener.close()
