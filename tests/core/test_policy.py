"""The next action that brings tailscaled to the state that its owner wants."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from supervisor.core.login_machine import step
from supervisor.core.policy import HANDS_OFF_S, leaves_login_to_others, next_action
from supervisor.core.retry import LoginRetry
from supervisor.core.tailnet import (
    Action,
    Backend,
    Choice,
    LoginPrefs,
    Observation,
    Pending,
    Stage,
    TailnetEvent,
    TailnetEventKind,
    TailnetMachine,
)

KEY = b"key"
OUT = LoginPrefs(logged_out=True)
TRIED = LoginRetry(KEY, begun_s=0.0)


def machine(state: str, **fields: Any) -> TailnetMachine:
    """Return a machine that has seen tailscaled in this state."""
    return TailnetMachine(state=state, seen=True, **fields)


def trying(state: str, **fields: Any) -> TailnetMachine:
    """Return a machine whose key has been handed to tailscaled."""
    return machine(state, stage=Stage.TRYING, retry=TRIED, key=KEY, **fields)


@pytest.mark.parametrize(
    ("before", "action"),
    [
        (machine("NeedsLogin", key=KEY), Action.FETCH_KEY),
        (machine("NeedsLogin", key=KEY, retry=LoginRetry(KEY, next_try_s=200.0)), Action.NOTHING),
        (machine("NeedsLogin"), Action.ASK_URL),
        (machine("NeedsLogin", url_asked_s=90.0), Action.NOTHING),
        (machine("NeedsLogin", url_asked_s=60.0), Action.ASK_URL),
        (machine("NeedsLogin", url=True), Action.NOTHING),
        (machine("NeedsLogin", key=KEY, url=True), Action.FETCH_KEY),
        (machine("NeedsLogin", key=KEY, url=True, retry=LoginRetry(KEY, error="no")), Action.NOTHING),
        (machine("NeedsLogin", key=KEY, url=True, retry=LoginRetry(b"x", error="no")), Action.FETCH_KEY),
        (
            machine("NeedsLogin", key=KEY, retry=LoginRetry(KEY, next_try_s=200.0), by_hand=Pending.URL),
            Action.ASK_URL,
        ),
        (trying("NeedsLogin"), Action.NOTHING),
        (trying("NeedsLogin", by_hand=Pending.URL), Action.NOTHING),
        (machine("NeedsLogin", stage=Stage.RELEASING), Action.RELEASE_KEY),
        (machine("NeedsLogin", choice=Choice.DISCONNECTED, key=KEY), Action.NOTHING),
        (machine("NeedsLogin", choice=Choice.DISCONNECTED, stage=Stage.RELEASING), Action.RELEASE_KEY),
        (machine("NeedsLogin", choice=Choice.FORGOTTEN, key=KEY), Action.NOTHING),
        (machine("NeedsLogin", choice=Choice.FORGOTTEN, have_node_key=True), Action.LOG_OUT),
        (machine("NeedsLogin", choice=Choice.FORGOTTEN, stage=Stage.RELEASING), Action.RELEASE_KEY),
        (machine("Running", adjusted=True), Action.NOTHING),
        (machine("Running"), Action.ADJUST),
        (machine("Running", adjusted=True, key=KEY), Action.NOTHING),
        (machine("Running", adjusted=True, key=KEY, replaces=True), Action.FETCH_KEY),
        (machine("Running", choice=Choice.DISCONNECTED), Action.SWITCH_OFF),
        (machine("Running", choice=Choice.FORGOTTEN), Action.LOG_OUT),
        (machine("Stopped", have_node_key=True), Action.KEEP_LOGIN),
        (machine("Stopped", have_node_key=True, switched_off=True), Action.SWITCH_ON),
        (machine("Stopped"), Action.NOTHING),
        (machine("Stopped", attached=True), Action.NOTHING),
        (machine("Stopped", attached=True, ordered_s=1.0), Action.SWITCH_ON),
        (machine("Stopped", choice=Choice.DISCONNECTED), Action.NOTHING),
        (machine("Stopped", choice=Choice.FORGOTTEN, have_node_key=True), Action.LOG_OUT),
        (machine("Stopped", choice=Choice.FORGOTTEN), Action.NOTHING),
        (machine("NoState", choice=Choice.DISCONNECTED), Action.NOTHING),
        (machine("Running", have_node_key=True, prefs=OUT), Action.KEEP_LOGIN),
        (machine("NeedsLogin", have_node_key=True, prefs=OUT, key=KEY), Action.KEEP_LOGIN),
        (machine("NeedsLogin", have_node_key=True, prefs=OUT, key=KEY, replaces=True), Action.FETCH_KEY),
        (trying("Running", have_node_key=True, prefs=OUT, replaces=True, adjusted=True), Action.NOTHING),
        (machine("NeedsLogin", prefs=OUT, key=KEY), Action.FETCH_KEY),
        (machine("Stopped", have_node_key=True, prefs=OUT, attached=True), Action.NOTHING),
        (machine("Running", choice=Choice.DISCONNECTED, have_node_key=True, prefs=OUT), Action.SWITCH_OFF),
        (machine("Later", key=KEY), Action.NOTHING),
    ],
)
def test_what_is_done_next(before: TailnetMachine, action: Action) -> None:
    """Each case leads to its action."""
    assert next_action(before, 100.0) is action


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("choice", Choice)
def test_what_is_left_of_a_login_is_dropped(choice: Choice, *, ours: bool) -> None:
    """tailscaled took a late message for a login; another program's logout is waited for, and a sidecar stays."""

    def actions(before: TailnetMachine, now_s: float = 100.0) -> set[object]:
        look = Observation(state=before.state, have_node_key=before.have_node_key)
        return {*step(before, TailnetEvent(TailnetEventKind.OBSERVED, seen=look), now_s)[1]}

    logged_out = machine("Stopped", choice=choice, since_s=99.0, logged_out=ours)
    assert actions(logged_out) == ({Action.DROP_REMAINS} if ours else set())
    assert actions(logged_out, 200.0) == {Action.DROP_REMAINS}
    assert Action.DROP_REMAINS not in actions(logged_out._replace(dropped=True), 200.0)
    assert not actions(logged_out._replace(leaving=True), 200.0)
    assert not actions(logged_out._replace(running=Action.LOG_OUT), 200.0)
    assert Action.DROP_REMAINS not in actions(logged_out._replace(have_node_key=True), 200.0)
    assert not {Action.DROP_REMAINS, Action.LOG_OUT} & actions(logged_out._replace(attached=True), 200.0)


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("have_node_key", [True, False])
@pytest.mark.parametrize("prefs", [LoginPrefs(), OUT, LoginPrefs(switched_off=True)])
@pytest.mark.parametrize("choice", Choice)
@pytest.mark.parametrize("state", Backend)
def test_commands_without_an_effect_are_not_repeated_without_a_pause(
    state: str, choice: Choice, prefs: LoginPrefs, *, have_node_key: bool, attached: bool
) -> None:
    """tailscaled may answer that it has done something, and stay as it was: at most ten commands in ten seconds."""
    found, commands = TailnetMachine(attached, choice), 0
    look = Observation(state=state, have_node_key=have_node_key, key=KEY, prefs=prefs)
    for now_s in (100.0 + at / 50 for at in range(500)):
        found, actions = step(found, TailnetEvent(TailnetEventKind.OBSERVED, seen=look), now_s)
        done = [action for action in actions if isinstance(action, Action)]
        if Action.FETCH_KEY in done:
            found, _ = step(found, TailnetEvent(TailnetEventKind.KEY_READY), now_s)
            done = [Action.LOG_IN]
        commands += sum(action is not Action.MAINTAIN for action in done)
        for action in done:
            found, _ = step(found, TailnetEvent(TailnetEventKind.DONE, action=action), now_s)
    assert commands <= 10


