"""The states of the tailnet, in a module of their own because they are needed before the first child is started."""

from __future__ import annotations

from enum import StrEnum


class TailnetState(StrEnum):
    """A state as people, the API and the log name it.

    A state of a later tailscaled keeps its own name.
    """

    STARTING = "starting"
    NEEDS_LOGIN = "needs login"
    NEEDS_APPROVAL = "waiting for approval"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    OFF = "disconnected by you"
    SWITCHED_OFF = "disconnected"
    EXPIRED = "key expired"
    REFUSED = "key refused"
    UNREACHABLE = "control server unreachable"
    DOWN = "tailscaled down"
    NOT_KEPT = "state not kept"
    NO_NETWORK = "no network interface"
    # Nothing is started yet: it waits for the backups, as the processes do.
    RESTORING = "restoring"
    STANDBY = "standby"
    HELD = "held"
    CHOOSE = "held: choose"


STATES = tuple(state.value for state in TailnetState)
