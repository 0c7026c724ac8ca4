"""The life of one process as a total table of states and events: pure, no I/O, no clock.

Rule 1: everything that can happen to a process is an ``Event``, and every reaction to it is an ``Action``.
Rule 2: a timer belongs to the state that set it. Leaving the state cancels it; if it fires late, it is ignored.
Rule 3: what follows an exit depends on whether the process is ``wanted``, and whether the exit was ``asked`` for.
Rule 4: while a process is held (``hold``), each transition to a spawn leads to a waiting state instead.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from supervisor.backoff import Backoff, delay_s
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

QUIT_GRACE_S = 0.5


class State(Enum):
    """A state of a process; the values appear in the API, the panel and the log."""

    INACTIVE = "inactive"
    WAITING = "waiting"
    RESTORING = "restoring"
    STANDBY = "standby"
    HELD = "held"
    CHOOSE = "held: choose"
    SPAWNING = "spawning"
    RUNNING = "running"
    STOPPING = "stopping"
    QUITTING = "quitting"
    KILLING = "killing"
    CLEANING = "cleaning"
    BACKOFF = "backoff"
    ENDED = "ended"
    FAILED = "failed"


# Starts waiting for the backups: for a restore, another instance, the bucket, or the owner's choice.
HELD_STATES = frozenset({State.RESTORING, State.STANDBY, State.HELD, State.CHOOSE})
# Starts waiting for anything.
WAITS = HELD_STATES | {State.WAITING}


class Restart(Enum):
    """When a process that has exited is restarted."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class GiveUp(NamedTuple):
    """The number of failures within a period after which a critical process is given up."""

    failures: int = 10
    window_s: float = 300.0


class User(NamedTuple):
    """An account that a process runs as."""

    name: str
    uid: int
    gid: int
    home: str


class HttpProbe(NamedTuple):
    """A process is ready if a GET of this URL returns 2xx within the deadline."""

    url: str


class TcpProbe(NamedTuple):
    """A process is ready if this address accepts a connection within the deadline."""

    host: str
    port: int


class EnvFile(NamedTuple):
    """An environment variable whose value is read from a file at each start; unset if the file does not exist."""

    variable: str
    folder: str
    name: str


class SetUp(NamedTuple):
    """An environment variable that an app needs until its set-up is done.

    ``done`` is a path that it makes after that. ``status_url`` is where it says whether its set-up is complete.
    """

    variable: str
    done: str
    status_url: str


class ProcessSpec(NamedTuple):
    """The specification of a process.

    ``probe`` is None if a live process counts as healthy. ``hung_after_s`` is how long a process may leave its probe
    unanswered, after it has answered once, before it is restarted; None for no limit. ``user`` is None if the process
    runs as the supervisor's user. ``shares_user`` is whether other processes may run as that user; its remains are then
    recognised by other marks than their user. ``known_failures`` are pairs: words that identify a permanent failure if
    all are in one line of its output, and the explanation; the first match counts. ``ordered`` is whether a start waits
    until it is released. ``env_file`` adds a variable to ``env``; ``reread`` returns variables that may have changed by
    a later start; ``set_up`` has the variable that later starts are not given. ``prepare`` makes ready what a start
    needs, and returns why there must be none now, or an empty text.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    user: User | None = None
    shares_user: bool = True
    critical: bool = False
    restart: Restart = Restart.ALWAYS
    after: tuple[str, ...] = ()
    ordered: bool = False
    stop_signal: int = 15
    stop_timeout_s: float = 8.0
    quit_before_kill: bool = False
    parent_death_fd: bool = False
    backoff: Backoff = Backoff()
    give_up: GiveUp | None = GiveUp()
    probe: HttpProbe | TcpProbe | None = None
    hung_after_s: float | None = 120.0
    known_failures: tuple[tuple[tuple[str, ...], str], ...] = ()
    env_file: EnvFile | None = None
    reread: Callable[[], Mapping[str, str]] | None = None
    set_up: SetUp | None = None
    prepare: Callable[[], str] | None = None

    @property
    def variables(self) -> list[str]:
        """Return the names of the environment variables, sorted."""
        return sorted({*self.env, *([self.env_file.variable] if self.env_file else [])})


class EventKind(Enum):
    """The kinds of events."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    FORCE_STOP = "force stop"
    HUNG = "hung"
    HOLD = "hold"
    LET_GO = "let go"
    RELEASED = "released"
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn failed"
    EXITED = "exited"
    CLEANED = "cleaned"
    RETRY_DUE = "retry due"
    PROVEN = "proven"
    LIMIT_REACHED = "limit reached"


