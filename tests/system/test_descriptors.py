"""The reserve of file descriptors."""

from __future__ import annotations

import errno

import pytest

from supervisor.system.descriptors import FOR_A_START, RESERVED, Descriptors
from supervisor.system.spawn import SpawnError


def test_what_a_start_needs_is_given_to_starts_alone() -> None:
    """Connections get the rest of the reserve, and no more than they ask for."""
    descriptors = Descriptors()
    descriptors._size = RESERVED
    descriptors.refill()
    assert descriptors.give_spare(1) == 1
    assert descriptors.give_spare(RESERVED) == RESERVED - FOR_A_START - 1
    assert descriptors.give_spare(1) == 0
    assert descriptors.give(RESERVED) == FOR_A_START


def test_the_reserve_is_released_only_for_a_start_that_lacks_files() -> None:
    """Such a start is tried again; afterwards the reserve is whole."""
    descriptors = Descriptors()
    descriptors._size = RESERVED
    descriptors.refill()
    reserved: list[int] = []

    def begin() -> str:
        reserved.append(len(descriptors._reserve))
        if len(descriptors._reserve) == RESERVED:
            raise SpawnError(126, "no files") from OSError(errno.EMFILE, "no files")
        return "started"

    assert descriptors.start(begin) == "started"
    assert reserved == [RESERVED, RESERVED - FOR_A_START]
    assert len(descriptors._reserve) == RESERVED


def test_a_start_that_fails_otherwise_is_not_tried_again() -> None:
    """A missing program is missing with more files too."""
    descriptors = Descriptors()
    tries: list[int] = []

    def begin() -> None:
        tries.append(1)
        raise SpawnError(127, "no such program") from OSError(errno.ENOENT, "no such program")

    with pytest.raises(SpawnError, match="no such program"):
        descriptors.start(begin)
    assert len(tries) == 1
