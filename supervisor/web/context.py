"""What handlers work with: the parts of the program that they read or give orders to, and what requests share."""

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
    """An event stream, as those who end it know it."""

    def close(self) -> None:
        """Send what is new and end."""

    def recheck_session(self) -> None:
        """End at once where the session has ended."""


class OpenStreams:
    """The event streams that are open. ``boot`` tells this run of the supervisor from others."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.closing = False
        self._open: set[OpenStream] = set()
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def enter(self, stream: OpenStream) -> None:
        """Take one in. Raises RefusedError where there are too many."""
        if self.closing:
            raise RefusedError(Code.STOPPING)
        if len(self._open) >= MOST_STREAMS:
            raise RefusedError(Code.TOO_MANY_STREAMS)
        self._open.add(stream)

    def leave(self, stream: OpenStream) -> None:
        """Forget one."""
        self._open.discard(stream)
        self._changed.set()

    def recheck_session(self) -> None:
        """Have each see at once whether its session is still there."""
        for stream in self._open:
            stream.recheck_session()

    async def close(self) -> None:
        """Have all of them end, and give them a moment for it."""
        self.closing = True
        for stream in self._open:
            stream.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                while self._open:
                    self._changed.clear()
                    await self._changed.wait()


class RequestMetrics:
    """What is counted for metrics: requests by endpoint, method and status, and how long until an answer began.

    By route, not by path, so that no client can make up new counters.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}
        self.durations: dict[tuple[str, str], Durations] = {}
        self.lag = LoopLatency()
        self.relay_errors = 0

    def answered(self, endpoint: str, method: str, status: int, begun_s: float) -> None:
        """Count a request that began then: its answer is about to begin."""
        method = method if method in METHODS else OTHER
        key = (endpoint, method, str(status))
        self.requests[key] = self.requests.get(key, 0) + 1
        before = self.durations.get((endpoint, method), Durations())
        self.durations[endpoint, method] = before.plus(time.monotonic() - begun_s)


class Context(NamedTuple):
    """The parts of the program that a request may recheck_session at, or give an order to."""

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
        """Return a moment of the monotonic clock as RFC 3339."""
        return stamp(at_s + self.store.snapshot.wall_offset_s)
