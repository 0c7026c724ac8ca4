"""What an end comes down to, for whoever counts."""

from __future__ import annotations

import pytest

from supervisor.core.counts import END_KINDS
from supervisor.core.lifecycle import Ending
from supervisor.runtime.endings import describe, kind_of


@pytest.mark.parametrize(
    ("ending", "last_line", "out_of_memory", "kind"),
    [
        (Ending(code=0), "", False, "success"),
        (Ending(code=3), "", False, "exit_code"),
        (Ending(code=1), "setpriv: failed to execute x", False, "not_started"),
        (Ending(signal=11), "", False, "signal"),
        (Ending(signal=9), "", False, "signal"),
        (Ending(signal=9), "", None, "signal"),
        (Ending(signal=9), "", True, "out_of_memory"),
    ],
)
def test_what_an_end_comes_down_to(ending: Ending, last_line: str, out_of_memory: bool | None, kind: str) -> None:  # noqa: FBT001
    """By what is known of it; that it hung, or was asked to, comes first."""
    why = describe(ending, [last_line], killed_by_us=False, ran_out_of_memory=lambda: out_of_memory)
    assert kind_of(ending, why, asked=False, hung=False) == kind
    assert kind_of(ending, why, asked=False, hung=True) == "hung"
    assert kind_of(ending, why, asked=True, hung=False) == "asked"
    assert kind in END_KINDS
