"""Generated pages and pictures match the code's tables."""

from __future__ import annotations

import pytest

from scripts import badges, doctor_page, pictures, states_page
from supervisor.core.tailnet_states import STATES
from tests.conventions.tree import ROOT, read


def test_the_page_of_states_is_current() -> None:
    """After a change, run `make format`."""
    assert read("docs/reference/states.md") == states_page.page()


def test_the_page_of_the_doctor_is_current() -> None:
    """After a change, run `make format`."""
    assert read("docs/reference/doctor.md") == doctor_page.page()


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_the_pictures_are_current(name: str) -> None:
    """After a change, run `make format`."""
    assert (ROOT / "docs/explanation" / name).read_text() == pictures.PICTURES[name]()


def test_the_badges_are_true() -> None:
    """After a change, run `make format`."""
    assert read("docs/images/badges.svg") == badges.picture()
    assert "Python: 3.11 to 3." in badges.picture()


def test_every_state_of_the_tailnet_has_its_case() -> None:
    """The page's examples include each state."""
    assert {meaning.state for _, meaning in states_page.CASES} == set(STATES)


def test_every_state_of_a_process_is_in_the_picture() -> None:
    """None is missing where the picture combines several in one box."""
    assert {state for node in pictures.NODES.values() for state in node.states} == set(states_page.MEANS)
