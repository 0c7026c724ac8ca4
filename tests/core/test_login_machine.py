"""The course of a login: each distinct cell of the table, and the table as a whole, driven at random."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor.core.counts import NO_ANSWER
from supervisor.core.login_machine import OBEYED_S, TABLE, step
from supervisor.core.retry import MOST_REFUSALS, LoginRetry, Outage
from supervisor.core.tailnet import (
    Action,
    Backend,
    Choice,
    LogEntry,
    LoginFailure,
    LoginPrefs,
    Observation,
    Pending,
    Stage,
    TailnetEvent,
    TailnetEventKind,
    TailnetMachine,
)

KEY, OTHER = b"key", b"other"
NOW = 100.0
UNDER_WAY = LoginRetry(KEY, begun_s=NOW, wish=1)
NEEDS = TailnetMachine(state=Backend.NEEDS_LOGIN, seen=True, key=KEY, wish=1)
TRYING = NEEDS._replace(stage=Stage.TRYING, retry=UNDER_WAY)
REPLACING = TRYING._replace(state=Backend.RUNNING, replaces=True, have_node_key=True, node_key="old", pasted=True)
# Actions that need a call to tailscaled.
COMMANDS = frozenset(Action) - {
    *(Action.NOTHING, Action.RESET, Action.CANCEL, Action.RESTART_TAILSCALED, Action.DROP_REMAINS)
}
AWAY = frozenset({Action.SWITCH_OFF, Action.RELEASE_KEY, Action.LOG_OUT})


def after(
    machine: TailnetMachine, kind: TailnetEventKind, now_s: float = NOW, **fields: Any
) -> tuple[TailnetMachine, list[Action]]:
    """Return the next machine, and its actions except log entries."""
    found, actions = step(machine, TailnetEvent(kind, **fields), now_s)
    return found, [action for action in actions if isinstance(action, Action)]


def seen(machine: TailnetMachine, now_s: float = NOW, **fields: Any) -> tuple[TailnetMachine, list[Action]]:
    """Return the same after an observation; fields that are not given are as before."""
    look = Observation(state=machine.state, have_node_key=machine.have_node_key, key=machine.key, life=machine.life)
    return after(machine, TailnetEventKind.OBSERVED, now_s, seen=look._replace(**fields))


def records(machine: TailnetMachine, kind: TailnetEventKind, **fields: Any) -> list[str]:
    """Return the events that are logged."""
    actions = step(machine, TailnetEvent(kind, **fields), NOW)[1]
    return [action.event for action in actions if isinstance(action, LogEntry)]


def test_the_table_is_total() -> None:
    """Every event is handled in every stage."""
    assert set(TABLE) == {(stage, kind) for stage in Stage for kind in TailnetEventKind}
    for stage in Stage:
        for kind in TailnetEventKind:
            step(TailnetMachine(stage=stage), TailnetEvent(kind), NOW)


def test_a_key_is_fetched_handed_over_and_taken() -> None:
    """One command follows the other; once the login has succeeded, the tries for it are forgotten."""
    machine, actions = seen(NEEDS._replace(pasted=True))
    assert (machine.stage, machine.running, actions) == (Stage.FETCHING, Action.FETCH_KEY, [Action.FETCH_KEY])
    machine, actions = after(machine, TailnetEventKind.KEY_READY, ephemeral=True)
    assert (machine.stage, machine.retry.wish, actions) == (Stage.TRYING, 1, [Action.LOG_IN])
    machine, actions = after(machine, TailnetEventKind.DONE, action=Action.LOG_IN, prefs=LoginPrefs())
    assert (machine.stage, machine.running, actions) == (Stage.TRYING, Action.NOTHING, [])
    machine, _ = seen(machine, state=Backend.STARTING, node_key="n")
    assert machine.ephemeral
    machine, actions = seen(machine, state=Backend.RUNNING, online=True, node_key="n", have_node_key=True)
    assert (machine.stage, machine.pasted, machine.results) == (Stage.IDLE, False, (("succeeded", 1),))
    assert actions == [Action.ADJUST]


def test_a_device_that_waits_for_approval_is_known_for_what_it_is() -> None:
    """Its key was accepted, and this process may end before it is approved."""
    machine, _ = seen(TRYING._replace(makes_ephemeral=True), state=Backend.NEEDS_APPROVAL, node_key="n")
    assert (machine.stage, machine.ephemeral) == (Stage.TRYING, True)
    machine, _ = seen(REPLACING._replace(makes_ephemeral=True), state=Backend.STARTING, node_key="old")
    assert not machine.ephemeral


def test_three_refusals_release_the_key() -> None:
    """The first is logged and answers its wish; a person who asked for the try then gets a login URL."""
    machine = TRYING._replace(by_hand=Pending.TRY, pasted=True)
    assert records(machine, TailnetEventKind.REFUSED, why="expired") == ["tailnet: the key was refused"]
    for _ in range(MOST_REFUSALS):
        assert machine.stage is Stage.TRYING
        machine, _ = after(machine, TailnetEventKind.REFUSED, why="expired")
    assert (machine.stage, machine.results) == (Stage.RELEASING, (("refused", 3),))
    assert machine.failure == LoginFailure(1, "expired", pasted=True)
    machine, actions = seen(machine)
    assert actions == [Action.RELEASE_KEY]
    machine, _ = after(machine, TailnetEventKind.DONE, action=Action.RELEASE_KEY)
    assert (machine.stage, machine.by_hand) == (Stage.IDLE, Pending.URL)
    assert seen(machine)[1] == [Action.ASK_URL]


def test_being_told_to_wait_is_no_refusal() -> None:
    """tailscaled itself waits."""
    machine, _ = after(TRYING, TailnetEventKind.REFUSED, why="rate limit; retry after 3s")
    assert (machine.stage, machine.retry.refusals, machine.failure) == (Stage.TRYING, 0, None)


@pytest.mark.parametrize("stage", [Stage.IDLE, Stage.FETCHING, Stage.RELEASING])
def test_an_error_beside_a_login_is_no_answer(stage: Stage) -> None:
    """It is shown if a login is needed; a device that has one may get the error of one that was given up."""
    machine, _ = after(NEEDS._replace(stage=stage), TailnetEventKind.REFUSED, why="no")
    assert (machine.last_error, machine.failure, machine.retry) == ("no", None, LoginRetry())
    assert not after(machine._replace(state="Running", last_error=""), TailnetEventKind.REFUSED, why="no")[0].last_error


def test_a_key_that_is_not_to_be_had() -> None:
    """A passing failure is retried soon; after a final one a person gets a login URL, and a device keeps its login."""
    fetching = NEEDS._replace(stage=Stage.FETCHING, running=Action.FETCH_KEY, by_hand=Pending.TRY)
    machine, _ = after(fetching, TailnetEventKind.NO_KEY, why="no answer")
    assert (machine.stage, machine.failure, machine.by_hand) == (Stage.IDLE, LoginFailure(1, "no answer"), Pending.TRY)
    assert seen(machine, NOW + 4.0)[1] == []
    assert seen(machine, NOW + 5.0)[1] == [Action.FETCH_KEY]
    machine, _ = after(fetching, TailnetEventKind.NO_KEY, why="no", refusal="not permitted")
    assert (machine.retry.kind, machine.by_hand) == ("not permitted", Pending.URL)
    assert seen(machine)[1] == [Action.ASK_URL]
    machine, _ = after(
        fetching._replace(replaces=True, pasted=True), TailnetEventKind.NO_KEY, why="no", refusal="invalid"
    )
    assert (machine.replaces, machine.pasted) == (False, False)
    assert "keeps its login: no" in machine.last_error


@pytest.mark.parametrize("stage", [Stage.IDLE, Stage.RELEASING])
@pytest.mark.parametrize("kind", [TailnetEventKind.KEY_READY, TailnetEventKind.NO_KEY])
def test_a_late_key_is_not_used(stage: Stage, kind: TailnetEventKind) -> None:
    """Something else is wanted by now."""
    machine, actions = after(NEEDS._replace(stage=stage, running=Action.FETCH_KEY), kind)
    assert (machine.stage, machine.running, actions, machine.retry) == (stage, Action.NOTHING, [], LoginRetry())
    fetching = NEEDS._replace(stage=Stage.FETCHING, running=Action.FETCH_KEY, key=None)
    assert after(fetching, TailnetEventKind.KEY_READY)[1] == []


def test_connecting_again_waits_for_an_answer_that_may_be_on_its_way() -> None:
    """With the same key it is the same wish; another key is another wish, and is tried at once."""
    for key in (None, KEY):
        machine, actions = after(TRYING, TailnetEventKind.CONNECT, NOW + 1.0, key=key)
        assert (machine.stage, machine.wish, machine.retry, actions) == (Stage.TRYING, 1, UNDER_WAY, [])
    machine, _ = after(TRYING, TailnetEventKind.CONNECT, NOW + 1.0, key=OTHER)
    assert (machine.wish, machine.retry.wish) == (2, 1)
    assert seen(machine, NOW + 1.0, key=OTHER)[1] == [Action.FETCH_KEY]
    machine, _ = after(TRYING, TailnetEventKind.CONNECT, NOW + 11.0, key=KEY)
    assert (machine.stage, machine.wish) == (Stage.IDLE, 2)
    assert seen(machine, NOW + 11.0)[1] == [Action.FETCH_KEY]


def test_connecting_after_a_refusal_tries_at_once() -> None:
    """The answer is known: there is nothing to wait for."""
    refused, _ = after(TRYING, TailnetEventKind.REFUSED, why="expired")
    machine, _ = after(refused, TailnetEventKind.CONNECT, key=KEY)
    assert (machine.stage, machine.wish) == (Stage.IDLE, 2)
    assert machine.failure != LoginFailure(machine.wish, "expired")


def test_connecting_while_a_key_is_fetched() -> None:
    """The same key is waited for; another one cancels the fetch."""
    fetching = NEEDS._replace(stage=Stage.FETCHING, running=Action.FETCH_KEY)
    machine, actions = after(fetching, TailnetEventKind.CONNECT)
    assert (machine.stage, machine.wish, actions) == (Stage.FETCHING, 1, [])
    machine, actions = after(fetching, TailnetEventKind.CONNECT, key=OTHER)
    assert (machine.stage, machine.wish, actions) == (Stage.IDLE, 2, [Action.CANCEL])
    assert after(machine, TailnetEventKind.BROKEN_OFF)[0].running is Action.NOTHING


def test_connecting_without_the_new_key_lets_go_of_it() -> None:
    """The device keeps its existing login."""
    machine, _ = after(REPLACING, TailnetEventKind.CONNECT, NOW + 11.0)
    assert (machine.replaces, machine.pasted, machine.stage, machine.wish) == (False, False, Stage.IDLE, 2)
    assert seen(machine, NOW + 11.0, prefs=LoginPrefs(logged_out=True))[1] == [Action.KEEP_LOGIN]


def test_a_new_key_for_a_device_that_has_a_login() -> None:
    """It is another login only if the device has another node key; if the key is not accepted, the old one is kept."""
    machine, _ = after(NEEDS._replace(state=Backend.RUNNING, have_node_key=True), TailnetEventKind.CONNECT, key=OTHER)
    assert machine.replaces
    machine, _ = seen(REPLACING, online=True, node_key="old")
    assert machine.stage is Stage.TRYING
    assert seen(REPLACING, online=True, node_key="new")[0].stage is Stage.IDLE
    machine, actions = seen(REPLACING, NOW + 60.0, node_key="old")
    assert (machine.stage, machine.results) == (Stage.RELEASING, ((NO_ANSWER, 1),))
    assert (actions, machine.replaces) == ([Action.RELEASE_KEY], False)
    machine, _ = after(machine, TailnetEventKind.DONE, action=Action.RELEASE_KEY)
    assert (machine.stage, machine.by_hand) == (Stage.IDLE, Pending.NOTHING)


def test_a_login_without_any_word_is_given_up_on() -> None:
    """This happens after a minute, unless control cannot be reached at all."""
    assert seen(TRYING, NOW + 60.0, unreached=True)[0].stage is Stage.TRYING
    machine, _ = seen(TRYING, NOW + 60.0)
    assert (machine.stage, machine.failure) == (
        Stage.IDLE,
        LoginFailure(1, "the login brought neither success nor an error"),
    )


@pytest.mark.parametrize(
    ("before", "stage"),
    [
        (TRYING, Stage.RELEASING),
        (NEEDS, Stage.RELEASING),
        (TRYING._replace(stage=Stage.RELEASING, state="Running"), Stage.RELEASING),
        (NEEDS._replace(state="Running"), Stage.IDLE),
        (NEEDS._replace(state="Running", stage=Stage.FETCHING, running=Action.FETCH_KEY), Stage.IDLE),
    ],
)
def test_disconnecting_ends_a_login(before: TailnetMachine, stage: Stage) -> None:
    """tailscaled would otherwise keep trying; earlier errors no longer count."""
    machine, actions = after(before._replace(last_error="x", pasted=True), TailnetEventKind.DISCONNECT)
    assert (machine.stage, machine.choice, machine.wish) == (stage, Choice.DISCONNECTED, 2)
    assert (machine.pasted, machine.last_error, machine.retry) == (False, "", LoginRetry())
    assert actions == ([Action.CANCEL] if before.running is Action.FETCH_KEY else [])


def test_forgetting_and_thinking_better_of_it() -> None:
    """A logout that waits for control is cancelled; another forget does not change it."""
    machine, _ = after(
        NEEDS._replace(state=Backend.RUNNING, have_node_key=True), TailnetEventKind.DISCONNECT, forget=True
    )
    machine, actions = seen(machine)
    assert actions == [Action.LOG_OUT]
    assert after(machine, TailnetEventKind.DISCONNECT, forget=True)[1] == []
    assert after(machine, TailnetEventKind.CONNECT)[1] == [Action.CANCEL]
    assert after(machine, TailnetEventKind.DISCONNECT)[1] == [Action.CANCEL]
    done, _ = after(machine._replace(ephemeral=True, had_login=True), TailnetEventKind.DONE, action=Action.LOG_OUT)
    assert (done.ephemeral, done.had_login, done.adjusted) == (False, False, False)


def test_another_life_of_tailscaled_has_forgotten_everything() -> None:
    """Everything that it had been given is given again at once."""
    before = TRYING._replace(adjusted=True, prefs=LoginPrefs(), url_asked_s=1.0, forbidden=((Action.ADJUST, "no"),))
    machine, actions = seen(before, life=2)
    assert (machine.adjusted, machine.prefs, machine.forbidden) == (False, None, ())
    assert actions == [Action.RESET, Action.FETCH_KEY]
    lost, _ = after(before, TailnetEventKind.LOST, NOW + 1.0)
    assert (lost.lost, lost.since_s, after(lost, TailnetEventKind.LOST, NOW + 2.0)[0].since_s) == (
        True,
        NOW + 1.0,
        NOW + 1.0,
    )
    assert seen(lost)[1] == [Action.RESET, Action.FETCH_KEY]


def test_commands_that_fail_are_tried_again_later() -> None:
    """The wait grows with each; a forbidden command is not retried at all until a person orders something."""
    before = NEEDS._replace(running=Action.ASK_URL, key=None)
    machine, _ = after(before, TailnetEventKind.FAILED, action=Action.ASK_URL, why="no")
    assert (machine.running, machine.failure) == (Action.NOTHING, LoginFailure(1, "cannot ask for a login URL: no"))
    assert records(before, TailnetEventKind.FAILED, action=Action.ASK_URL, why="no") == [
        "tailnet: cannot ask for a login URL"
    ]
    assert records(machine, TailnetEventKind.FAILED, action=Action.ASK_URL, why="no") == []
    assert (seen(machine, NOW + 0.9)[1], seen(machine, NOW + 1.0)[1]) == ([], [Action.ASK_URL])
    machine, _ = after(before, TailnetEventKind.FAILED, action=Action.ASK_URL, why="late", passing=True)
    assert machine.failure is None
    machine, _ = after(before, TailnetEventKind.FAILED, action=Action.ASK_URL, why="403", forbidden=True)
    machine, actions = seen(machine, NOW + 99.0)
    assert (actions, "may not have this tailscaled ask for a login URL" in machine.may_not) == ([], True)
    assert seen(after(machine, TailnetEventKind.CONNECT)[0])[1] == [Action.ASK_URL]


def test_a_key_that_may_not_be_handed_over_is_not_fetched_again() -> None:
    """It would be created, and used up, for nothing."""
    before = TRYING._replace(running=Action.LOG_IN)
    machine, _ = after(before, TailnetEventKind.FAILED, action=Action.LOG_IN, why="403", forbidden=True)
    machine, actions = seen(machine, NOW + 99.0)
    assert (actions, "may not have this tailscaled log in with the key" in machine.may_not) == ([], True)


def test_a_key_that_could_not_be_handed_over_is_handed_over_again() -> None:
    """tailscaled does not have it."""
    machine, _ = after(TRYING._replace(running=Action.LOG_IN), TailnetEventKind.FAILED, action=Action.LOG_IN, why="no")
    assert (machine.stage, machine.retry.under_way) == (Stage.IDLE, False)
    assert seen(machine, NOW + 1.0)[1] == [Action.FETCH_KEY]


def test_a_command_that_ends_late_undoes_no_order() -> None:
    """If another key comes while one is being released, it gets its try, and no URL is requested as well."""
    releasing = NEEDS._replace(stage=Stage.RELEASING, by_hand=Pending.TRY, running=Action.RELEASE_KEY)
    machine, _ = after(releasing, TailnetEventKind.CONNECT, key=OTHER)
    machine, _ = after(machine, TailnetEventKind.DONE, action=Action.RELEASE_KEY)
    assert machine.by_hand is Pending.TRY
    assert seen(machine, key=OTHER)[1] == [Action.FETCH_KEY]


def test_a_login_by_url() -> None:
    """It counts as a login, and makes no ephemeral device; a URL from before a key does not count."""
    machine, _ = seen(NEEDS._replace(key=None, ephemeral=True), url=True)
    assert (machine.by_url, machine.pending_url) == (True, True)
    machine, _ = seen(machine, state=Backend.RUNNING, online=True)
    assert (machine.results, machine.ephemeral, machine.by_url) == ((("succeeded", 1),), False, False)
    assert not seen(TRYING, url=True)[0].pending_url


def test_a_device_that_is_connected_is_looked_after() -> None:
    """An outage gets help, but not while a key is tried; a restart of tailscaled waits for no command."""
    up = NEEDS._replace(state=Backend.RUNNING, adjusted=True)
    assert seen(up, online=True)[1] == [Action.MAINTAIN]
    machine, actions = seen(up._replace(outage=Outage(0.0, next_s=NOW)))
    assert (actions, machine.running) == ([Action.RESTART_CLIENT, Action.MAINTAIN], Action.MAINTAIN)
    assert after(machine, TailnetEventKind.FAILED, action=Action.MAINTAIN, why="x", forbidden=True)[0].forbidden == ()
    assert seen(machine._replace(outage=Outage(-2000.0)))[1] == [Action.RESTART_TAILSCALED]
    assert seen(REPLACING._replace(adjusted=True, outage=Outage(0.0, next_s=NOW)), node_key="old")[1] == []
    assert seen(up._replace(choice=Choice.UNKNOWN), online=True)[1] == [Action.MAINTAIN]
    helped, _ = after(up._replace(outage=Outage(0.0, next_s=NOW + 60.0)), TailnetEventKind.CONNECT)
    assert seen(helped)[1] == [Action.RESTART_CLIENT, Action.MAINTAIN]


def test_help_stays_due_until_there_is_time_for_it() -> None:
    """Help that becomes due during another command is not lost; a device that is back needs none."""
    busy = NEEDS._replace(state=Backend.RUNNING, adjusted=True, running=Action.MAINTAIN)
    machine, actions = seen(busy, removed=True)
    assert (actions, machine.help_due) == ([], True)
    free = machine._replace(running=Action.NOTHING)
    assert seen(free, removed=True)[1] == [Action.RESTART_CLIENT, Action.MAINTAIN]
    assert seen(seen(free, removed=True)[0]._replace(running=Action.NOTHING), removed=True)[1] == [Action.MAINTAIN]
    assert seen(free, online=True)[1] == [Action.MAINTAIN]


def test_a_login_that_lasts_is_settled() -> None:
    """After a minute the tries for it are forgotten."""
    before = NEEDS._replace(state=Backend.RUNNING, since_s=NOW, retry=LoginRetry(KEY, rounds=2), by_hand=Pending.TRY)
    assert seen(before, NOW + 59.0, online=True)[0].retry.rounds == 2
    machine, _ = seen(before, NOW + 60.0, online=True)
    assert (machine.retry, machine.by_hand) == (LoginRetry(), Pending.NOTHING)


def test_leaving_begins_nothing_more() -> None:
    """A sidecar keeps the login that it had."""
    machine, _ = after(NEEDS, TailnetEventKind.LEAVE)
    assert seen(machine)[1] == []
    assert NEEDS.closing_action is Action.NOTHING
    assert REPLACING._replace(attached=True).closing_action is Action.KEEP_LOGIN


@given(st.lists(st.tuples(st.sampled_from(["Running", "Stopped", "NeedsLogin"]), st.floats(0.1, 9.0)), max_size=40))
def test_a_sidecar_that_is_switched_off_stays_so(looks: list[tuple[str, float]]) -> None:
    """Without an order nothing is ever switched on; an order counts until it has been carried out."""
    now_s, passive = NOW, TailnetMachine(attached=True)
    ordered, _ = after(passive, TailnetEventKind.CONNECT)
    done = False
    for state, step_s in looks:
        now_s += step_s
        passive, actions = seen(passive._replace(running=Action.NOTHING), now_s, state=state)
        assert Action.SWITCH_ON not in actions
        ordered, _ = seen(ordered, now_s, state=state)
        done = done or (state == "Running" and now_s - NOW >= OBEYED_S)
        assert ordered.passive is done


class Model(RuleBasedStateMachine):
    """One tailnet whose owner, tailscaled and executor act at random."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = TailnetMachine()
        self.now_s = NOW
        self.handed_over: dict[bytes | None, float] = {}

    def feed(self, event: TailnetEvent) -> None:
        """Apply one event, and check the actions."""
        before = self.machine
        self.machine, actions = step(before, event, self.now_s)
        assert (self.machine, actions) == step(before, event, self.now_s)
        commands = [action for action in actions if action in COMMANDS]
        handing = before.running is Action.FETCH_KEY and commands == [Action.LOG_IN]
        if commands and not handing:
            assert before.running is Action.NOTHING
            assert len(commands) == 1 or commands == [Action.RESTART_CLIENT, Action.MAINTAIN]
        if commands:
            assert self.machine.running is commands[-1]
            assert not before.leaving or handing
        if self.machine.choice in {Choice.DISCONNECTED, Choice.FORGOTTEN}:
            assert AWAY.issuperset(commands)
        if event.kind in {TailnetEventKind.CONNECT, TailnetEventKind.DISCONNECT} or Action.RESET in actions:
            self.handed_over.clear()
        if Action.LOG_IN in commands:
            # A key that was refused for good is not tried again within a minute.
            refused_s = self.handed_over.pop(self.machine.key, None)
            assert refused_s is None or self.now_s - refused_s >= 60.0
        if self.machine.stage is Stage.RELEASING and self.machine.retry.refusals >= MOST_REFUSALS:
            self.handed_over.setdefault(self.machine.key, self.now_s)
        assert self.machine.wish >= before.wish
        if before.stage is Stage.HELD:
            assert not commands

    @rule(seconds=st.floats(0.0, 400.0))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    @rule(key=st.sampled_from([None, KEY, OTHER]))
    def connect(self, key: bytes | None) -> None:
        """Order a connection, as the owner does."""
        self.feed(TailnetEvent(TailnetEventKind.CONNECT, key=key))
        assert self.machine.choice is Choice.CONNECTED

    @rule(forget=st.booleans())
    def disconnect(self, *, forget: bool) -> None:
        """Order a disconnection, as the owner does."""
        self.feed(TailnetEvent(TailnetEventKind.DISCONNECT, forget=forget))
        assert (self.machine.pasted, self.machine.replaces, self.machine.trying) == (False, False, False)

    @rule(
        state=st.sampled_from([*Backend, "Later"]),
        life=st.integers(0, 1),
        node_key=st.sampled_from(["", "old", "new"]),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans()),
        key=st.sampled_from([None, KEY, OTHER]),
        prefs=st.sampled_from([None, LoginPrefs(), LoginPrefs(logged_out=True), LoginPrefs(switched_off=True)]),
    )
    def look(
        self,
        state: str,
        life: int,
        node_key: str,
        flags: tuple[bool, bool, bool, bool, bool],
        key: bytes | None,
        prefs: LoginPrefs | None,
    ) -> None:
        """Observe tailscaled."""
        self.feed(TailnetEvent(TailnetEventKind.OBSERVED, seen=Observation(state, life, node_key, *flags, key, prefs)))
        assert not self.machine.lost

    @rule(choice=st.sampled_from([None, *Choice]))
    def hold(self, choice: Choice | None) -> None:
        """Hold every start, or let it go, as the backups do; the files then have their own choice."""
        if choice is None:
            self.handed_over.clear()
            self.feed(TailnetEvent(TailnetEventKind.HOLD))
            assert self.machine.stage is Stage.HELD
        else:
            self.feed(TailnetEvent(TailnetEventKind.LET_GO, choice=choice))
            assert self.machine.stage is not Stage.HELD

    @rule()
    def lose(self) -> None:
        """Report that tailscaled does not answer."""
        self.feed(TailnetEvent(TailnetEventKind.LOST))

    @rule(why=st.sampled_from(["expired", "rate limit"]))
    def refuse(self, why: str) -> None:
        """Report an error from the bus."""
        self.feed(TailnetEvent(TailnetEventKind.REFUSED, why=why))

    @precondition(lambda self: self.machine.running is Action.FETCH_KEY)
    @rule(
        kind=st.sampled_from([TailnetEventKind.KEY_READY, TailnetEventKind.NO_KEY, TailnetEventKind.BROKEN_OFF]),
        refusal=st.sampled_from(["", "invalid"]),
    )
    def fetch(self, kind: TailnetEventKind, refusal: str) -> None:
        """End the fetch with a key, or without one."""
        self.feed(TailnetEvent(kind, why="no", refusal=refusal, ephemeral=True))

    @precondition(lambda self: self.machine.running not in {Action.NOTHING, Action.FETCH_KEY})
    @rule(
        kind=st.sampled_from([TailnetEventKind.DONE, TailnetEventKind.FAILED, TailnetEventKind.BROKEN_OFF]),
        forbidden=st.booleans(),
    )
    def end(self, kind: TailnetEventKind, *, forbidden: bool) -> None:
        """End the running command."""
        self.feed(TailnetEvent(kind, action=self.machine.running, why="no", forbidden=forbidden))
        assert self.machine.running is Action.NOTHING

    @rule()
    def leave(self) -> None:
        """Begin the end of the supervisor; in this model it may then continue."""
        self.feed(TailnetEvent(TailnetEventKind.LEAVE))
        self.machine = self.machine._replace(leaving=False)

    @invariant()
    def stage_and_data_agree(self) -> None:
        """tailscaled has a key in only one stage, one is fetched only in another, and refusals are limited."""
        machine = self.machine
        assert machine.trying is machine.retry.under_way
        assert machine.stage is not Stage.FETCHING or machine.running is Action.FETCH_KEY
        assert machine.retry.refusals <= MOST_REFUSALS
        assert machine.failure is None or machine.failure.wish <= machine.wish


TestModel = Model.TestCase
