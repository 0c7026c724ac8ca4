"""The catalogue of faults: what each does to a world, and in which phases and flavours of it.

A fault may return what undoes it. It must not fail where what it is aimed at is not there: that is a moment of life
too. The faults themselves are in the modules `faults_*`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chaos.world import World

    Undo = Callable[[], object]
    Act = Callable[[World, random.Random], Undo | None]

# The moments of a life: see rounds.py for how each is reached.
PHASES = ("start", "running", "backoff", "cleaning", "restore", "hand-over", "stop")
# Those in which the supervisor is not about to end.
BEFORE_STOP = ("start", "running", "backoff", "cleaning", "restore", "hand-over")
# Kinds of world, and how often each is chosen: see world.py.
FLAVOURS = {"plain": 8, "process-1": 5, "drop": 2, "clock": 1, "sidecar": 2, "tailnet": 2, "backup": 1}


class Kind(NamedTuple):
    """One entry of the catalogue."""

    act: Act
    phases: tuple[str, ...]
    flavours: tuple[str, ...]


KINDS: dict[str, Kind] = {}


def fault(
    name: str, phases: tuple[str, ...] = PHASES, flavours: tuple[str, ...] = tuple(FLAVOURS)
) -> Callable[[Act], Act]:
    """Put a fault into the catalogue under a name."""

    def add(act: Act) -> Act:
        KINDS[name] = Kind(act, phases, flavours)
        return act

    return add


def phases_of(flavour: str) -> tuple[str, ...]:
    """Return the phases of such a life; all but the first and the last come in any order."""
    if flavour == "backup":
        return ("start", "running", "restore", "hand-over", "stop")
    return ("start", "running", "backoff", "cleaning", "stop")


def kinds_for(flavour: str, phase: str) -> list[str]:
    """Return the faults that such a world may meet in a phase."""
    if phase not in phases_of(flavour):
        return []
    return [name for name, kind in KINDS.items() if phase in kind.phases and flavour in kind.flavours]
