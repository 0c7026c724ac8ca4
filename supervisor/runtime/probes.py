"""Probes processes for readiness, and orders a restart of a hung one."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from supervisor.core.health import DEADLINE_S, Probing, interval_s, take_probe
from supervisor.core.process import Event, EventKind, HttpProbe, State
from supervisor.errors import connection_error, host_port, plain_host
from supervisor.runtime.loop_latency import TimedReader, load_module
from supervisor.runtime.store import Watch
from supervisor.system import listeners
from supervisor.system.procfs import owner_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from supervisor.core.process import ProcessSpec, TcpProbe
    from supervisor.core.snapshot import Snapshot
    from supervisor.runtime.engine import Engine
    from supervisor.system.listeners import Holder

# How long a process may be silent after its start before that is logged, and the interval between checks of its ports.
UNANSWERED_S = 30.0
_MISSES_TO_TELL = 10
_MOST_ADDRESSES = 5
_EVERY_HOST = ("0.0.0.0", "::")  # noqa: S104 - compared with
_NAMED = {"localhost": ("127.0.0.1", "::1")}
_HEAD_BYTES = 4096
_BODY_BYTES = 256 * 1024
# How long the body of a response is read; its head has decided the result.
_BODY_S = 0.5
# How long a refused certificate is judged by the same trusted ones.
_TRUSTED_S = 60.0


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
        # In a thread: reading /proc is slow with many processes, and may hang with one of them.
        where = TimedReader(lambda: _where(spec, self._engine.store.snapshot.managed))
        with closing(Watch(self._engine.store, partial(_began_s, spec.name))) as life:
            while True:
                if life.value is not None:
                    await self._follow_life(life, life.value, _Silence(self._engine, spec, where))
                else:
                    await life.changed()

    async def _follow_life(self, life: Watch[float | None], began_s: float, silence: _Silence) -> None:
        probing, spec = Probing(), silence.spec
        set_up_asked = False
        while life.value == began_s:
            begin_s = time.monotonic()
            miss = await ask(spec.probe)
            if miss is not None and not probing.answered:
                miss = await silence.explain(miss)
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
            if finding.ready and not set_up_asked:
                set_up_asked = True
                await self._look_at_set_up(life, began_s, spec)
            await life.changed(max(0.0, begin_s + interval_s(probing) - now_s))

    async def _look_at_set_up(self, life: Watch[float | None], began_s: float, spec: ProcessSpec) -> None:
        """Restart an app whose set-up is incomplete though it was no longer given what it needs for that."""
        environment = self._engine.children[spec.name].environment
        if spec.set_up is None or not environment.withheld or not await lacks_set_up(spec.set_up.status_url):
            return
        if life.value == began_s:
            why = f"its first start is over, and it has no password: it is restarted with {spec.set_up.variable}"
            self._engine.log.record("warning", "its set-up is not complete", child=spec.name, why=why)
            environment.resume_set_up()
            self._engine.dispatch(spec.name, Event(EventKind.RESTART))


class _Silence:
    """Reports a process that has not answered since its start, and ``where`` it listens instead."""

    def __init__(self, engine: Engine, spec: ProcessSpec, where: TimedReader[str]) -> None:
        self._engine = engine
        self.spec = spec
        self._reader = where
        self._misses = 0
        self._due_s = time.monotonic() + UNANSWERED_S
        self._told = False
        self._where = ""

    async def explain(self, miss: str) -> str:
        """Return why a probe failed, with where the process listens once that was looked up; log it once."""
        self._misses += 1
        # After a freeze the time alone would be over.
        if time.monotonic() >= self._due_s and self._misses >= _MISSES_TO_TELL:
            with suppress(TimeoutError):
                self._where = await self._reader.read()
            self._due_s = time.monotonic() + UNANSWERED_S
            if not self._told:
                self._told = True
                self._log(miss)
        return f"{miss}; {self._where}" if self._where else miss

    def _log(self, miss: str) -> None:
        self._engine.log.record(
            "warning",
            "no answer yet",
            child=self.spec.name,
            why=f"{miss}; {self._where}" if self._where else miss,
            what_to_do="give it time if it starts slowly; else make it listen where it is probed (HOST and PORT tell "
            "the app), or correct the probe (SUPERVISOR_APP_HEALTH_URL; `health` of a further process)",
        )


def _where(spec: ProcessSpec, managed: Mapping[int, str]) -> str:
    """Return where a process listens, as text; empty if the kernel does not report it, or it is where it is probed."""
    every = listeners.listening()
    if not every:
        return ""
    holders = listeners.holders({each.inode for each in every}, {})
    own = {(each.host, each.port) for each in every if _belongs(spec, each.uid, holders.get(each.inode), managed)}
    if not own:
        return "it listens on no port"
    asked_host, asked_port = _asked(spec.probe)
    reached = {*_NAMED.get(plain_host(asked_host), (plain_host(asked_host),)), *_EVERY_HOST}
    if any(port == asked_port and plain_host(host) in reached for host, port in own):
        return ""
    addresses = ", ".join(host_port(*address) for address in sorted(own)[:_MOST_ADDRESSES])
    return f"it listens on {addresses}, and is probed on {host_port(asked_host, asked_port)}"


def _asked(probe: HttpProbe | TcpProbe | None) -> tuple[str, int]:
    if isinstance(probe, HttpProbe):
        parts = urlsplit(probe.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return (probe.host, probe.port) if probe is not None else ("", 0)


def _belongs(spec: ProcessSpec, uid: int, holder: Holder | None, managed: Mapping[int, str]) -> bool:
    if holder is not None:
        return owner_of(holder.pid, managed) == spec.name
    # Root in a container may be unable to see the holder of a socket.
    return spec.user is not None and spec.user.uid == uid and not spec.shares_user


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
        return connection_error(error)
    return None


class _Trust:
    """The certificates that probes by https trust; reading them takes up to a tenth of a second."""

    def __init__(self) -> None:
        self._reader = TimedReader(ssl.create_default_context)
        self._context: ssl.SSLContext | None = None
        self._read_s = 0.0

    async def context(self) -> ssl.SSLContext:
        """Return them, read in a thread and then kept. Raises OSError if their disk does not answer."""
        if self._context is None:
            try:
                self._context = await self._reader.read()
            except TimeoutError:
                raise OSError("the trusted certificates cannot be read: their disk does not answer") from None
            self._read_s = time.monotonic()
        return self._context

    def expire(self) -> None:
        """Read them again at the next probe, once they are a minute old: they may have changed since."""
        if time.monotonic() - self._read_s > _TRUSTED_S:
            self._context = None


_TRUST = _Trust()


async def lacks_set_up(url: str, deadline_s: float = DEADLINE_S) -> bool:
    """Return whether an app says that its set-up is not complete; silence and nonsense do not say so."""
    decode = (await load_module("supervisor.json_input")).decode_object
    parts = urlsplit(url)
    answer = b""
    with suppress(OSError):
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(_request(parts))
                while len(answer) <= _BODY_BYTES and (data := await reader.read(_HEAD_BYTES)):
                    answer += data
            finally:
                writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    found = None if _status(head) or len(answer) > _BODY_BYTES else decode(body)
    return found is not None and found.get("setup_complete") is False


async def _ask_http(url: str, deadline_s: float) -> str | None:
    parts = urlsplit(url)
    host, port = _asked(HttpProbe(url))
    context = await _TRUST.context() if parts.scheme == "https" else None
    writer = None
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=_HEAD_BYTES)
            writer.write(_request(parts))
            status = _status(await reader.readline())
        await _read_rest(reader)
    except ValueError as error:
        # A certificate that is not trusted is both.
        if not isinstance(error, OSError):
            return "the answer is not HTTP"
        _TRUST.expire()
        return connection_error(error)
    else:
        return status
    finally:
        if writer is not None:
            writer.close()


def _request(parts: SplitResult) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = f"Host: {parts.netloc}\r\nUser-Agent: moltis-supervisor\r\nConnection: close\r\n"
    return f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode()


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
