"""Decides the next action that brings tailscaled to what its owner wants. Pure: the whole decision in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.tailnet import IN_A_TAILNET, SWITCHED_ON, Action, Backend, Choice, LoginPrefs, Pending, Stage

if TYPE_CHECKING:
    from supervisor.core.tailnet import TailnetMachine

# The operator of a sidecar logs it in right after its start; a login of ours would interfere.
HANDS_OFF_S = 5.0
# A login URL that does not arrive is requested again.
_URL_AGAIN_S = 30.0


def next_action(machine: TailnetMachine, now_s: float) -> Action:
    """Return the next action if no command is running."""
    # Switched off without a key it has logged out already.
    if machine.choice is Choice.FORGOTTEN and (machine.state in SWITCHED_ON or machine.have_node_key):
        return Action.LOG_OUT
    if machine.stage is Stage.RELEASING and machine.choice is not Choice.UNKNOWN:
        return Action.RELEASE_KEY
    if machine.choice is not Choice.CONNECTED:
        goes_on = machine.choice is Choice.DISCONNECTED and machine.state in SWITCHED_ON
        return Action.SWITCH_OFF if goes_on else Action.NOTHING
    return _towards_connected(machine, now_s)


def _towards_connected(machine: TailnetMachine, now_s: float) -> Action:
    key_due = _key_due(machine, now_s)
    if _has_lost_its_way(machine, key_due=key_due):
        return Action.KEEP_LOGIN
    if machine.state == Backend.NEEDS_LOGIN:
        return _needs_login(machine, now_s, key_due=key_due)
    return _in_a_tailnet(machine, key_due=key_due) if machine.state in IN_A_TAILNET else Action.NOTHING


def _in_a_tailnet(machine: TailnetMachine, *, key_due: bool) -> Action:
    if machine.replaces and key_due:
        return Action.FETCH_KEY
    if machine.state == Backend.STOPPED:
        return _switched_off(machine)
    return Action.ADJUST if machine.state == Backend.RUNNING and not machine.adjusted else Action.NOTHING


def _switched_off(machine: TailnetMachine) -> Action:
    """Return how a device that is switched off, and is to be connected, is switched on.

    Another program may be logging it out, and a message of control may have reset what tells so: switched on meanwhile,
    it would lose a login that it may keep. Without a key that is certain, and is waited for.
    """
    if machine.attached:
        return Action.NOTHING if machine.passive else Action.SWITCH_ON
    if not machine.have_node_key:
        return Action.NOTHING
    return Action.SWITCH_ON if machine.switched_off else Action.KEEP_LOGIN


def _key_due(machine: TailnetMachine, now_s: float) -> bool:
    if machine.key is None or not machine.needs_key:
        return False
    another = machine.key != machine.retry.fingerprint
    if (machine.by_hand is Pending.URL or machine.retry.error) and machine.pending_url and not another:
        # A person may be using the URL, and another login would invalidate it.
        return False
    return machine.retry.due(machine.key, now_s)


def _has_lost_its_way(machine: TailnetMachine, *, key_due: bool) -> bool:
    """Return whether a valid login is unused: a new login was cancelled, or a logout failed."""
    prefs = machine.prefs or LoginPrefs()
    # A logout also switches off, and beside a sidecar its owner may have switched it off.
    logged_out = prefs.logged_out and not (prefs.switched_off and machine.passive)
    under_way = machine.replaces and (machine.trying or key_due)
    left_so = machine.passive and machine.state == Backend.STOPPED
    return logged_out and machine.have_node_key and not (under_way or left_so)


def _needs_login(machine: TailnetMachine, now_s: float, *, key_due: bool) -> Action:
    if key_due:
        return Action.FETCH_KEY
    if machine.trying:
        return Action.NOTHING
    asked = machine.url_asked_s is not None and now_s - machine.url_asked_s < _URL_AGAIN_S
    # A URL that a person may be using is never invalidated by requesting another one.
    return Action.ASK_URL if machine.wants_url and not (machine.pending_url or asked) else Action.NOTHING


def leaves_login_to_others(machine: TailnetMachine, now_s: float) -> bool:
    """Return whether the login is still left to the operator of the sidecar."""
    needed = machine.choice is Choice.CONNECTED and machine.state == Backend.NEEDS_LOGIN
    return needed and machine.passive and now_s - machine.since_s < HANDS_OFF_S