def test_no_one_is_logged_in_against_their_will() -> None:
    """In any state, an owner who chose to be away is never connected, and if the choice is unknown nothing is done."""
    flags = itertools.product([True, False], repeat=5)
    states = (*Backend, "Later")
    for state, stage, person, (one, two, three, four, five) in itertools.product(states, Stage, Pending, flags):
        found = TailnetMachine(
            stage=stage,
            state=state,
            by_hand=person,
            have_node_key=one,
            replaces=two,
            url=three,
            attached=four,
            key=KEY if five else None,
            prefs=OUT,
        )
        for choice in (Choice.DISCONNECTED, Choice.FORGOTTEN):
            action = next_action(found._replace(choice=choice), 100.0)
            assert action in {Action.NOTHING, Action.SWITCH_OFF, Action.LOG_OUT, Action.RELEASE_KEY}
        assert next_action(found._replace(choice=Choice.UNKNOWN), 100.0) is Action.NOTHING


def test_a_login_is_left_to_the_sidecar_first() -> None:
    """This lasts only for a moment, and does not apply if the owner has ordered a login."""
    passive = machine("NeedsLogin", attached=True, since_s=100.0)
    assert leaves_login_to_others(passive, 100.0)
    assert not leaves_login_to_others(passive, 100.0 + HANDS_OFF_S)
    assert not leaves_login_to_others(passive._replace(state="Running"), 100.0)
    assert not leaves_login_to_others(passive._replace(ordered_s=1.0), 100.0)
    assert not leaves_login_to_others(passive._replace(attached=False), 100.0)
