"""What an end comes down to, for whoever counts."""

from __future__ import annotations

import pytest

from supervisor.core.counts import END_KINDS
from supervisor.core.process import ExitStatus
from supervisor.runtime.child import describe, kind_of


@pytest.mark.parametrize(
    ("exit_status", "last_line", "out_of_memory", "kind"),
    [
        (ExitStatus(code=0), "", False, "success"),
        (ExitStatus(code=3), "", False, "exit_code"),
        (ExitStatus(code=1), "setpriv: failed to execute x", False, "not_started"),
        (ExitStatus(signal=11), "", False, "signal"),
        (ExitStatus(signal=9), "", False, "signal"),
        (ExitStatus(signal=9), "", None, "signal"),
        (ExitStatus(signal=9), "", True, "out_of_memory"),
    ],
)
def test_what_an_end_comes_down_to(
    exit_status: ExitStatus,
    last_line: str,
    out_of_memory: bool | None,  # noqa: FBT001
    kind: str,
) -> None:
    """By what is known of it; that it hung, or was asked to, comes first."""
    why = describe(exit_status, [last_line], killed_by_us=False, ran_out_of_memory=lambda: out_of_memory)
    assert kind_of(exit_status, why, asked=False, hung=False) == kind
    assert kind_of(exit_status, why, asked=False, hung=True) == "hung"
    assert kind_of(exit_status, why, asked=True, hung=False) == "asked"
    assert kind in END_KINDS


@pytest.mark.parametrize("out_of_memory", [True, False, None])
def test_what_we_killed_was_not_killed_from_outside(out_of_memory: bool | None) -> None:  # noqa: FBT001 - a parameter
    """Whatever the kernel says of memory just then."""
    why = describe(ExitStatus(signal=9), [], killed_by_us=True, ran_out_of_memory=lambda: out_of_memory)
    assert why == "ended by SIGKILL"
