"""What a run of chaos does, decided by its seed alone, and written as one line of text that repeats it.

A life of the supervisor is `FLAVOUR PHASE[:FAULT@MS,…];PHASE…`, as in `plain start;running:kill-child@120;stop`: in
each phase its faults happen so many milliseconds after the phase began. What a fault chooses by chance follows from
its own text.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos.catalogue import FLAVOURS, KINDS, WEIGHTS, kinds_for, phases_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_MS = 250
# How often each kind is to meet each phase at least; some that are dealt find the supervisor ended already.
ENOUGH = 10
_SPARE = 2
# How many faults there are in a round, and how often.
_COUNTS = {1: 1, 2: 1, 3: 8}


class Fault(NamedTuple):
    """One fault, and when it comes after the beginning of its phase."""

    kind: str
    at_ms: int

    def __str__(self) -> str:
        return f"{self.kind}@{self.at_ms}"


class Round(NamedTuple):
    """A moment of life, and what goes wrong in it."""

    phase: str
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        return self.phase + (":" + ",".join(map(str, self.faults)) if self.faults else "")


class Life(NamedTuple):
    """A supervisor from its start to its end."""

    flavour: str
    rounds: tuple[Round, ...]

    def __str__(self) -> str:
        return f"{self.flavour} " + ";".join(map(str, self.rounds))


def parse(text: str) -> Life:
    """Return the life that a text stands for."""
    flavour, _, rounds = text.partition(" ")
    return Life(flavour, tuple(_parse_round(part) for part in rounds.split(";")))


def _parse_round(text: str) -> Round:
    phase, _, faults = text.partition(":")
    pairs = [part.split("@") for part in faults.split(",") if part]
    return Round(phase, tuple(Fault(kind, int(at_ms)) for kind, at_ms in pairs))


def life(seed: str, number: int) -> Life:
    """Return the life of this number under a seed."""
    return next(islice(lives(seed), number, None))


def lives(seed: str, flavours: Sequence[str] = tuple(FLAVOURS)) -> Iterator[Life]:
    """Yield the lives of a seed, of these flavours, without end.

    Of all kinds that a phase can meet, those come first that have met it the fewest times, and such lives are chosen
    more often in which much is left to be met.
    """
    chance = random.Random(seed)
    dealt: Counter[tuple[str, str]] = Counter()
    while True:
        weights = [WEIGHTS[flavour] * (1 + _left(flavour, dealt)) for flavour in flavours]
        flavour = chance.choices(flavours, weights)[0]
        first, *middle, last = phases_of(flavour)
        chance.shuffle(middle)
        yield Life(flavour, tuple(_round(flavour, phase, dealt, chance) for phase in (first, *middle, last)))


def storm(seed: str, deploys: int) -> Life:
    """Return a life of so many deploys in a row, each with faults on top."""
    chance = random.Random(f"{seed}:{deploys}")
    dealt: Counter[tuple[str, str]] = Counter()
    phases = ("start", *("hand-over",) * deploys, "stop")
    return Life("deploy", tuple(_round("deploy", phase, dealt, chance) for phase in phases))


def _left(flavour: str, dealt: Counter[tuple[str, str]]) -> int:
    """Return by how much such a life can bring nearer to enough what it meets."""
    left = 0
    for phase in phases_of(flavour):
        lacks = [max(0, ENOUGH + _SPARE - dealt[kind, phase]) for kind in kinds_for(flavour, phase)]
        left += sum(sorted(lacks)[-max(_COUNTS) :])
    return left


def _round(flavour: str, phase: str, dealt: Counter[tuple[str, str]], chance: random.Random) -> Round:
    kinds = [*kinds_for(flavour, phase)]
    chance.shuffle(kinds)
    kinds.sort(key=lambda kind: dealt[kind, phase])
    chosen: list[str] = []
    for kind in kinds[: chance.choices([*_COUNTS], [*_COUNTS.values()])[0]]:
        # After one that may end it all there is nothing left to break.
        if not (KINDS[kind].ends and any(KINDS[other].ends for other in chosen)):
            chosen.append(kind)
    moments = sorted(chance.randrange(MOST_MS) for _ in chosen)
    chosen.sort(key=lambda kind: KINDS[kind].ends)
    dealt.update((kind, phase) for kind in chosen)
    return Round(phase, tuple(map(Fault, chosen, moments)))
