"""What all tests of the tailnet share."""

from __future__ import annotations

import pytest

from supervisor.runtime import loop_latency


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files have time to be read, unless a test says otherwise: on a crowded machine a thread waits for its turn."""
    monkeypatch.setattr(loop_latency, "READ_S", 30.0)
