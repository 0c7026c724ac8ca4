"""The supervisor survives a few refused system calls; `tests.chaos.refusals` tries all."""

from __future__ import annotations

import pytest

from tests.chaos.refusals import places, refuse
from tests.chaos.refused_lives import wrong
from tests.support.tracing import traces


@pytest.mark.skipif(not traces(), reason="strace is needed to make system calls fail")
@pytest.mark.parametrize(
    ("call", "error"), [("pipe2", "EMFILE"), ("write", "EIO"), ("accept4", "ENFILE"), ("epoll_create1", "ENOMEM")]
)
def test_a_refused_call_is_lived_with(call: str, error: str) -> None:
    """It continues, or ends with a clear message."""
    assert not wrong(refuse(call, error, places(call)[0]))
