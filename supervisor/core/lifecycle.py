"""One process's life as data: a total table of state and event, and nothing that touches the world.

Rule 1: everything that can happen to a process is an ``Event``; everything to be done about it is an ``Action``.
Rule 2: a timer belongs to the state that set it. Leaving the state ends it, so a late one is only ever ignored.
Rule 3: what follows an end depends on two facts: is the process ``wanted``, and was this end ``asked`` for.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.backoff import delay_s, recent
from supervisor.core.model import Backoff, GiveUp, Restart, State

if TYPE_CHECKING:
    from collections.abc import Callable

QUIT_GRACE_S = 0.5


class Kind(Enum):
    """What can happen to a process."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    HURRY = "hurry"
    HUNG = "hung"
    RELEASED = "released"
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn failed"
    EXITED = "exited"
    CLEANED = "cleaned"
    RETRY_DUE = "retry due"
    PROVEN = "proven"
    LIMIT_REACHED = "limit reached"


class Ending(NamedTuple):
    """How a process ended: an exit code, or the signal that ended it."""

    code: int | None = None
    signal: int | None = None

    @property
    def success(self) -> bool:
        """Whether the process itself called this a success."""
        return self.code == 0

    @property
    def shell_status(self) -> int:
        """Return what a shell would report: the code, or 128 and the signal."""
        return self.code if self.code is not None else 128 + (self.signal or 0)


class Event(NamedTuple):
    """One thing that happened; ``ending`` comes with an end, ``limit_s`` may come with an order to stop."""

    kind: Kind
    ending: Ending | None = None
    limit_s: float | None = None


class Spawn(NamedTuple):
    """Start the process; the answer is SPAWNED or SPAWN_FAILED."""


class AskToEnd(NamedTuple):
    """Send the stop signal to the process's group."""


class AskForStacks(NamedTuple):
    """Send QUIT: a hung Go program tells on standard error where it hangs."""


class Kill(NamedTuple):
    """Send KILL to the process's group."""


class Clean(NamedTuple):
    """End what the process left behind; the answer is CLEANED."""


class Hasten(NamedTuple):
    """End what the process left behind with KILL, at once."""


class SetTimer(NamedTuple):
    """Feed ``kind`` once ``after_s`` have passed, unless the state was left."""

    kind: Kind
    after_s: float


class GiveUpOn(NamedTuple):
    """The process is critical and has failed for good."""

    failures: int


Action = Spawn | AskToEnd | AskForStacks | Kill | Clean | Hasten | SetTimer | GiveUpOn


class Policy(NamedTuple):
    """The part of a process's plan that decides about its life."""

    restart: Restart = Restart.ALWAYS
    critical: bool = False
    ordered: bool = False
    stop_timeout_s: float = 8.0
    quit_before_kill: bool = False
    backoff: Backoff = Backoff()
    give_up: GiveUp | None = GiveUp()


class Machine(NamedTuple):
    """Where one process stands.

    ``failures`` counts those in a row, ``failed_at_s`` those in the give-up window; ``hurried`` says that this life
    is to be over at once, with all it leaves behind.
    """

    state: State = State.INACTIVE
    wanted: bool = False
    asked: bool = False
    hung: bool = False
    hurried: bool = False
    ending: Ending | None = None
    failures: int = 0
    failed_at_s: tuple[float, ...] = ()
    next_try_s: float | None = None


class Moment(NamedTuple):
    """The clock and the dice, handed in: ``chance`` is evenly spread over [0, 1)."""

    now_s: float
    chance: float


Step = tuple[Machine, tuple[Action, ...]]
if TYPE_CHECKING:
    Handler = Callable[[Policy, Machine, Event, Moment], Step]


def step(policy: Policy, machine: Machine, event: Event, moment: Moment) -> Step:
    """Return the next machine and what is to be done. Pairs that cannot happen change nothing."""
    return TABLE[machine.state][event.kind](policy, machine, event, moment)


def possible(state: State, kind: Kind) -> bool:
    """Tell whether ``kind`` can come up in ``state``: one that cannot is a defect worth a line in the log."""
    return TABLE[state][kind] is not _impossible


