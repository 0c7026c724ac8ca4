"""The reserve of file descriptors."""

from __future__ import annotations

from supervisor.system.descriptors import FOR_A_START, RESERVED, Descriptors


def test_what_a_start_needs_is_given_to_starts_alone() -> None:
    """Connections get the rest of the reserve, and no more than they ask for."""
    descriptors = Descriptors()
    descriptors._size = RESERVED
    descriptors.refill()
    assert descriptors.give_spare(1) == 1
    assert descriptors.give_spare(RESERVED) == RESERVED - FOR_A_START - 1
    assert descriptors.give_spare(1) == 0
    assert descriptors.give(RESERVED) == FOR_A_START
