"""The services that request handlers use, and the state that requests share."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from supervisor.core.counts import METHODS, OTHER, Durations
from supervisor.logs.format import stamp
from supervisor.runtime.loop_latency import LoopLatency
from supervisor.web.error_codes import Code, RefusedError

if TYPE_CHECKING:
    from supervisor.config.plan import Plan
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import Channels, SnapshotStore
    from supervisor.web.sessions import Keyring, SignInCodes
    from supervisor.web.throttle import Throttle

MOST_STREAMS = 32
_GOODBYE_S = 0.2


class OpenStream(Protocol):
    """An open event stream that can be closed."""

    def close(self) -> None:
        """Send what is new, then end."""

    def recheck_session(self) -> None:
        """End at once if the session has ended."""


class OpenStreams:
    """The open event streams. ``boot`` identifies this run of the supervisor."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.closing = False
        self._open: set[OpenStream] = set()
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """The number of open streams."""
        return len(self._open)

    def enter(self, stream: OpenStream) -> None:
        """Add a stream. Raises RefusedError if there are too many, or the supervisor is stopping."""
        if self.closing:
            raise RefusedError(Code.STOPPING)
        if len(self._open) >= MOST_STREAMS:
            raise RefusedError(Code.TOO_MANY_STREAMS)
        self._open.add(stream)

    def leave(self, stream: OpenStream) -> None:
        """Remove a stream."""
        self._open.discard(stream)
        self._changed.set()

    def recheck_session(self) -> None:
        """End each stream whose session has ended."""
        for stream in self._open:
            stream.recheck_session()

    async def close(self) -> None:
        """Close all streams, and wait up to 0.2 s for them to end."""
        self.closing = True
        for stream in self._open:
            stream.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                while self._open:
                    self._changed.clear()
                    await self._changed.wait()


class RequestMetrics:
    """Counters for the metrics: requests by endpoint, method and status, and the time until a response began.

    The endpoint is the route rather than the path, so that clients cannot create new series.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}
        self.durations: dict[tuple[str, str], Durations] = {}
        self.lag = LoopLatency()
        self.relay_errors = 0

    def answered(self, endpoint: str, method: str, status: int, begun_s: float) -> None:
        """Count a request that began at ``begun_s``; call it when the response begins."""
        method = method if method in METHODS else OTHER
        key = (endpoint, method, str(status))
        self.requests[key] = self.requests.get(key, 0) + 1
        before = self.durations.get((endpoint, method), Durations())
        self.durations[endpoint, method] = before.plus(time.monotonic() - begun_s)


class Context(NamedTuple):
    """The services available to request handlers."""

    plan: Plan
    store: SnapshotStore
    log: LogPipeline
    engine: Engine
    channels: Channels
    keyring: Keyring
    sign_in_codes: SignInCodes
    throttle: Throttle
    streams: OpenStreams
    metrics: RequestMetrics

    def moment(self, at_s: float) -> str:
        """Return a time of the monotonic clock as RFC 3339."""
        return stamp(at_s + self.store.snapshot.wall_offset_s)