def _nothing(_policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine, ()


def _impossible(_policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine, ()


def _begin(policy: Policy, machine: Machine, event: Event, moment: Moment) -> Step:
    """Take an order to start, from rest."""
    machine = Machine(state=machine.state, wanted=True)
    if policy.ordered:
        return machine._replace(state=State.WAITING), ()
    return _spawn(policy, machine, event, moment)


def _spawn(_policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    machine = machine._replace(asked=False, hung=False, hurried=False, ending=None, next_try_s=None)
    return machine._replace(state=State.SPAWNING), (Spawn(),)


def _live(policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(state=State.RUNNING), (SetTimer(Kind.PROVEN, policy.backoff.reset_s),)


def _forgive(_policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(failures=0), ()


def _rest(_policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(state=State.INACTIVE, wanted=False, next_try_s=None), ()


def _want(_policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(wanted=True), ()


def _want_no_more(_policy: Policy, machine: Machine, event: Event, _moment: Moment) -> Step:
    """Take an order to stop while the end is under way; a limit that comes with it replaces the old one."""
    timers = () if event.limit_s is None else (SetTimer(Kind.LIMIT_REACHED, event.limit_s),)
    return machine._replace(wanted=False, asked=True), timers


def _unwant(_policy: Policy, machine: Machine, event: Event, _moment: Moment) -> Step:
    return machine._replace(wanted=False, hurried=machine.hurried or event.kind is Kind.HURRY), ()


def _hasten(_policy: Policy, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(wanted=False), (Hasten(),)


def _end(policy: Policy, machine: Machine, event: Event, _moment: Moment) -> Step:
    limit_s = policy.stop_timeout_s if event.limit_s is None else event.limit_s
    hung = event.kind is Kind.HUNG
    machine = machine._replace(state=State.STOPPING, wanted=event.kind is not Kind.STOP, asked=not hung, hung=hung)
    return machine, (AskToEnd(), SetTimer(Kind.LIMIT_REACHED, limit_s))


def _lose_patience(policy: Policy, machine: Machine, event: Event, moment: Moment) -> Step:
    if not policy.quit_before_kill:
        return _kill(policy, machine, event, moment)
    return machine._replace(state=State.QUITTING), (AskForStacks(), SetTimer(Kind.LIMIT_REACHED, QUIT_GRACE_S))


def _kill(_policy: Policy, machine: Machine, event: Event, _moment: Moment) -> Step:
    """End it at once; an order to hurry comes with an ordered stop, so it is not wanted afterwards."""
    hurried = event.kind is Kind.HURRY
    machine = machine._replace(
        state=State.KILLING,
        wanted=machine.wanted and not hurried,
        asked=machine.asked or hurried,
        hurried=machine.hurried or hurried,
    )
    return machine, (Kill(),)


def _clean(_policy: Policy, machine: Machine, event: Event, _moment: Moment) -> Step:
    # Who was in a hurry with the process is so with what it left behind.
    actions: tuple[Action, ...] = (Clean(), Hasten()) if machine.hurried else (Clean(),)
    return machine._replace(state=State.CLEANING, ending=event.ending), actions


def _decide(policy: Policy, machine: Machine, event: Event, moment: Moment) -> Step:
    """Choose what follows an end, once nothing of the process is left."""
    if not machine.wanted:
        return _rest(policy, machine, event, moment)
    if machine.asked:
        return _spawn(policy, machine, event, moment)
    return _judge(policy, machine, moment)


def _not_started(policy: Policy, machine: Machine, event: Event, moment: Moment) -> Step:
    return _judge(policy, machine._replace(ending=event.ending), moment)


def _judge(policy: Policy, machine: Machine, moment: Moment) -> Step:
    """Apply the restart policy to an end that nobody asked for: one that had to be ended is no success."""
    success = machine.ending is not None and machine.ending.success and not machine.hung
    if policy.restart is Restart.NEVER or (policy.restart is Restart.ON_FAILURE and success):
        return machine._replace(state=State.ENDED, wanted=False), ()
    failures = machine.failures + 1
    failed_at_s: tuple[float, ...] = ()
    if policy.critical and policy.give_up is not None:
        failed_at_s = recent((*machine.failed_at_s, moment.now_s), policy.give_up, moment.now_s)
        if len(failed_at_s) >= policy.give_up.failures:
            return machine._replace(state=State.FAILED, wanted=False, failures=failures), (GiveUpOn(len(failed_at_s)),)
    wait_s = delay_s(policy.backoff, failures, moment.chance)
    machine = machine._replace(
        state=State.BACKOFF, failures=failures, failed_at_s=failed_at_s, next_try_s=moment.now_s + wait_s
    )
    return machine, (SetTimer(Kind.RETRY_DUE, wait_s),)


def _row(**handlers: Handler) -> dict[Kind, Handler]:
    """Spell one row out in full: what is not named cannot happen there."""
    named = {Kind[name]: handler for name, handler in handlers.items()}
    return {kind: named.get(kind, _impossible) for kind in Kind}


_AT_REST = _row(START=_begin, RESTART=_begin, STOP=_nothing, HURRY=_nothing)
_ENDING = {
    "START": _want,
    "RESTART": _want,
    "STOP": _want_no_more,
    "EXITED": _clean,
    "HUNG": _nothing,
}

TABLE: dict[State, dict[Kind, Handler]] = {
    State.INACTIVE: _AT_REST,
    State.WAITING: _row(START=_nothing, RESTART=_nothing, STOP=_rest, HURRY=_rest, RELEASED=_spawn),
    State.SPAWNING: _row(SPAWNED=_live, SPAWN_FAILED=_not_started),
    State.RUNNING: _row(
        START=_nothing, STOP=_end, RESTART=_end, HURRY=_kill, HUNG=_end, EXITED=_clean, PROVEN=_forgive
    ),
    State.STOPPING: _row(HURRY=_kill, LIMIT_REACHED=_lose_patience, **_ENDING),
    State.QUITTING: _row(HURRY=_kill, LIMIT_REACHED=_kill, **_ENDING),
    State.KILLING: _row(HURRY=_unwant, **_ENDING | {"STOP": _unwant}),
    State.CLEANING: _row(START=_want, RESTART=_want, STOP=_unwant, HURRY=_hasten, CLEANED=_decide),
    State.BACKOFF: _row(START=_spawn, RESTART=_spawn, STOP=_rest, HURRY=_rest, RETRY_DUE=_spawn),
    State.ENDED: _AT_REST,
    State.FAILED: _AT_REST | {Kind.STOP: _rest},
}
