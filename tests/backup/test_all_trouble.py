"""Each kind of trouble, one by one: it is reported in words, nothing is lost, and the next snapshot succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backup import troubles
from tests.backup.world import is_root

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow_fault
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", troubles.NAMES)
def test_it_is_told_and_the_next_snapshot_is_right(tmp_path: Path, name: str) -> None:
    """It is reported within 30 s; `python -m benchmarks --only backups-told` measures how soon, on an idle machine."""
    if name.startswith("disk full") and not is_root():
        pytest.skip("takes root, to mount a small disk")
    assert troubles.measure(name, tmp_path / "s3") < 30.0
