"""Shared fixtures of the web tests."""

from __future__ import annotations

import pytest

from supervisor.web import sessions, throttle


class Clock:
    """A clock that only moves when it is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Provide the clock of sessions and throttling."""
    clock = Clock()
    for user in (sessions, throttle):
        monkeypatch.setattr(user, "time", clock)
    return clock
