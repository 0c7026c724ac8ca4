"""What one process causes costs the same among a thousand as among ten, in calls, whose number does not vary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.core.process import Event, EventKind, ProcessSpec, State
from supervisor.core.snapshot import Snapshot
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime.engine import Engine
from supervisor.runtime.store import SnapshotStore
from supervisor.system.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 10, 1000


def engine_of(count: int) -> Engine:
    """Return an engine of this many processes, none of which has been started."""
    names = [f"n{number}" for number in range(count)]
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=names)
    return Engine(
        [ProcessSpec(name, ("/no/such/program",), {}) for name in names], SnapshotStore(Snapshot()), log, Reaper(), ()
    )


def calls(work: Callable[[], object]) -> int:
    """Return how many calls of Python code this takes, each step of a generator counting as one."""
    count = 0

    def take(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(take)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


ONE: dict[str, Callable[[Engine], object]] = {
    "a start that fails": lambda engine: engine.dispatch("n5", Event(EventKind.START)),
    "a change of readiness": lambda engine: engine.children["n5"].update_readiness(ready=True, why=""),
    "a view in the store": lambda engine: engine.store.update_process(
        engine.children["n5"].view._replace(state=State.RUNNING)
    ),
    "the next timer": lambda engine: engine.next_due_s(),
    "timers that are due": lambda engine: engine.fire_due(),
    "an orphan": lambda engine: engine._sweep(),
    "whether all is cleaned": lambda engine: engine.all_cleaned(),
}


@pytest.mark.parametrize("one", ONE)
def test_what_happens_to_one_process_looks_through_no_others(one: str) -> None:
    """Otherwise a supervisor of a thousand processes would do a thousand times as much for each of them."""
    few, many = engine_of(FEW), engine_of(MANY)
    assert calls(lambda: ONE[one](many)) <= calls(lambda: ONE[one](few)) + 2
