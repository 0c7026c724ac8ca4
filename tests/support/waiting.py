"""Waiting for something to become true, with an end to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
DEADLINE_S = 30.0
_LOOK_AGAIN_S = 0.01


def wait_until(condition: Callable[[], T | None], deadline_s: float = DEADLINE_S, what: str = "the condition") -> T:
    """Return the first true answer of ``condition``; fail when the deadline comes first.

    A condition that raises OSError or LookupError is one that does not hold yet.
    """
    end_s = time.monotonic() + deadline_s
    while True:
        try:
            answer = condition()
        except (OSError, LookupError):
            answer = None
        if answer:
            return answer
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {deadline_s} s in vain for {what}")
        time.sleep(_LOOK_AGAIN_S)
