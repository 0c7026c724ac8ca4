"""Waits for conditions, with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
DEADLINE_S = 30.0
# A check may be a command or a request, so they become rarer the longer the wait; none is late by more than a tenth.
_LOOK_AGAIN_S, _AT_THE_LATEST_S = 0.01, 0.2


def wait_until(condition: Callable[[], T | None], deadline_s: float = DEADLINE_S, what: str = "the condition") -> T:
    """Return the first true result of ``condition``; fail at the deadline.

    A condition that raises OSError or LookupError does not hold yet.
    """
    begun_s = time.monotonic()
    while True:
        try:
            answer = condition()
        except (OSError, LookupError):
            answer = None
        if answer:
            return answer
        waited_s = time.monotonic() - begun_s
        if waited_s > deadline_s:
            raise AssertionError(f"waited {deadline_s} s in vain for {what}")
        time.sleep(min(max(_LOOK_AGAIN_S, waited_s / 10), _AT_THE_LATEST_S))
