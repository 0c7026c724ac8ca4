"""Tests of lives that are played at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import crew, plan, world
from tests.chaos.crew import Crew, may_be_alone
from tests.chaos.planted import DEFECTS, plant
from tests.chaos.rounds import Violation

if TYPE_CHECKING:
    from pathlib import Path

LIFE = plan.parse("plain start:kill-child@10;stop")

LATE = "health: health took 0.3 s"
OTHER = "lines: moltis.1: 3 of 900"

needs_namespaces = pytest.mark.skipif(not may_be_alone(), reason="takes root and iproute2 for namespaces")


@needs_namespaces
def test_lives_at_the_same_time_do_not_meet() -> None:
    """Each has a network of its own, as their processes listen on the same addresses."""
    with Crew(2, shrinks=False) as players:
        outcomes = [outcome for _, outcome in players.play([LIFE] * 3)]
    assert [(outcome.violation, outcome.met) for outcome in outcomes] == [("", {("kill-child", "start"): 1})] * 3


@needs_namespaces
def test_a_violation_is_told_with_the_smallest_life_that_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members of the crew play another copy of the package, and reduce the life."""
    plant(DEFECTS["a setting handed to every process"], tmp_path)
    monkeypatch.setattr(world, "package", str(tmp_path))
    with Crew(1, shrinks=True) as players:
        ((life, outcome),) = players.play([LIFE])
    assert life == LIFE
    assert outcome.violation.startswith("secrets: ")
    assert outcome.smallest == "plain start;stop"


@pytest.mark.parametrize(
    ("violations", "counts"),
    [
        ([LATE, "", ""], ""),
        ([LATE, LATE, "", ""], ""),
        ([LATE, LATE, LATE], LATE),
        ([LATE, "", LATE, LATE], LATE),
        ([LATE, OTHER], OTHER),
        ([LATE, "", OTHER], OTHER),
        ([OTHER], OTHER),
    ],
)
def test_a_late_answer_counts_in_most_replays_and_another_violation_at_once(
    monkeypatch: pytest.MonkeyPatch, violations: list[str], counts: str
) -> None:
    """Whichever of the plays it occurs in; no life is played more often than needed."""
    coming = iter(violations)

    def play(_life: plan.Life, _met: object) -> int:
        if violation := next(coming):
            raise Violation(violation)
        return 1

    monkeypatch.setattr(crew, "play", play)
    outcome = crew.play_through(LIFE)
    assert (outcome.violation, outcome.late) == (counts, not counts)
    assert not [*coming]
