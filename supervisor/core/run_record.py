"""The record that a run keeps on the disk while it lives, and how the next run interprets it. Pure.

The record tells how to explain the end of a run that was killed; any other end is an incident, which is synced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from supervisor.core.causes import NEAR, megabytes
from supervisor.core.incidents import Epoch  # noqa: TC001 - msgspec reads it

if TYPE_CHECKING:
    from supervisor.core.incidents import Incident

STOPPED, KILLED_RUN, UNFINISHED = "stopped in order", "killed", "never ended"


class RunRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run; times are seconds since the epoch.

    ``alive_s`` is when it last checked, and measured the memory used and the container's limit. ``machine`` identifies
    one boot of a machine. ``alerted_s`` is when it last sent an alert, ``unsent`` how many are unsent.
    """

    run: str
    began_s: Epoch
    alive_s: Epoch
    version: str = ""
    machine: str = ""
    used_bytes: int | None = None
    limit_bytes: int | None = None
    alerted_s: Epoch | None = None
    unsent: int = 0


class Lookout(NamedTuple):
    """What the next run knows in addition to the record.

    ``machine`` is where it runs. ``restored`` is true if the record was restored from a backup, so that it ends at the
    last snapshot. ``released`` is true if the previous run released the repository in order, ``held_until_s`` when it
    last renewed its hold.
    """

    machine: str
    restored: bool = False
    released: bool = False
    held_until_s: float | None = None


class RunEnd(NamedTuple):
    """How a run ended: one of the three values above, when (if killed: when it was last alive), and why."""

    how: str
    at_s: float
    why: str
    cause: str = ""


def end_of(record: RunRecord, own: Incident | None, lookout: Lookout) -> RunEnd:
    """Return how a run ended; ``own`` is the incident of its end, if it wrote one, with a code once all had ended."""
    if own is not None and own.code is not None:
        return RunEnd(STOPPED, max(own.at_s, record.alive_s), own.why)
    if lookout.released or (own is not None and lookout.restored):
        # Its last snapshot was taken before it ended.
        why = own.why if own is not None else "it handed over"
        return RunEnd(STOPPED, lookout.held_until_s or record.alive_s, why)
    if own is not None:
        took_s = max(0.0, record.alive_s - own.at_s)
        why = f"it was stopping ({own.why}), and had not finished after {took_s:.0f} s"
        cause = "killed before it was done: raise the platform's grace period together with SUPERVISOR_STOP_TIMEOUT"
        return RunEnd(UNFINISHED, max(own.at_s, record.alive_s), why, cause)
    alive_s = max(record.alive_s, lookout.held_until_s or 0.0)
    return RunEnd(KILLED_RUN, alive_s, "it was not told to stop", _cause(record, lookout))


def _cause(record: RunRecord, lookout: Lookout) -> str:
    if record.limit_bytes and (record.used_bytes or 0) >= NEAR * record.limit_bytes:
        used = f"{megabytes(record.used_bytes or 0)} of {megabytes(record.limit_bytes)}"
        return f"out of memory, most likely: {used} were in use at the last check"
    if lookout.restored:
        return "the container was replaced without being told to stop, or its machine failed"
    if record.machine != lookout.machine:
        return "the machine was rebooted, or this is another one"
    return "something outside of the container sent it KILL, such as the platform, an operator or the kernel"
