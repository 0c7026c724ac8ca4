"""A plan is determined by its seed, and by its text."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from tests.chaos import plan
from tests.chaos.catalogue import IMAGES, KINDS, pairs


def test_a_life_is_told_by_its_seed_and_by_its_text() -> None:
    """A failed life can be replayed from either."""
    lives, others = [list(islice(plan.lives(seed), 50)) for seed in ("a seed", "another seed")]
    assert plan.life("a seed", 20) == lives[20]
    for life, other in zip(lives, others, strict=True):
        assert plan.parse(str(life)) == life != other


def test_a_storm_is_one_life_of_deploys() -> None:
    """It is determined by its seed too, and has faults in each deploy."""
    storm = plan.storm("a seed", 5)
    assert storm == plan.storm("a seed", 5) != plan.storm("another seed", 5)
    assert [one.phase for one in storm.rounds] == ["start", *["hand-over"] * 5, "stop"]
    assert all(one.faults for one in storm.rounds)
    assert plan.parse(str(storm)) == storm


def test_every_fault_meets_every_phase_that_it_can() -> None:
    """Often enough within 2,500 rounds, as the rarest faults come first."""
    met: Counter[tuple[str, str]] = Counter()
    rounds = 0
    for life in plan.lives("seed"):
        rounds += len(life.rounds)
        for one in life.rounds:
            assert len({fault.kind for fault in one.faults}) == len(one.faults)
            met.update((fault.kind, one.phase) for fault in one.faults)
        if rounds > 2500:
            break
    assert {*met} == pairs()
    assert min(met.values()) >= plan.ENOUGH
    assert {name for name, _ in met} == {name for name, kind in KINDS.items() if not IMAGES.keys() >= {*kind.flavours}}
