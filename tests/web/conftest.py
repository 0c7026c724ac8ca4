"""What the tests of the web share."""

from __future__ import annotations

import pytest

from supervisor.web import sessions, throttle


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of everything here."""
    clock = Clock()
    for user in (sessions, throttle):
        monkeypatch.setattr(user, "time", clock)
    return clock