class ExitStatus(NamedTuple):
    """How a process exited: its exit code, or the signal that ended it."""

    code: int | None = None
    signal: int | None = None

    @property
    def success(self) -> bool:
        """Whether the exit code is 0."""
        return self.code == 0

    @property
    def shell_status(self) -> int:
        """Return the status as a shell reports it: the code, or 128 plus the number of the signal."""
        return self.code if self.code is not None else 128 + (self.signal or 0)


class Event(NamedTuple):
    """An event.

    EXITED and SPAWN_FAILED have an ``exit_status``; STOP may have a ``limit_s``; HOLD has ``hold``, the state to wait
    in, one of WAITS.
    """

    kind: EventKind
    exit_status: ExitStatus | None = None
    limit_s: float | None = None
    hold: State | None = None


class ProcessAction(Enum):
    """An action without arguments.

    SPAWN starts the process; SPAWNED or SPAWN_FAILED follows. REQUEST_END sends the stop signal to its group.
    REQUEST_STACKS sends QUIT, on which a hung Go program prints its stacks. KILL sends KILL to its group. CLEAN ends
    what it left behind; CLEANED follows. ESCALATE_CLEAN does the same with KILL, at once.
    """

    SPAWN = "spawn"
    REQUEST_END = "request end"
    REQUEST_STACKS = "request stacks"
    KILL = "kill"
    CLEAN = "clean"
    ESCALATE_CLEAN = "escalate clean"


class SetTimer(NamedTuple):
    """Dispatch ``kind`` after this time, unless the state has been left by then."""

    kind: EventKind
    after_s: float


class GiveUpOn(NamedTuple):
    """Report that a critical process has failed permanently."""

    failures: int


Action = ProcessAction | SetTimer | GiveUpOn


class Machine(NamedTuple):
    """The state machine of a process.

    ``failures`` counts consecutive failures, or those that a process is given up for; ``failed_at_s`` has the times of
    those in the give-up window. ``forced`` is whether this run, with everything it leaves behind, is to be killed at
    once. ``prompted`` is whether a start was ordered while it ended, which does not wait for the next attempt. ``hold``
    is the state in which a start waits until it is let go, None if starts are not held.
    """

    state: State = State.INACTIVE
    wanted: bool = False
    asked: bool = False
    hung: bool = False
    forced: bool = False
    prompted: bool = False
    exit_status: ExitStatus | None = None
    failures: int = 0
    failed_at_s: tuple[float, ...] = ()
    next_try_s: float | None = None
    hold: State | None = None


class Moment(NamedTuple):
    """The time, and ``jitter``, a random number uniform over [0, 1)."""

    now_s: float
    jitter: float


Step = tuple[Machine, tuple[Action, ...]]
if TYPE_CHECKING:
    Handler = Callable[[ProcessSpec, Machine, Event, Moment], Step]


def step(spec: ProcessSpec, machine: Machine, event: Event, moment: Moment) -> Step:
    """Return the next machine, and the actions. An event that is impossible in this state changes nothing."""
    return TABLE[machine.state][event.kind](spec, machine, event, moment)


def possible(state: State, kind: EventKind) -> bool:
    """Return whether ``kind`` can occur in ``state``; an impossible event is a defect, and is logged."""
    return TABLE[state][kind] is not _impossible


