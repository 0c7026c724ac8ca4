"""Faults in the image, in each form in which it may be started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.boxed import FORMS, playable
from tests.support.control import ROOT

# Six rounds take ten seconds, or thirty in a sandbox.
PATIENCE_S = 240.0


@pytest.mark.parametrize("form", FORMS)
def test_it_holds_whatever_goes_wrong(image: str, form: str) -> None:
    """The faults have a new seed, which the run prints: a failure can be replayed with `make chaos-image`."""
    if form not in playable([form]):
        pytest.skip("this engine has no runtime runsc; the one that scripts/test-engine starts has it")
    words = ["--flavours", form, "--built", image, "--rounds", "6", "--no-shrink", "--no-table"]
    played = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert " 6 rounds, 1 lives, 0 violations" in played.stdout
