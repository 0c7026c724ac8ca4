"""A plan is decided by its seed, and its text stands for it."""

from __future__ import annotations

import pytest

from tests.chaos import plan
from tests.chaos.catalogue import FLAVOURS, KINDS, PHASES, kinds_for


@pytest.mark.parametrize("number", range(50))
def test_a_life_is_told_by_its_seed_and_by_its_text(number: int) -> None:
    """What failed can be played again, from either."""
    life = plan.life("a seed", number)
    assert life == plan.life("a seed", number)
    assert plan.parse(str(life)) == life
    assert life != plan.life("another seed", number)


def test_every_fault_meets_every_phase_that_it_names() -> None:
    """A few hundred lives deal all of them, or a kind would never be tried at some moment."""
    met = set()
    for number in range(3000):
        for one in plan.life("seed", number).rounds:
            met |= {(fault.kind, one.phase) for fault in one.faults}
    assert {(name, phase) for flavour in FLAVOURS for phase in PHASES for name in kinds_for(flavour, phase)} == met
    assert {name for name, _ in met} == {*KINDS}
