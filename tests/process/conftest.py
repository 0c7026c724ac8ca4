"""What all tests of whole supervisors share."""

from __future__ import annotations

import pytest

from supervisor.client import commands


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders have time: a crowded machine is slow, and exit code 75 is tested elsewhere."""
    monkeypatch.setattr(commands, "SETTLE_S", 30.0)
