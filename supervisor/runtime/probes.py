"""Probes processes for readiness, and orders a restart of a hung one."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from supervisor.core.health import DEADLINE_S, Probing, interval_s, take_probe
from supervisor.core.process import Event, EventKind, HttpProbe, State
from supervisor.runtime.store import Watch

if TYPE_CHECKING:
    from supervisor.core.process import ProcessSpec, TcpProbe
    from supervisor.core.snapshot import Snapshot
    from supervisor.runtime.engine import Engine

_HEAD_BYTES = 4096
_BODY_BYTES = 256 * 1024
# How long the body of a response is read; its head has decided the result.
_BODY_S = 0.5


class Probes:
    """Probes each process that is alive and has a probe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            for child in self._engine.children.values():
                if child.spec.probe is not None:
                    group.create_task(self._follow(child.spec))

    async def _follow(self, spec: ProcessSpec) -> None:
        """Probe one process, over its restarts."""
        life: Watch[float | None] = Watch(self._engine.store, partial(_began_s, spec.name))
        try:
            while True:
                if life.value is not None:
                    await self._follow_life(spec, life, life.value)
                else:
                    await life.changed()
        finally:
            life.close()

    async def _follow_life(self, spec: ProcessSpec, life: Watch[float | None], began_s: float) -> None:
        probing = Probing()
        while life.value == began_s:
            begin_s = time.monotonic()
            miss = await ask(spec.probe)
            now_s = time.monotonic()
            if life.value != began_s:
                return
            probing, finding = take_probe(probing, miss, begin_s, now_s, spec.hung_after_s)
            if finding.ready is not None:
                self._engine.update_readiness(spec.name, ready=finding.ready, why=finding.why)
            if finding.hung:
                self._engine.log.record("error", "hung", child=spec.name, why=finding.why)
                self._engine.dispatch(spec.name, Event(EventKind.HUNG))
                return
            await life.changed(max(0.0, begin_s + interval_s(probing) - now_s))


def _began_s(name: str, snapshot: Snapshot) -> float | None:
    """Return the start time of a process, which identifies the run; None if it is not running."""
    view = snapshot.process(name)
    return view.started_s if view is not None and view.state is State.RUNNING else None


async def ask(probe: HttpProbe | TcpProbe | None, deadline_s: float = DEADLINE_S) -> str | None:
    """Probe once; return the reason of the failure, or None on success."""
    try:
        if isinstance(probe, HttpProbe):
            return await _ask_http(probe.url, deadline_s)
        if probe is not None:
            async with asyncio.timeout(deadline_s):
                _reader, writer = await asyncio.open_connection(probe.host, probe.port)
            writer.close()
    except TimeoutError:
        return f"no answer within {deadline_s:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


async def _ask_http(url: str, deadline_s: float) -> str | None:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = f"Host: {parts.netloc}\r\nUser-Agent: moltis-supervisor\r\nConnection: close\r\n"
    writer = None
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=secure or None, limit=_HEAD_BYTES)
            writer.write(f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode())
            status = _status(await reader.readline())
        await _read_rest(reader)
    except ValueError:
        return "the answer is not HTTP"
    else:
        return status
    finally:
        if writer is not None:
            writer.close()


async def _read_rest(reader: asyncio.StreamReader) -> None:
    """Read the rest of the response, so that the app sees no reset connection; errors are ignored."""
    left = _BODY_BYTES
    with suppress(OSError):
        async with asyncio.timeout(_BODY_S):
            while left > 0 and (data := await reader.read(_HEAD_BYTES)):
                left -= len(data)


def _status(line: bytes) -> str | None:
    version, _, rest = line.partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/1.") or not code.isdigit():
        return "the answer is not HTTP" if line else "it closed the connection without an answer"
    return None if code.startswith(b"2") else f"it answered {code.decode()}"
