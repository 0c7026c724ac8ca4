"""Rate limits for wrong credentials, by source and in total. Valid ones are never limited, so nobody is locked out."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.logs.pipeline import LogPipeline

SAY_EVERY_S = 60.0


class RepeatLimiter:
    """Logs a repeated event at once, then once a minute; ``tell`` gets the count since its last call."""

    def __init__(self, tell: Callable[[int], object]) -> None:
        self._log_count = tell
        self._untold = 0
        self._pause: asyncio.TimerHandle | None = None

    def add(self) -> None:
        """Count an event."""
        self._untold += 1
        if self._pause is None:
            self._say()

    def close(self) -> None:
        """Report the rest now: no timer will fire any more."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        count, self._untold = self._untold, 0
        if count:
            self._log_count(count)

    def _say(self) -> None:
        """Report the count, then stay silent for a minute; a timer reports the rest."""
        self._pause = None
        if self._untold:
            count, self._untold = self._untold, 0
            self._pause = asyncio.get_running_loop().call_later(SAY_EVERY_S, self._say)
            self._log_count(count)


_MOST_SOURCES = 1000
_IPV6_PREFIX = 64
# The delay beyond the allowance, short enough for a probe with an outdated token, which has one second.
SLOW_S = 0.5


class Allowance(NamedTuple):
    """An allowance of ``burst`` events at once, refilled by one each ``every_s`` seconds."""

    burst: int
    every_s: float


PER_SOURCE = Allowance(10, 30.0)
# All clients may share one address: behind a platform's edge, or through the tailnet.
IN_TOTAL = Allowance(60, 1.0)


class _Bucket:
    """The remaining part of an allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._left = float(allowance.burst)
        self._at_s = time.monotonic()

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until an event is allowed."""
        # A new bucket may be younger than the requested time.
        grown = max(0.0, now_s - self._at_s) / self._allowance.every_s
        self._left = min(float(self._allowance.burst), self._left + grown)
        self._at_s = now_s
        return max(0.0, (1.0 - self._left) * self._allowance.every_s)

    def take(self) -> None:
        """Use one event."""
        self._left -= 1.0


class Throttle:
    """Decides whether clients with wrong credentials have to wait, and logs that there are such clients."""

    def __init__(self, log: LogPipeline) -> None:
        self._log = log
        self._total = _Bucket(IN_TOTAL)
        self._sources: dict[str, _Bucket] = {}
        self._address = ""
        self._repeated = RepeatLimiter(self._log_count)

    async def failed(self, address: str) -> float:
        """Count a wrong credential, and delay the response after too many.

        Returns the seconds to wait, 0 if the limit is not reached.
        """
        wait_s = self.count(address)
        if wait_s:
            # Only this connection waits; it counts as anonymous, so it can be closed to make room.
            await asyncio.sleep(SLOW_S)
        return wait_s

    def count(self, address: str) -> float:
        """Count a wrong credential; return the seconds to wait, 0 if the limit is not reached."""
        now_s = time.monotonic()
        self._address = address
        self._repeated.add()
        source = source_of(address)
        bucket = self._sources.pop(source, None) or _Bucket(PER_SOURCE)
        self._sources[source] = bucket
        if len(self._sources) > _MOST_SOURCES:
            del self._sources[next(iter(self._sources))]
        wait_s = max(bucket.wait_s(now_s), self._total.wait_s(now_s))
        if not wait_s:
            bucket.take()
            self._total.take()
        return wait_s

    def close(self) -> None:
        """Log what was counted since the last record."""
        self._repeated.close()

    def _log_count(self, count: int) -> None:
        self._log.record("warning", "wrong credentials", source=self._address, count=count)


def source_of(address: str) -> str:
    """Return the client that an address stands for: an IPv6 client has a whole network of addresses."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(ip_network((found, _IPV6_PREFIX), strict=False))
        found = found.ipv4_mapped
    return str(found)
