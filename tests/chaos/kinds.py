"""The catalogue of faults: the action of each, and the phases and flavours in which it can occur.

A fault may return a function that undoes it. It must not fail if its target does not exist at the moment, which
happens in practice too; if the machine lacks something entirely, it raises MissingError.
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

# The phases of a life; rounds.py shows how each is reached.
PHASES = ("start", "running", "backoff", "cleaning", "restore", "again", "hand-over", "stop")
# Kinds of world (see world.py), and the weight with which each is chosen.
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
# Those of the image, which need an engine: see boxed.py.
IMAGES = {"image-limits": 1, "image-read-only": 1, "image-user": 1, "image-gvisor": 1}
WEIGHTS = FLAVOURS | IMAGES
# Those with a log that drops lines.
DROPPING = ("drop", "image-user")
# Those with a repository, those with a bucket, and those with a tailnet.
KEEPING = ("backup", "bucket", "deploy")
IN_BUCKETS = ("bucket", "deploy")
IN_TAILNETS = ("tailnet", "deploy", *IMAGES)


class MissingError(Exception):
    """The world lacks what a fault needs, such as a disk of its own; the fault does not count."""


class Kind(NamedTuple):
    """One entry of the catalogue.

    ``cannot`` says why it cannot occur in a phase, ``lacks`` why a flavour does not have it, ``ends`` that it may
    end the supervisor, ``unsaves`` that it may prevent the last snapshot of the container that it affects, or
    hide its record.
    """

    act: Act
    cannot: Mapping[str, str]
    lacks: Mapping[str, str]
    flavours: tuple[str, ...]
    ends: bool
    unsaves: bool


KINDS: dict[str, Kind] = {}


def fault(
    name: str,
    flavours: tuple[str, ...] = tuple(WEIGHTS),
    *,
    cannot: Mapping[str, str] | None = None,
    lacks: Mapping[str, str] | None = None,
    ends: bool = False,
    unsaves: bool = False,
) -> Callable[[Act], Act]:
    """Add a fault to the catalogue under a name."""

    def add(act: Act) -> Act:
        KINDS[name] = Kind(act, cannot or {}, lacks or {}, flavours, ends, unsaves)
        return act

    return add


def phases_of(flavour: str) -> tuple[str, ...]:
    """Return the phases of such a life; those between the first and the last come in random order.

    Phases that only few kinds of lives have come twice.
    """
    more: tuple[str, ...] = ("restore", "hand-over", "restore", "hand-over") if flavour in KEEPING else ()
    more = ("again",) if flavour in IMAGES else more
    return ("start", "running", "backoff", "cleaning", *more, "stop")


@cache
def kinds_for(flavour: str, phase: str) -> tuple[str, ...]:
    """Return the faults that can occur in a phase of such a world; call it once all of them are loaded."""
    if phase not in phases_of(flavour):
        return ()
    return tuple(name for name, kind in KINDS.items() if phase not in kind.cannot and flavour in has(kind))


def has(kind: Kind) -> tuple[str, ...]:
    """Return the flavours in which it can occur."""
    return tuple(flavour for flavour in kind.flavours if flavour not in kind.lacks)


def pairs(flavours: Iterable[str] = FLAVOURS) -> set[tuple[str, str]]:
    """Return every pair of a kind and a phase in which it can occur in these flavours."""
    return {(kind, phase) for flavour in flavours for phase in PHASES for kind in kinds_for(flavour, phase)}
