"""Minimizes a failing life, as long as it fails in the same way."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos.rounds import Violation, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.plan import Life

MOST_S = 120.0


def shrink(life: Life, violation: Violation) -> Life:
    """Return the smallest life found within two minutes that fails at the same check; the given one if none does."""
    end_s = time.monotonic() + MOST_S
    kind = _kind(violation)
    again = True
    while again:
        again = False
        for smaller in _smaller(life):
            if time.monotonic() > end_s:
                return life
            if _fails(smaller) == kind:
                life, again = smaller, True
                break
    return life


def _kind(violation: Violation) -> str:
    return str(violation).partition(":")[0]


def _fails(life: Life) -> str:
    try:
        play(life, Counter())
    except Violation as violation:
        return _kind(violation)
    return ""


def _smaller(life: Life) -> Iterator[Life]:
    """Yield lives with one round or one fault fewer."""
    for place in range(1, len(life.rounds) - 1):
        yield life._replace(rounds=(*life.rounds[:place], *life.rounds[place + 1 :]))
    for place, one in enumerate(life.rounds):
        for number in range(len(one.faults)):
            fewer = one._replace(faults=(*one.faults[:number], *one.faults[number + 1 :]))
            yield life._replace(rounds=(*life.rounds[:place], fewer, *life.rounds[place + 1 :]))
