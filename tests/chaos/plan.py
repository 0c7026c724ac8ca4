"""What a run of chaos does, decided by its seed alone, and written as one line of text that repeats it.

A life of the supervisor is `FLAVOUR PHASE[:FAULT@MS,…];PHASE…`, as in `plain start;running:kill-app@120;stop`: in each
phase its faults happen so many milliseconds after the phase began. What a fault chooses by chance follows from its
own text.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.chaos.catalogue import FLAVOURS, kinds_for, phases_of

MOST_MS = 250
_MOST_FAULTS = 3


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
    """Return the life of this number under a seed.

    Kinds are dealt like cards for each phase, so that all of them come equally often.
    """
    chance = random.Random(f"{seed}:{number}")
    flavour = chance.choices([*FLAVOURS], [*FLAVOURS.values()])[0]
    first, *middle, last = phases_of(flavour)
    chance.shuffle(middle)
    rounds = []
    for phase in (first, *middle, last):
        count = chance.randint(1, _MOST_FAULTS)
        dealt = [_card(seed, flavour, phase, number * _MOST_FAULTS + each) for each in range(count)]
        faults = sorted((Fault(kind, chance.randrange(MOST_MS)) for kind in dict.fromkeys(dealt)), key=_moment)
        rounds.append(Round(phase, tuple(faults)))
    return Life(flavour, tuple(rounds))


def _moment(fault: Fault) -> int:
    return fault.at_ms


def _card(seed: str, flavour: str, phase: str, number: int) -> str:
    kinds = kinds_for(flavour, phase)
    turn, place = divmod(number, len(kinds))
    return random.Random(f"{seed}:{flavour}:{phase}:{turn}").sample(kinds, len(kinds))[place]
