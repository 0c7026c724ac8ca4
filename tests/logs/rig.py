"""A log on a running loop that writes to a file, and pipes to feed it."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEADLINE_S = 15.0


async def until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Let the loop run until the condition is true."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        await asyncio.sleep(0.002)


class Rig:
    """Created inside a running loop. ``end`` closes the log and returns what it wrote."""

    def __init__(self, *, secrets: Iterable[str] = (), out_fd: int | None = None, **options: Any) -> None:
        self._file = tempfile.TemporaryFile() if out_fd is None else None  # noqa: SIM115 - closed by ``end``
        if self._file is not None:
            out_fd = self._file.fileno()
        assert out_fd is not None
        choices: dict[str, Any] = {"format": "pretty", "color": False, "history_lines": 2000} | options
        self.redactor = Redactor(secrets)
        self.log = LogPipeline(
            redactor=self.redactor,
            names=["supervisor", "moltis"],
            out_fd=out_fd,
            **choices,
        )
        self.log.start(asyncio.get_running_loop())

    def pipe(self, process: str = "moltis", stream: str = "stdout") -> int:
        """Attach a new pipe and return its write end."""
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        self.log.attach(process, stream, read_fd)
        return write_fd

    async def closed(self, process: str = "moltis") -> None:
        """Wait until all streams of a process are closed, as long as lines keep arriving."""
        seen, deadline_s = -1, 0.0
        while not all(pipe.closed for pipe in self.log._pipes[process]):
            if seen != self.log.history.next:
                seen, deadline_s = self.log.history.next, time.monotonic() + DEADLINE_S
            assert time.monotonic() < deadline_s, "waited in vain"
            await asyncio.sleep(0.002)

    async def say(self, data: bytes, process: str = "moltis", stream: str = "stdout") -> None:
        """Write data to a new pipe as a process would, and close it."""
        fd = self.pipe(process, stream)
        while data:
            os.set_blocking(fd, False)
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)
        os.close(fd)
        await self.closed(process)

    def end(self) -> bytes:
        """Close the log and return all it wrote to its file."""
        self.log.close(DEADLINE_S)
        if self._file is None:
            return b""
        self._file.seek(0)
        with self._file:
            return self._file.read()

    def end_json(self) -> list[dict[str, Any]]:
        """Close the log and return its JSON lines, decoded; each must be valid."""
        return [json.loads(line) for line in self.end().decode().splitlines()]


async def said(data: bytes, process: str = "moltis", **options: Any) -> bytes:
    """Return the log's output for one process' output."""
    rig = Rig(**options)
    await rig.say(data, process)
    return rig.end()


async def said_json(data: bytes, process: str = "moltis", **options: Any) -> list[dict[str, Any]]:
    """Return the same as decoded JSON lines."""
    rig = Rig(format="json", **options)
    await rig.say(data, process)
    return rig.end_json()
