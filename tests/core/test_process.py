"""Every edge of the state table, and the table as a whole, driven at random."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor.backoff import Backoff
from supervisor.core.process import (
    HELD_STATES,
    QUIT_GRACE_S,
    TABLE,
    WAITS,
    Event,
    EventKind,
    ExitStatus,
    GiveUp,
    GiveUpOn,
    Machine,
    Moment,
    ProcessAction,
    ProcessSpec,
    Restart,
    SetTimer,
    State,
    possible,
    step,
)

POLICY = ProcessSpec("app", ("app",), {}, backoff=Backoff(1.0, 8.0, 60.0), stop_timeout_s=5.0)
NOW = Moment(100.0, 0.5)
CRASH = ExitStatus(code=1)
# In a fixed order, which parallel test processes share.
HOLDS = [state for state in State if state in WAITS]
LIMIT = SetTimer(EventKind.LIMIT_REACHED, 5.0)

# (state, event) -> (fields of the machine before, the next state, the actions).
EDGES: dict[tuple[State, EventKind], tuple[dict[str, Any], State, tuple[object, ...]]] = {
    (State.INACTIVE, EventKind.START): ({}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.INACTIVE, EventKind.RESTART): ({}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.INACTIVE, EventKind.STOP): ({}, State.INACTIVE, ()),
    (State.INACTIVE, EventKind.FORCE_STOP): ({}, State.INACTIVE, ()),
    (State.WAITING, EventKind.START): ({"wanted": True}, State.WAITING, ()),
    (State.WAITING, EventKind.RESTART): ({"wanted": True}, State.WAITING, ()),
    (State.WAITING, EventKind.STOP): ({"wanted": True}, State.INACTIVE, ()),
    (State.WAITING, EventKind.FORCE_STOP): ({"wanted": True}, State.INACTIVE, ()),
    (State.WAITING, EventKind.RELEASED): ({"wanted": True}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.SPAWNING, EventKind.SPAWNED): ({"wanted": True}, State.RUNNING, (SetTimer(EventKind.PROVEN, 60.0),)),
    (State.SPAWNING, EventKind.SPAWN_FAILED): ({"wanted": True}, State.BACKOFF, (SetTimer(EventKind.RETRY_DUE, 0.5),)),
    (State.RUNNING, EventKind.START): ({"wanted": True}, State.RUNNING, ()),
    (State.RUNNING, EventKind.STOP): ({"wanted": True}, State.STOPPING, (ProcessAction.REQUEST_END, LIMIT)),
    (State.RUNNING, EventKind.RESTART): ({"wanted": True}, State.STOPPING, (ProcessAction.REQUEST_END, LIMIT)),
    (State.RUNNING, EventKind.HUNG): ({"wanted": True}, State.STOPPING, (ProcessAction.REQUEST_END, LIMIT)),
    (State.RUNNING, EventKind.FORCE_STOP): ({"wanted": True}, State.KILLING, (ProcessAction.KILL,)),
    (State.RUNNING, EventKind.EXITED): ({"wanted": True}, State.CLEANING, (ProcessAction.CLEAN,)),
    (State.RUNNING, EventKind.PROVEN): ({"wanted": True, "failures": 3}, State.RUNNING, ()),
    (State.STOPPING, EventKind.START): ({}, State.STOPPING, ()),
    (State.STOPPING, EventKind.RESTART): ({}, State.STOPPING, ()),
    (State.STOPPING, EventKind.STOP): ({"wanted": True}, State.STOPPING, ()),
    (State.STOPPING, EventKind.HUNG): ({"wanted": True}, State.STOPPING, ()),
    (State.STOPPING, EventKind.FORCE_STOP): ({"wanted": True}, State.KILLING, (ProcessAction.KILL,)),
    (State.STOPPING, EventKind.EXITED): ({"wanted": True}, State.CLEANING, (ProcessAction.CLEAN,)),
    (State.STOPPING, EventKind.LIMIT_REACHED): ({"wanted": True}, State.KILLING, (ProcessAction.KILL,)),
    (State.QUITTING, EventKind.START): ({}, State.QUITTING, ()),
    (State.QUITTING, EventKind.RESTART): ({}, State.QUITTING, ()),
    (State.QUITTING, EventKind.STOP): ({"wanted": True}, State.QUITTING, ()),
    (State.QUITTING, EventKind.HUNG): ({"wanted": True}, State.QUITTING, ()),
    (State.QUITTING, EventKind.FORCE_STOP): ({}, State.KILLING, (ProcessAction.KILL,)),
    (State.QUITTING, EventKind.EXITED): ({}, State.CLEANING, (ProcessAction.CLEAN,)),
    (State.QUITTING, EventKind.LIMIT_REACHED): ({}, State.KILLING, (ProcessAction.KILL,)),
    (State.KILLING, EventKind.START): ({}, State.KILLING, ()),
    (State.KILLING, EventKind.RESTART): ({}, State.KILLING, ()),
    (State.KILLING, EventKind.STOP): ({"wanted": True}, State.KILLING, ()),
    (State.KILLING, EventKind.HUNG): ({}, State.KILLING, ()),
    (State.KILLING, EventKind.FORCE_STOP): ({"wanted": True}, State.KILLING, ()),
    (State.KILLING, EventKind.EXITED): ({}, State.CLEANING, (ProcessAction.CLEAN,)),
    (State.CLEANING, EventKind.START): ({}, State.CLEANING, ()),
    (State.CLEANING, EventKind.RESTART): ({}, State.CLEANING, ()),
    (State.CLEANING, EventKind.STOP): ({"wanted": True}, State.CLEANING, ()),
    (State.CLEANING, EventKind.FORCE_STOP): ({"wanted": True}, State.CLEANING, (ProcessAction.ESCALATE_CLEAN,)),
    (State.CLEANING, EventKind.CLEANED): (
        {"wanted": True, "exit_status": CRASH},
        State.BACKOFF,
        (SetTimer(EventKind.RETRY_DUE, 0.5),),
    ),
    (State.BACKOFF, EventKind.START): ({"wanted": True}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.BACKOFF, EventKind.RESTART): ({"wanted": True}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.BACKOFF, EventKind.STOP): ({"wanted": True}, State.INACTIVE, ()),
    (State.BACKOFF, EventKind.FORCE_STOP): ({"wanted": True}, State.INACTIVE, ()),
    (State.BACKOFF, EventKind.RETRY_DUE): ({"wanted": True}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.ENDED, EventKind.START): ({"exit_status": CRASH}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.ENDED, EventKind.RESTART): ({"exit_status": CRASH}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.ENDED, EventKind.STOP): ({"exit_status": CRASH}, State.ENDED, ()),
    (State.ENDED, EventKind.FORCE_STOP): ({"exit_status": CRASH}, State.ENDED, ()),
    (State.FAILED, EventKind.START): ({"failures": 9}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.FAILED, EventKind.RESTART): ({"failures": 9}, State.SPAWNING, (ProcessAction.SPAWN,)),
    (State.FAILED, EventKind.STOP): ({"failures": 9}, State.INACTIVE, ()),
    (State.FAILED, EventKind.FORCE_STOP): ({"failures": 9}, State.FAILED, ()),
    **{
        (state, kind): ({"wanted": True, "hold": state}, after, ())
        for state in State
        if state in HELD_STATES
        for kind, after in (
            (EventKind.START, state),
            (EventKind.RESTART, state),
            (EventKind.STOP, State.INACTIVE),
            (EventKind.FORCE_STOP, State.INACTIVE),
        )
    },
    **{(state, EventKind.HOLD): ({}, State.STANDBY if state in WAITS else state, ()) for state in State},
    **{
        (state, EventKind.LET_GO): ({"hold": state}, State.SPAWNING, (ProcessAction.SPAWN,))
        if state in WAITS
        else ({"hold": State.HELD}, state, ())
        for state in State
    },
}


def walk(
    kind: EventKind, before: Machine, policy: ProcessSpec = POLICY, **event: Any
) -> tuple[Machine, tuple[object, ...]]:
    """Apply one event; return the next machine and the actions."""
    exit_status = CRASH if kind in {EventKind.EXITED, EventKind.SPAWN_FAILED} else None
    hold = State.STANDBY if kind is EventKind.HOLD else None
    return step(policy, before, Event(kind, **{"exit_status": exit_status, "hold": hold, **event}), NOW)


def test_the_table_is_total() -> None:
    """Each state has a row, and each row has an entry for every event."""
    assert {state: set(row) for state, row in TABLE.items()} == {state: set(EventKind) for state in State}


def test_the_edges_below_are_all_there_are() -> None:
    """An edge that is not in EDGES cannot happen."""
    assert {(state, kind) for state in State for kind in EventKind if possible(state, kind)} == set(EDGES)


@pytest.mark.parametrize(("edge", "expected"), EDGES.items(), ids=lambda value: str(value)[:60])
def test_an_edge(edge: tuple[State, EventKind], expected: tuple[dict[str, Any], State, tuple[object, ...]]) -> None:
    """An edge leads to the expected state, and has the expected actions."""
    (state, kind), (fields, after, actions) = edge, expected
    assert walk(kind, Machine(state=state, **fields))[0].state is after
    assert walk(kind, Machine(state=state, **fields))[1] == actions


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", EventKind)
def test_what_cannot_happen_changes_nothing(state: State, kind: EventKind) -> None:
    """An impossible pair leaves the machine as it is and has no actions."""
    before = Machine(state=state, wanted=True, failures=2)
    if not possible(state, kind):
        assert walk(kind, before) == (before, ())


def test_forgiven_after_a_proven_stay() -> None:
    """A process that stayed up long enough starts again with the shortest wait."""
    after, _ = walk(EventKind.PROVEN, Machine(State.RUNNING, wanted=True, failures=5))
    assert after.failures == 0


@pytest.mark.parametrize(
    ("restart", "exit_status", "state"),
    [
        (Restart.ALWAYS, ExitStatus(code=0), State.BACKOFF),
        (Restart.ALWAYS, ExitStatus(signal=9), State.BACKOFF),
        (Restart.ON_FAILURE, ExitStatus(code=0), State.ENDED),
        (Restart.ON_FAILURE, ExitStatus(code=3), State.BACKOFF),
        (Restart.ON_FAILURE, ExitStatus(signal=15), State.BACKOFF),
        (Restart.NEVER, ExitStatus(code=0), State.ENDED),
        (Restart.NEVER, ExitStatus(code=3), State.ENDED),
    ],
)
def test_the_restart_policy(restart: Restart, exit_status: ExitStatus, state: State) -> None:
    """The policy decides whether an exit that nobody asked for is followed by another try."""
    cleaning = Machine(State.CLEANING, wanted=True, exit_status=exit_status)
    assert walk(EventKind.CLEANED, cleaning, POLICY._replace(restart=restart))[0].state is state


def test_a_hung_process_counts_as_failed_even_if_it_then_ends_well() -> None:
    """A process that had to be ended because it hung has failed, whatever its exit code."""
    hung, _ = walk(EventKind.HUNG, Machine(State.RUNNING, wanted=True))
    assert (hung.wanted, hung.hung, hung.asked) == (True, True, False)
    cleaning, _ = step(POLICY, hung, Event(EventKind.EXITED, ExitStatus(code=0)), NOW)
    after, _ = walk(EventKind.CLEANED, cleaning, POLICY._replace(restart=Restart.ON_FAILURE))
    assert (after.state, after.failures) == (State.BACKOFF, 1)


@pytest.mark.parametrize("kind", [EventKind.START, EventKind.RESTART])
@pytest.mark.parametrize("restart", Restart)
def test_an_order_that_comes_while_a_failed_one_ends_waits_for_nothing(kind: EventKind, restart: Restart) -> None:
    """It acts like an order in backoff; it was lost before, and the wait began, or the process stayed ended."""
    policy = POLICY._replace(restart=restart)
    ordered, _ = walk(kind, Machine(State.CLEANING, wanted=True, exit_status=CRASH), policy)
    after, actions = walk(EventKind.CLEANED, ordered, policy)
    assert (after.state, after.prompted, actions) == (State.SPAWNING, False, (ProcessAction.SPAWN,))
    assert after.failures == (0 if restart is Restart.NEVER else 1)
    hung, _ = walk(EventKind.HUNG, Machine(State.RUNNING, wanted=True), policy)
    ordered, _ = walk(kind, hung, policy)
    cleaning, _ = step(policy, ordered, Event(EventKind.EXITED, CRASH), NOW)
    assert walk(EventKind.CLEANED, cleaning, policy)[0].state is State.SPAWNING


def test_an_order_that_comes_while_the_last_failure_is_cleaned_up_saves_nothing() -> None:
    """A critical process is given up nevertheless; and a stop that comes after the order counts."""
    policy = POLICY._replace(critical=True, give_up=GiveUp(1, 300.0))
    cleaning = Machine(State.CLEANING, wanted=True, exit_status=CRASH)
    ordered, _ = walk(EventKind.START, cleaning, policy)
    assert walk(EventKind.CLEANED, ordered, policy)[0].state is State.FAILED
    stopped, _ = walk(EventKind.STOP, ordered)
    assert walk(EventKind.CLEANED, stopped)[0].state is State.INACTIVE


def test_a_restart_that_was_asked_for_is_no_failure() -> None:
    """After an order to restart, the process is started at once, and no failure is counted."""
    stopping, _ = walk(EventKind.RESTART, Machine(State.RUNNING, wanted=True))
    cleaning, _ = walk(EventKind.EXITED, stopping)
    after, actions = walk(EventKind.CLEANED, cleaning)
    assert (after.state, after.failures, actions) == (State.SPAWNING, 0, (ProcessAction.SPAWN,))


def test_an_order_to_start_during_a_stop_is_kept() -> None:
    """After a stop, and a start before it has exited, it is started again."""
    machine, _ = walk(EventKind.STOP, Machine(State.RUNNING, wanted=True))
    for kind in (EventKind.START, EventKind.EXITED, EventKind.CLEANED):
        machine, _ = walk(kind, machine)
    assert machine.state is State.SPAWNING


def test_a_stop_with_a_limit_replaces_the_old_limit() -> None:
    """The ordered stop may have less time left than a stop already under way."""
    _, actions = walk(EventKind.STOP, Machine(State.STOPPING, wanted=True), limit_s=0.25)
    assert actions == (SetTimer(EventKind.LIMIT_REACHED, 0.25),)
    _, actions = walk(EventKind.STOP, Machine(State.RUNNING, wanted=True), limit_s=0.0)
    assert actions == (ProcessAction.REQUEST_END, SetTimer(EventKind.LIMIT_REACHED, 0.0))


def test_a_forced_stop_is_an_order_and_a_kill_at_the_limit_is_none() -> None:
    """The exit after the former was asked for, and no start follows; the latter does not change what is wanted."""
    running = Machine(State.RUNNING, wanted=True)
    forced, _ = walk(EventKind.FORCE_STOP, running)
    assert (forced.asked, forced.wanted, forced.forced) == (True, False, True)
    hung, _ = walk(EventKind.HUNG, running)
    killed, _ = walk(EventKind.LIMIT_REACHED, hung)
    assert (killed.asked, killed.wanted, killed.forced) == (False, True, False)


def test_a_stop_of_what_is_ended_for_being_hung_is_an_order() -> None:
    """From then on its exit counts as asked for, and no start follows."""
    hung, _ = walk(EventKind.HUNG, Machine(State.RUNNING, wanted=True))
    stopping, _ = walk(EventKind.STOP, hung)
    assert (stopping.asked, stopping.wanted) == (True, False)


def test_force_ends_with_the_life_that_it_was_meant_for() -> None:
    """The remains of the next run get TERM first."""
    cleaning = Machine(State.CLEANING, wanted=True, asked=True, forced=True)
    machine, _ = walk(EventKind.CLEANED, cleaning)
    for kind in (EventKind.SPAWNED, EventKind.EXITED):
        machine, actions = walk(kind, machine)
    assert actions == (ProcessAction.CLEAN,)


def test_stacks_are_asked_for_once_before_the_kill() -> None:
    """A hung tailscaled gets QUIT, half a second, then KILL."""
    policy = POLICY._replace(quit_before_kill=True)
    quitting, actions = walk(EventKind.LIMIT_REACHED, Machine(State.STOPPING), policy)
    assert (quitting.state, actions) == (
        State.QUITTING,
        (ProcessAction.REQUEST_STACKS, SetTimer(EventKind.LIMIT_REACHED, QUIT_GRACE_S)),
    )
    assert walk(EventKind.LIMIT_REACHED, quitting, policy)[1] == (ProcessAction.KILL,)


def test_one_that_follows_others_waits_for_them() -> None:
    """A process with `after` is not spawned by the order to start."""
    after, actions = walk(EventKind.START, Machine(), POLICY._replace(ordered=True))
    assert (after.state, after.wanted, actions) == (State.WAITING, True, ())


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize(
    ("kind", "before"),
    [
        (EventKind.START, Machine()),
        (EventKind.RESTART, Machine(State.ENDED)),
        (EventKind.RELEASED, Machine(State.WAITING)),
        (EventKind.RETRY_DUE, Machine(State.BACKOFF, wanted=True)),
        (EventKind.START, Machine(State.BACKOFF, wanted=True)),
        (EventKind.CLEANED, Machine(State.CLEANING, wanted=True, asked=True)),
    ],
)
def test_whatever_leads_to_a_start_waits_while_it_is_held(hold: State, kind: EventKind, before: Machine) -> None:
    """Its state says what it waits for; when let go, it waits for the processes that it needs, or starts."""
    for ordered in (False, True):
        policy = POLICY._replace(ordered=ordered)
        held, actions = walk(kind, before._replace(hold=hold), policy)
        assert (held.state, held.hold, actions) == (hold, hold, ())
        free, actions = walk(EventKind.LET_GO, held, policy)
        assert (free.state, free.hold) == (State.WAITING if ordered else State.SPAWNING, None)
        assert actions == (() if ordered else (ProcessAction.SPAWN,))


@pytest.mark.parametrize("state", State)
def test_a_hold_is_kept_whatever_a_process_is_doing(state: State) -> None:
    """A running process continues, and its next start waits: files are not replaced while it uses them."""
    assert walk(EventKind.HOLD, Machine(state, wanted=True))[0].hold is State.STANDBY


def test_only_critical_processes_are_given_up() -> None:
    """Too many failures in the window end a critical process; any other one is retried for ever."""
    for critical, state in ((True, State.FAILED), (False, State.BACKOFF)):
        policy = POLICY._replace(critical=critical, give_up=GiveUp(3, 300.0))
        machine = Machine(State.SPAWNING, wanted=True)
        for _ in range(3):
            machine, actions = walk(EventKind.SPAWN_FAILED, machine._replace(state=State.SPAWNING), policy)
        assert machine.state is state
        assert (actions == (GiveUpOn(3),)) is critical


def test_one_that_is_given_up_counts_what_it_is_given_up_for() -> None:
    """Its failures need not be in a row: forgiven ones are still in the window."""
    policy = POLICY._replace(critical=True, give_up=GiveUp(3, 300.0))
    machine = Machine(State.SPAWNING, wanted=True)
    for _ in range(3):
        spawning = machine._replace(state=State.SPAWNING, failures=0)
        machine, _ = step(policy, spawning, Event(EventKind.SPAWN_FAILED, CRASH), Moment(1.0, 0.0))
    assert (machine.state, machine.failures) == (State.FAILED, 3)


def test_failures_outside_the_window_do_not_count() -> None:
    """Three failures, each a window apart, are no reason to give up."""
    policy = POLICY._replace(critical=True, give_up=GiveUp(2, 10.0))
    machine = Machine(State.SPAWNING, wanted=True)
    for now_s in (0.0, 10.0, 20.0, 29.9):
        spawning = machine._replace(state=State.SPAWNING)
        assert machine.state is not State.FAILED
        machine, _ = step(policy, spawning, Event(EventKind.SPAWN_FAILED, CRASH), Moment(now_s, 0.0))
    assert machine.state is State.FAILED


@given(st.integers(0, 255))
def test_a_shell_would_say_the_same(code: int) -> None:
    """An exit code stands for itself, a signal for 128 plus its number."""
    assert ExitStatus(code=code).shell_status == code
    assert ExitStatus(signal=code % 64 + 1).shell_status == 128 + code % 64 + 1


class AnyLife(RuleBasedStateMachine):
    """Simulates the environment: gives orders at random and carries out every action."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = ProcessSpec("app", ("app",), {}, critical=True, give_up=GiveUp(4, 50.0), quit_before_kill=True)
        self.machine = Machine()
        self.now_s = 0.0
        self.alive = False
        self.cleaning = False
        self.spawning = False
        self.timers: list[SetTimer] = []

    def feed(self, event: Event, jitter: float = 0.5) -> None:
        """Apply one event, and record the actions."""
        assert possible(self.machine.state, event.kind), (self.machine.state, event.kind)
        before = self.machine.state
        self.machine, actions = step(self.policy, self.machine, event, Moment(self.now_s, jitter))
        if self.machine.state is not before:
            self.timers = []
        for action in actions:
            if action is ProcessAction.SPAWN:
                assert self.machine.hold is None
                assert not self.alive
                assert not self.cleaning
                self.spawning = True
            elif action is ProcessAction.CLEAN:
                self.cleaning = True
            elif isinstance(action, SetTimer):
                self.timers.append(action)
            elif action in {ProcessAction.REQUEST_END, ProcessAction.KILL, ProcessAction.REQUEST_STACKS}:
                assert self.alive

    @precondition(lambda self: not self.spawning)
    @rule(kind=st.sampled_from([EventKind.START, EventKind.STOP, EventKind.RESTART, EventKind.FORCE_STOP]))
    def order(self, kind: EventKind) -> None:
        """Give an order."""
        if possible(self.machine.state, kind):
            self.feed(Event(kind))

    @precondition(lambda self: not self.spawning)
    @rule(hold=st.sampled_from([None, *HOLDS]))
    def hold(self, hold: State | None) -> None:
        """Hold the starts, change the reason, or let them go, as the backups do."""
        self.feed(Event(EventKind.LET_GO) if hold is None else Event(EventKind.HOLD, hold=hold))

    @precondition(lambda self: self.spawning)
    @rule(works=st.booleans(), jitter=st.floats(0, 1, exclude_max=True))
    def spawn(self, *, works: bool, jitter: float) -> None:
        """Complete the requested spawn, with success or without."""
        self.spawning = False
        self.alive = works
        self.feed(Event(EventKind.SPAWNED) if works else Event(EventKind.SPAWN_FAILED, ExitStatus(code=127)), jitter)

    @precondition(lambda self: self.alive)
    @rule(exit_status=st.sampled_from([ExitStatus(code=0), ExitStatus(code=1), ExitStatus(signal=9)]))
    def exit(self, exit_status: ExitStatus) -> None:
        """Let the process exit."""
        self.alive = False
        self.feed(Event(EventKind.EXITED, exit_status))

    @precondition(lambda self: self.cleaning)
    @rule(jitter=st.floats(0, 1, exclude_max=True))
    def cleaned(self, jitter: float) -> None:
        """Complete the cleaning."""
        self.cleaning = False
        self.feed(Event(EventKind.CLEANED), jitter)

    @precondition(lambda self: self.timers and not self.spawning)
    @rule(data=st.data())
    def timer(self, data: st.DataObject) -> None:
        """Let a timer of this state expire."""
        timer = data.draw(st.sampled_from(self.timers))
        self.timers.remove(timer)
        self.now_s += timer.after_s
        self.feed(Event(timer.kind))

    @invariant()
    def never_stuck(self) -> None:
        """A process that is wanted has something under way that leads to another state."""
        held = self.machine.hold is not None and self.machine.state is self.machine.hold
        waits = self.alive or self.cleaning or self.spawning or bool(self.timers) or held
        assert waits or not self.machine.wanted

    @invariant()
    def the_state_tells_the_truth(self) -> None:
        """The state is a living one exactly while the process is alive."""
        living = {State.RUNNING, State.STOPPING, State.QUITTING, State.KILLING}
        assert (self.machine.state in living) is self.alive
        assert (self.machine.state is State.CLEANING) is self.cleaning
        assert (self.machine.state is State.BACKOFF) is (self.machine.next_try_s is not None)


TestAnyLife = AnyLife.TestCase
