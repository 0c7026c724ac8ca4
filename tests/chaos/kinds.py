"""The catalogue of faults: what each does to a world, and in which phases and flavours of it.

A fault may return what undoes it. It must not fail where what it is aimed at is not there at the moment, which happens
in life too; where a machine has no such thing at all, it raises MissingError.
The faults themselves are in the modules `faults_*`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from tests.chaos.world import World

    Undo = Callable[[], object]
    Act = Callable[[World, random.Random], Undo | None]

# The moments of a life: see rounds.py for how each is reached.
PHASES = ("start", "running", "backoff", "cleaning", "restore", "again", "hand-over", "stop")
# Kinds of world, and how often each is chosen where nothing else decides: see world.py.
FLAVOURS = {
    "plain": 8,
    "process-1": 5,
    "drop": 2,
    "clock": 1,
    "sidecar": 2,
    "tailnet": 2,
    "backup": 1,
    "bucket": 1,
    "deploy": 1,
}
# Those of the image, which take an engine: see boxed.py.
IMAGES = {"image-limits": 1, "image-read-only": 1, "image-user": 1, "image-gvisor": 1}
WEIGHTS = FLAVOURS | IMAGES
# Those with a repository, and of these the ones with a bucket and with a tailnet.
KEEPING = ("backup", "bucket", "deploy")
IN_BUCKETS = ("bucket", "deploy")
IN_TAILNETS = ("tailnet", "deploy", *IMAGES)


class MissingError(Exception):
    """A world has not got what a fault is about, as a disk of its own; it does not count as one that happened."""


class Kind(NamedTuple):
    """One entry of the catalogue.

    ``cannot`` says why it cannot meet a phase, ``lacks`` why a flavour of its has no such thing, ``ends`` that it may
    end it all.
    """

    act: Act
    cannot: Mapping[str, str]
    lacks: Mapping[str, str]
    flavours: tuple[str, ...]
    ends: bool


KINDS: dict[str, Kind] = {}


def fault(
    name: str,
    flavours: tuple[str, ...] = tuple(WEIGHTS),
    *,
    cannot: Mapping[str, str] | None = None,
    lacks: Mapping[str, str] | None = None,
    ends: bool = False,
) -> Callable[[Act], Act]:
    """Put a fault into the catalogue under a name."""

    def add(act: Act) -> Act:
        KINDS[name] = Kind(act, cannot or {}, lacks or {}, flavours, ends)
        return act

    return add


def phases_of(flavour: str) -> tuple[str, ...]:
    """Return the phases of such a life; all but the first and the last come in any order.

    What only few kinds of lives have comes twice in them.
    """
    more: tuple[str, ...] = ("restore", "hand-over", "restore", "hand-over") if flavour in KEEPING else ()
    more = ("again",) if flavour in IMAGES else more
    return ("start", "running", "backoff", "cleaning", *more, "stop")


@cache
def kinds_for(flavour: str, phase: str) -> tuple[str, ...]:
    """Return the faults that such a world may meet in a phase; to be asked once all of them are loaded."""
    if phase not in phases_of(flavour):
        return ()
    return tuple(name for name, kind in KINDS.items() if phase not in kind.cannot and flavour in has(kind))


def has(kind: Kind) -> tuple[str, ...]:
    """Return the flavours in which there is such a thing."""
    return tuple(flavour for flavour in kind.flavours if flavour not in kind.lacks)


def pairs(flavours: Iterable[str] = FLAVOURS) -> set[tuple[str, str]]:
    """Return every kind with every phase that it can meet in these flavours."""
    return {(kind, phase) for flavour in flavours for phase in PHASES for kind in kinds_for(flavour, phase)}
