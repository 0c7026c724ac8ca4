"""What a scrape is made from: the one snapshot, and the small counters that live where things happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.counts import Durations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.snapshot import Snapshot


class Usage(NamedTuple):
    """What a process uses; None where the kernel does not say."""

    memory_bytes: int | None
    cpu_s: float | None


class Logged(NamedTuple):
    """What went through the log: lines and bytes by process and level, and what became of some of it."""

    cells: Mapping[tuple[str, str], tuple[int, int]]
    dropped: int = 0
    held_back: int = 0
    masked: int = 0


class Requests(NamedTuple):
    """Requests by endpoint, method and status, their durations by endpoint and method, and what is open now."""

    counts: Mapping[tuple[str, str, str], int]
    durations: Mapping[tuple[str, str], Durations]
    streams: int = 0


class Relayed(NamedTuple):
    """What tailscaled gave for this scrape (None: nothing), and how often it had given nothing before."""

    text: bytes | None = None
    errors: int = 0


class Facts(NamedTuple):
    """Everything at one moment; ``usage`` is by the names of processes, ``lag`` how late the loop was."""

    snapshot: Snapshot
    now_s: float
    version: str
    python: str
    usage: Mapping[str, Usage]
    logged: Logged
    requests: Requests
    relayed: Relayed
    lag: Durations = Durations()
