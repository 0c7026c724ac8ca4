"""Shared fixtures of the web tests."""

from __future__ import annotations

import pytest

from supervisor.runtime import loop_latency
from supervisor.web import sessions, throttle


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin token has time to be read, unless a test says otherwise: a thread may wait for its turn."""
    monkeypatch.setattr(loop_latency, "READ_S", 30.0)


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
