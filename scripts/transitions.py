"""Determines which event leads a process from which state to which, by trying all of them in the code's own table."""

from __future__ import annotations

from itertools import product

from supervisor.core.process import (
    WAITS,
    Event,
    EventKind,
    ExitStatus,
    GiveUp,
    Machine,
    Moment,
    ProcessSpec,
    Restart,
    State,
    possible,
    step,
)

_ENOUGH = GiveUp(1, 300.0)


def transitions() -> dict[State, dict[EventKind, tuple[State, ...]]]:
    """Return, for every state, the possible events and the states that they may lead to, itself included."""
    return {state: {kind: _targets(state, kind) for kind in EventKind if possible(state, kind)} for state in State}


def _targets(state: State, kind: EventKind) -> tuple[State, ...]:
    yes_no = (False, True)
    found = set()
    holds = tuple(WAITS) if kind is EventKind.HOLD else (None, State.HELD)
    for wanted, asked, code, restart, critical, quits, ordered, hold in product(
        yes_no, yes_no, (0, 3), Restart, yes_no, yes_no, yes_no, holds
    ):
        policy = ProcessSpec(
            "app",
            (),
            {},
            restart=restart,
            critical=critical,
            ordered=ordered,
            quit_before_kill=quits,
            give_up=_ENOUGH if critical else None,
        )
        ending = ExitStatus(code=code)
        machine = Machine(state=state, wanted=wanted, asked=asked, exit_status=ending, hold=hold)
        after, _ = step(policy, machine, Event(kind, ending, hold=hold), Moment(0.0, 0.5))
        found.add(after.state)
    return tuple(after for after in State if after in found)
