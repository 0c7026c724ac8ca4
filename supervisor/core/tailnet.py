"""The states of the tailnet, in the words that people, the API and the log have for them."""

from __future__ import annotations

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
# Every state there is; tailscaled's own name of a state of a later version may come beside them.
STATES = (
    STARTING,
    NEEDS_LOGIN,
    NEEDS_APPROVAL,
    CONNECTING,
    CONNECTED,
    OFF,
    SWITCHED_OFF,
    EXPIRED,
    REFUSED,
    UNREACHABLE,
    DOWN,
    NOT_KEPT,
    NO_NETWORK,
)
