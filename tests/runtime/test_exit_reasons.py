"""Which kind an exit counts as, and why it happened."""

from __future__ import annotations

import pytest

from supervisor.core.counts import END_KINDS
from supervisor.core.process import ExitStatus, ProcessSpec
from supervisor.core.snapshot import Snapshot
from supervisor.logs.lines import Source
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime.child import START_S, describe, kind_of
from supervisor.runtime.engine import Engine
from supervisor.runtime.store import SnapshotStore
from supervisor.system.reaper import Reaper


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
    """The kind follows from what is known of the exit; a hang or a request takes precedence."""
    why = describe(exit_status, [last_line], killed_by_us=False, ran_out_of_memory=lambda: out_of_memory)
    assert kind_of(exit_status, why, asked=False, hung=False) == kind
    assert kind_of(exit_status, why, asked=False, hung=True) == "hung"
    assert kind_of(exit_status, why, asked=True, hung=False) == "asked"
    assert kind in END_KINDS


@pytest.mark.parametrize("out_of_memory", [True, False, None])
def test_what_we_killed_was_not_killed_from_outside(out_of_memory: bool | None) -> None:  # noqa: FBT001 - a parameter
    """This holds whatever the kernel reports about memory at that moment."""
    why = describe(ExitStatus(signal=9), [], killed_by_us=True, ran_out_of_memory=lambda: out_of_memory)
    assert why == "ended by SIGKILL"


def test_a_known_failure_is_one_of_a_start() -> None:
    """The same words in the first lines of a long run are not the reason of its exit."""
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=("app",))
    spec = ProcessSpec("app", ("app",), {}, known_failures=((("invalid value",), "fix its flags"),))
    child = Engine((spec,), SnapshotStore(Snapshot()), log, Reaper(), ()).children["app"]
    log.history.add(Source("app", "stderr"), b"invalid value in a request\n", 1, 0.0, {})
    assert "fix its flags" in child._why(ExitStatus(code=2), "exit code 2", 0.1)
    assert child._why(ExitStatus(code=2), "exit code 2", START_S) == "exit code 2"
