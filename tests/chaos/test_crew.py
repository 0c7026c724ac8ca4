"""Tests of lives that are played at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import plan, world
from tests.chaos.crew import Crew, may_be_alone
from tests.chaos.planted import DEFECTS, plant

if TYPE_CHECKING:
    from pathlib import Path

LIFE = plan.parse("plain start:kill-child@10;stop")

pytestmark = pytest.mark.skipif(not may_be_alone(), reason="takes root and iproute2 for namespaces")


def test_lives_at_the_same_time_do_not_meet() -> None:
    """Each has a network of its own, as their processes listen on the same addresses."""
    with Crew(2, shrinks=False) as crew:
        outcomes = [outcome for _, outcome in crew.play([LIFE] * 3)]
    assert [(outcome.violation, outcome.met) for outcome in outcomes] == [("", {("kill-child", "start"): 1})] * 3


def test_a_violation_is_told_with_the_smallest_life_that_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members of the crew play another copy of the package, and reduce the life."""
    plant(DEFECTS["a setting handed to every process"], tmp_path)
    monkeypatch.setattr(world, "package", str(tmp_path))
    with Crew(1, shrinks=True) as crew:
        ((life, outcome),) = crew.play([LIFE])
    assert life == LIFE
    assert outcome.violation.startswith("secrets: ")
    assert outcome.smallest == "plain start;stop"
