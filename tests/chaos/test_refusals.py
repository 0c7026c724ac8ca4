"""What the kernel may refuse is known, and a few refusals are lived with; `tests.chaos.refusals` tries all."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.chaos.refusal_table import ERRORS, HARMLESS, KERNEL, METHODS, UNREAL, calls_of, sites
from tests.chaos.refusals import places, refuse
from tests.chaos.refused_lives import wrong


def traces() -> bool:
    """Tell whether strace is there, and may trace."""
    words = ["strace", "-o", "/dev/null", "true"]
    return (
        shutil.which("strace") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


def test_every_place_that_asks_the_kernel_is_in_the_table() -> None:
    """A new one is put there, with what it asks for, and is refused from then on; one that is gone is taken off."""
    names = {site.name for site in sites()}
    assert not names - KERNEL.keys() - METHODS.keys() - HARMLESS
    assert not KERNEL.keys() - names
    assert {each for name in names for each in calls_of(name)} == ERRORS.keys()
    assert {(site.module, site.name) for site in sites()} >= UNREAL.keys()


@pytest.mark.skipif(not traces(), reason="strace has the kernel refuse calls")
@pytest.mark.parametrize(
    ("call", "error"), [("pipe2", "EMFILE"), ("write", "EIO"), ("accept4", "ENFILE"), ("epoll_create1", "ENOMEM")]
)
def test_a_refused_call_is_lived_with(call: str, error: str) -> None:
    """It goes on as if nothing had been, or ends with a clear word."""
    assert not wrong(refuse(call, error, places(call)[0]))
