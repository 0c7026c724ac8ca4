"""The one picture of the world that every reader gets: immutable, replaced as a whole.

Times are seconds of the monotonic clock; ``Snapshot.wall_offset_s`` added to one gives seconds since the epoch.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.core.model import State


class ExitView(NamedTuple):
    """How one life of a process ended; ``expected`` where it had been asked to."""

    at_s: float
    code: int | None
    signal: int | None
    uptime_s: float
    reason: str
    last_lines: tuple[str, ...] = ()
    expected: bool = False


class ProcessView(NamedTuple):
    """What anyone may know of one process.

    ``ready`` is what its probe says (or, without one, that it is alive); ``ready_why`` says why not.
    ``ever_ready`` is about the current life.
    """

    name: str
    state: State = State.INACTIVE
    since_s: float = 0.0
    critical: bool = False
    pid: int | None = None
    started_s: float | None = None
    ready: bool = False
    ready_why: str = ""
    ready_since_s: float | None = None
    ever_ready: bool = False
    restarts: int = 0
    failures: int = 0
    next_try_s: float | None = None
    exits: tuple[ExitView, ...] = ()
    command: str = ""


class TailnetView(NamedTuple):
    """What is known of the tailnet: ``state`` in tailscaled's or our words, ``why`` and ``what_to_do`` for people."""

    mode: str = "off"
    state: str = "off"
    since_s: float = 0.0
    up: bool = False
    why: str = ""
    what_to_do: str = ""
    away_since_s: float | None = None
    by_owner: bool = False


class HealthView(NamedTuple):
    """The combined verdict in force: ``status`` is pass, warn or fail."""

    status: str = "fail"
    since_s: float = 0.0
    reasons: tuple[str, ...] = ("starting",)


class Snapshot(NamedTuple):
    """The world at one moment."""

    number: int = 0
    wall_offset_s: float = 0.0
    started_s: float = 0.0
    processes: tuple[ProcessView, ...] = ()
    tailnet: TailnetView = TailnetView()
    tailnet_grace_s: float | None = None
    stopping: bool = False
    reaper_alive: bool = True
    health: HealthView = HealthView()
    orphans_reaped: int = 0

    def process(self, name: str) -> ProcessView | None:
        """Return the process of that name."""
        return next((view for view in self.processes if view.name == name), None)
