"""The defects that chaos has to find can be planted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import plan
from tests.chaos.planted import DEFECTS, hunt, plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_still_fits_the_code(tmp_path: Path, name: str) -> None:
    """A change of the code that removes its text requires a new place for it in planted.py."""
    plant(DEFECTS[name], tmp_path)
    compile((tmp_path / "supervisor" / DEFECTS[name].path).read_text(), DEFECTS[name].path, "exec")


def test_a_hunt_ends_with_the_violation_of_a_check_of_the_defect() -> None:
    """The rounds are counted up to it."""
    lives = [plan.parse("plain start;stop")]
    rounds, violation, others = hunt(DEFECTS["a setting handed to every process"], lives)
    assert (rounds, others) == (2, ())
    assert violation.startswith("secrets: ")


def test_a_violation_of_another_check_does_not_count_as_found() -> None:
    """It is printed, as it may be a fault of the check."""
    defect = DEFECTS["a setting handed to every process"]._replace(found_by=("zombies",))
    rounds, violation, others = hunt(defect, [plan.parse("plain start;stop")])
    assert (rounds, violation) == (2, "")
    assert len(others) == 1
