"""What to do next to bring tailscaled to where its owner wants it. Pure: the whole decision, in one place."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

CONNECTED, DISCONNECTED, FORGOTTEN = "connected", "disconnected", "forgotten"
# It was kept and cannot be read: the device then stays as it is.
UNKNOWN = "unknown"
IN_A_TAILNET = frozenset({"Running", "Starting", "Stopped", "NeedsMachineAuth"})
_SWITCHED_ON = frozenset({"Running", "Starting", "NeedsMachineAuth"})


class Key(Enum):
    """Where things stand with a credential: there is none, it is to be used now, or it has been, and we wait."""

    NONE = "none"
    DUE = "due"
    WAITS = "waits"


class Act(Enum):
    """One thing to have tailscaled do."""

    NOTHING = "nothing"
    LOG_IN = "log in with the key"
    GIVE_UP = "stop trying the key"
    ASK_URL = "ask for a login URL"
    SWITCH_ON = "connect"
    SWITCH_OFF = "disconnect"
    LOG_OUT = "log out"
    KEEP_LOGIN = "take up the login it has"
    ADJUST = "adjust the preferences"


class Facts(NamedTuple):
    """All that the decision rests on.

    ``state`` is tailscaled's own. ``url_wanted`` says that a person is to get a login URL, ``url_asked`` that
    tailscaled was asked for one in its present life and that nothing has come between. ``key_given_up`` says that a
    round of tries ended and tailscaled still tries. ``again`` is a wish to log in anew though the device is in a
    tailnet, and ``trying`` that this login is under way. ``logged_out`` says that tailscaled does not log in by itself,
    whatever login it has. ``adjusted`` says that the preferences are as they should be. ``passive``: the choice is
    nobody's yet, and the daemon is somebody else's, so a device that is switched off stays so.
    """

    state: str
    choice: str = CONNECTED
    have_node_key: bool = False
    key: Key = Key.NONE
    key_given_up: bool = False
    url_wanted: bool = False
    url_asked: bool = False
    again: bool = False
    trying: bool = False
    logged_out: bool = False
    adjusted: bool = True
    passive: bool = False


def decide(facts: Facts) -> Act:
    """Return what is to be done next."""
    if facts.choice == FORGOTTEN:
        return _forgotten(facts)
    if facts.choice in {DISCONNECTED, UNKNOWN}:
        goes_on = facts.state in _SWITCHED_ON or facts.key_given_up
        return Act.SWITCH_OFF if goes_on and facts.choice == DISCONNECTED else Act.NOTHING
    if facts.key_given_up:
        return Act.GIVE_UP
    if _has_lost_its_way(facts):
        return Act.KEEP_LOGIN
    if facts.state == "NeedsLogin":
        return _needs_login(facts)
    return _in_a_tailnet(facts) if facts.state in IN_A_TAILNET else Act.NOTHING


def _forgotten(facts: Facts) -> Act:
    if facts.state in IN_A_TAILNET or facts.have_node_key:
        return Act.LOG_OUT
    return Act.GIVE_UP if facts.key_given_up else Act.NOTHING


def _has_lost_its_way(facts: Facts) -> bool:
    """Tell whether a good login lies idle: one anew was broken off, or a logout that failed."""
    begins = facts.again and facts.key is Key.DUE
    left_so = facts.passive and facts.state == "Stopped"
    return facts.logged_out and facts.have_node_key and not (facts.trying or begins or left_so)


def _needs_login(facts: Facts) -> Act:
    if facts.key is Key.DUE:
        return Act.LOG_IN
    # A URL that a person may be using is never made worthless by asking for another one.
    if facts.url_wanted and not facts.url_asked:
        return Act.ASK_URL
    return Act.NOTHING


def _in_a_tailnet(facts: Facts) -> Act:
    if facts.again and facts.key is Key.DUE:
        return Act.LOG_IN
    if facts.state == "Stopped":
        return Act.NOTHING if facts.passive else Act.SWITCH_ON
    return Act.ADJUST if facts.state == "Running" and not facts.adjusted else Act.NOTHING
