"""A few refusals of the kernel are lived with; `tests.chaos.refusals` tries all."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.chaos.refusals import places, refuse
from tests.chaos.refused_lives import wrong


def traces() -> bool:
    """Tell whether strace is there, and may trace."""
    words = ["strace", "-o", "/dev/null", "true"]
    return (
        shutil.which("strace") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not traces(), reason="strace has the kernel refuse calls")
@pytest.mark.parametrize(
    ("call", "error"), [("pipe2", "EMFILE"), ("write", "EIO"), ("accept4", "ENFILE"), ("epoll_create1", "ENOMEM")]
)
def test_a_refused_call_is_lived_with(call: str, error: str) -> None:
    """It goes on as if nothing had been, or ends with a clear word."""
    assert not wrong(refuse(call, error, places(call)[0]))
