"""Faults in the image, in each form in which it may be started."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.chaos.boxed import FORMS, playable
from tests.support.control import ROOT

# Six rounds take ten seconds, or twenty in a sandbox; a life that seemed late is played again three times.
PATIENCE_S = 400.0


@pytest.mark.timeout(PATIENCE_S + 100)
@pytest.mark.parametrize("form", FORMS)
def test_it_holds_whatever_goes_wrong(image: str, form: str) -> None:
    """The faults have a new seed, which the run prints: a failure can be replayed with `make chaos-image`."""
    if form not in playable([form]):
        pytest.skip("this engine has no runtime runsc; the one that scripts/test-engine starts has it")
    words = ["--flavours", form, "--built", image, "--rounds", "6", "--no-shrink", "--no-table"]
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "tests.chaos", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as played:
        try:
            said, _ = played.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            # It prints what each of its threads waits for.
            played.send_signal(signal.SIGABRT)
            pytest.fail(f"still playing after {PATIENCE_S} s: {played.communicate()[0]}")
    assert played.returncode == 0, said
    assert " 6 rounds, 1 lives, 0 violations" in said
