"""The plan of a chaos run, determined by its seed, and a one-line form of each life that repeats it.

A life of the supervisor is `FLAVOUR PHASE[:FAULT@MS,…];PHASE…`, as in `plain start;running:kill-child@120;stop`: in
each phase its faults occur that many milliseconds after its beginning. The random choices of a fault are seeded by
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
# How often each kind has to meet each phase; some of those planned find that the supervisor has ended already.
ENOUGH = 10
_SPARE = 2
# The numbers of faults in a round, with their weights.
_COUNTS = {1: 1, 2: 1, 3: 8}


class Fault(NamedTuple):
    """One fault, and its time after the beginning of its phase."""

    kind: str
    at_ms: int

    def __str__(self) -> str:
        return f"{self.kind}@{self.at_ms}"


class Round(NamedTuple):
    """A phase of a life with its faults."""

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
    """Parse the text of a life."""
    flavour, _, rounds = text.partition(" ")
    return Life(flavour, tuple(_parse_round(part) for part in rounds.split(";")))


def _parse_round(text: str) -> Round:
    phase, _, faults = text.partition(":")
    pairs = [part.split("@") for part in faults.split(",") if part]
    return Round(phase, tuple(Fault(kind, int(at_ms)) for kind, at_ms in pairs))


def life(seed: str, number: int) -> Life:
    """Return the life with this number of a seed."""
    return next(islice(lives(seed), number, None))


def lives(seed: str, flavours: Sequence[str] = tuple(FLAVOURS)) -> Iterator[Life]:
    """Yield the lives of a seed, of these flavours, endlessly.

    The kinds that have met a phase the fewest times come first, and lives in which much is still missing are chosen
    more often.
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
    """Return a life with this many deploys in a row, each with faults."""
    chance = random.Random(f"{seed}:{deploys}")
    dealt: Counter[tuple[str, str]] = Counter()
    phases = ("start", *("hand-over",) * deploys, "stop")
    return Life("deploy", tuple(_round("deploy", phase, dealt, chance) for phase in phases))


def _left(flavour: str, dealt: Counter[tuple[str, str]]) -> int:
    """Return how much such a life can contribute to the pairs that are still missing."""
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
        # Another fault after one that may end the supervisor has no effect.
        if not (KINDS[kind].ends and any(KINDS[other].ends for other in chosen)):
            chosen.append(kind)
    moments = sorted(chance.randrange(MOST_MS) for _ in chosen)
    chosen.sort(key=lambda kind: KINDS[kind].ends)
    dealt.update((kind, phase) for kind in chosen)
    return Round(phase, tuple(map(Fault, chosen, moments)))
