"""What handlers work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.logs.format import stamp

if TYPE_CHECKING:
    from supervisor.config.plan import Plan
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import Channels, SnapshotStore
    from supervisor.web.keyring import Keyring
    from supervisor.web.metrics import Meters
    from supervisor.web.printer import Printer
    from supervisor.web.streams import Streams
    from supervisor.web.throttle import Throttle


class Context(NamedTuple):
    """The parts of the program that a request may look at, or give an order to."""

    plan: Plan
    store: SnapshotStore
    log: LogPipeline
    engine: Engine
    channels: Channels
    keyring: Keyring
    printer: Printer
    throttle: Throttle
    streams: Streams
    meters: Meters

    def moment(self, at_s: float) -> str:
        """Return a moment of the monotonic clock as RFC 3339."""
        return stamp(at_s + self.store.snapshot.wall_offset_s)
