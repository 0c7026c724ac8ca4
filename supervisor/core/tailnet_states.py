"""The states of the tailnet, by themselves: they are needed before the first child is started."""

from __future__ import annotations

from enum import StrEnum


class TailnetState(StrEnum):
    """A state in the words that people, the API and the log have for it.

    tailscaled's own name of a state of a later version may come in its place.
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


STATES = tuple(state.value for state in TailnetState)