def _nothing(_spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine, ()


def _impossible(_spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine, ()


def _start(spec: ProcessSpec, machine: Machine, event: Event, moment: Moment) -> Step:
    """Handle an order to start a process that is at rest."""
    machine = Machine(state=machine.state, wanted=True, hold=machine.hold)
    if spec.ordered:
        return machine._replace(state=machine.hold or State.WAITING), ()
    return _spawn(spec, machine, event, moment)


def _spawn(_spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    machine = machine._replace(asked=False, hung=False, forced=False, prompted=False, exit_status=None, next_try_s=None)
    if machine.hold is not None:
        return machine._replace(state=machine.hold), ()
    return machine._replace(state=State.SPAWNING), (ProcessAction.SPAWN,)


def _hold(_spec: ProcessSpec, machine: Machine, event: Event, _moment: Moment) -> Step:
    """Make every later start wait; a start that already waits goes to the new state."""
    hold = event.hold or State.WAITING
    return machine._replace(hold=hold, state=hold if machine.state in WAITS else machine.state), ()


def _let_go(spec: ProcessSpec, machine: Machine, event: Event, moment: Moment) -> Step:
    """Allow starts again: a held start continues, or waits for its dependencies."""
    machine = machine._replace(hold=None)
    if machine.state not in WAITS:
        return machine, ()
    return (machine._replace(state=State.WAITING), ()) if spec.ordered else _spawn(spec, machine, event, moment)


def _spawned(spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(state=State.RUNNING), (SetTimer(EventKind.PROVEN, spec.backoff.reset_s),)


def _reset_failures(_spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(failures=0), ()


def _go_inactive(_spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(state=State.INACTIVE, wanted=False, next_try_s=None), ()


def _set_wanted(_spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(wanted=True, prompted=True), ()


def _stop_further(_spec: ProcessSpec, machine: Machine, event: Event, _moment: Moment) -> Step:
    """Handle another order to stop while the process is being stopped; the earlier of both limits counts."""
    timers = () if event.limit_s is None else (SetTimer(EventKind.LIMIT_REACHED, event.limit_s),)
    return machine._replace(wanted=False, asked=True), timers


def _drop_wanted(_spec: ProcessSpec, machine: Machine, event: Event, _moment: Moment) -> Step:
    return machine._replace(wanted=False, forced=machine.forced or event.kind is EventKind.FORCE_STOP), ()


def _escalate(_spec: ProcessSpec, machine: Machine, _event: Event, _moment: Moment) -> Step:
    return machine._replace(wanted=False), (ProcessAction.ESCALATE_CLEAN,)


def _end(spec: ProcessSpec, machine: Machine, event: Event, _moment: Moment) -> Step:
    limit_s = spec.stop_timeout_s if event.limit_s is None else event.limit_s
    hung = event.kind is EventKind.HUNG
    machine = machine._replace(state=State.STOPPING, wanted=event.kind is not EventKind.STOP, asked=not hung, hung=hung)
    return machine, (ProcessAction.REQUEST_END, SetTimer(EventKind.LIMIT_REACHED, limit_s))


def _time_out(spec: ProcessSpec, machine: Machine, event: Event, moment: Moment) -> Step:
    if not spec.quit_before_kill:
        return _kill(spec, machine, event, moment)
    return machine._replace(state=State.QUITTING), (
        ProcessAction.REQUEST_STACKS,
        SetTimer(EventKind.LIMIT_REACHED, QUIT_GRACE_S),
    )


def _kill(_spec: ProcessSpec, machine: Machine, event: Event, _moment: Moment) -> Step:
    """Kill the process; a forced stop is part of the ordered stop, after which it is not wanted."""
    forced = event.kind is EventKind.FORCE_STOP
    machine = machine._replace(
        state=State.KILLING,
        wanted=machine.wanted and not forced,
        asked=machine.asked or forced,
        forced=machine.forced or forced,
    )
    return machine, (ProcessAction.KILL,)


def _clean(_spec: ProcessSpec, machine: Machine, event: Event, _moment: Moment) -> Step:
    # A forced stop includes what the process left behind.
    actions: tuple[Action, ...] = (
        (ProcessAction.CLEAN, ProcessAction.ESCALATE_CLEAN) if machine.forced else (ProcessAction.CLEAN,)
    )
    return machine._replace(state=State.CLEANING, exit_status=event.exit_status), actions


def _cleaned(spec: ProcessSpec, machine: Machine, event: Event, moment: Moment) -> Step:
    """Choose what follows an exit, once nothing of the process is left."""
    if not machine.wanted:
        return _go_inactive(spec, machine, event, moment)
    if machine.asked:
        return _spawn(spec, machine, event, moment)
    machine, actions = _apply_restart_policy(spec, machine, moment)
    if machine.prompted and machine.state is not State.FAILED:
        # As if the order came now.
        return step(spec, machine, Event(EventKind.START), moment)
    return machine, actions


def _spawn_failed(spec: ProcessSpec, machine: Machine, event: Event, moment: Moment) -> Step:
    return _apply_restart_policy(spec, machine._replace(exit_status=event.exit_status), moment)


def _apply_restart_policy(spec: ProcessSpec, machine: Machine, moment: Moment) -> Step:
    """Apply the restart policy to an unrequested exit; a hung process that had to be ended counts as a failure."""
    success = machine.exit_status is not None and machine.exit_status.success and not machine.hung
    if spec.restart is Restart.NEVER or (spec.restart is Restart.ON_FAILURE and success):
        return machine._replace(state=State.ENDED, wanted=False), ()
    failures = machine.failures + 1
    failed_at_s: tuple[float, ...] = ()
    if spec.critical and spec.give_up is not None:
        failed_at_s = recent((*machine.failed_at_s, moment.now_s), spec.give_up, moment.now_s)
        if len(failed_at_s) >= spec.give_up.failures:
            failures = len(failed_at_s)
            return machine._replace(state=State.FAILED, wanted=False, failures=failures), (GiveUpOn(failures),)
    wait_s = delay_s(spec.backoff, failures, moment.jitter)
    machine = machine._replace(
        state=State.BACKOFF, failures=failures, failed_at_s=failed_at_s, next_try_s=moment.now_s + wait_s
    )
    return machine, (SetTimer(EventKind.RETRY_DUE, wait_s),)


def recent(times_s: tuple[float, ...], give_up: GiveUp, now_s: float) -> tuple[float, ...]:
    """Return the failures that still count against ``give_up``, at most as many as it takes."""
    return tuple(at_s for at_s in times_s if now_s - at_s < give_up.window_s)[-give_up.failures :]


_ANYWHERE: dict[str, Handler] = {"HOLD": _hold, "LET_GO": _let_go}


def _row(**handlers: Handler) -> dict[EventKind, Handler]:
    """Return a complete row: events that are not named are impossible in its state."""
    named = {EventKind[name]: handler for name, handler in {**_ANYWHERE, **handlers}.items()}
    return {kind: named.get(kind, _impossible) for kind in EventKind}


_AT_REST = _row(START=_start, RESTART=_start, STOP=_nothing, FORCE_STOP=_nothing)
_WAITING = {"START": _nothing, "RESTART": _nothing, "STOP": _go_inactive, "FORCE_STOP": _go_inactive}
_ENDING = {
    "START": _set_wanted,
    "RESTART": _set_wanted,
    "STOP": _stop_further,
    "EXITED": _clean,
    "HUNG": _nothing,
}

TABLE: dict[State, dict[EventKind, Handler]] = {
    State.INACTIVE: _AT_REST,
    **{state: _row(**_WAITING) for state in HELD_STATES},
    State.WAITING: _row(RELEASED=_spawn, **_WAITING),
    State.SPAWNING: _row(SPAWNED=_spawned, SPAWN_FAILED=_spawn_failed),
    State.RUNNING: _row(
        START=_nothing, STOP=_end, RESTART=_end, FORCE_STOP=_kill, HUNG=_end, EXITED=_clean, PROVEN=_reset_failures
    ),
    State.STOPPING: _row(FORCE_STOP=_kill, LIMIT_REACHED=_time_out, **_ENDING),
    State.QUITTING: _row(FORCE_STOP=_kill, LIMIT_REACHED=_kill, **_ENDING),
    State.KILLING: _row(FORCE_STOP=_drop_wanted, **_ENDING | {"STOP": _drop_wanted}),
    State.CLEANING: _row(
        START=_set_wanted, RESTART=_set_wanted, STOP=_drop_wanted, FORCE_STOP=_escalate, CLEANED=_cleaned
    ),
    State.BACKOFF: _row(START=_spawn, RESTART=_spawn, STOP=_go_inactive, FORCE_STOP=_go_inactive, RETRY_DUE=_spawn),
    State.ENDED: _AT_REST,
    State.FAILED: _AT_REST | {EventKind.STOP: _go_inactive},
}
