"""The defects that chaos has to find can be planted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.planted import DEFECTS, plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_still_fits_the_code(tmp_path: Path, name: str) -> None:
    """A change of the code that removes its text requires a new place for it in planted.py."""
    plant(DEFECTS[name], tmp_path)
    compile((tmp_path / "supervisor" / DEFECTS[name].path).read_text(), DEFECTS[name].path, "exec")
