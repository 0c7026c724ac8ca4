"""tailscaled's states in words for people: what it is, why, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.snapshot import TailnetView

if TYPE_CHECKING:
    from supervisor.tailnet.wire import Status

CONNECTED = "connected"
UNREACHABLE = "control server unreachable"
DOWN = "tailscaled down"


class Meaning(NamedTuple):
    """What a state means: is the tailnet up, why it is not, and what a person can do about it."""

    state: str
    up: bool = False
    why: str = ""
    what_to_do: str = ""


_SIGN_IN = "set TS_AUTHKEY, or open the login URL that the panel shows"
_CHECK_NETWORK = "check the container's way to the internet"
# What tailscaled says of itself whenever it is not wanted to run: no news beside its state.
_NO_NEWS = "Tailscale is stopped."
_STORE_FAILED = "State store failed"
_MEND_STATE = "make TS_STATE_DIR writable; where tailscaled.state in it is damaged, remove that file and log in again"
_PLAIN = {
    "NeedsMachineAuth": Meaning(
        "waiting for approval",
        why="an admin of the tailnet has to approve the device",
        what_to_do="approve it on the Machines page of the admin console",
    ),
    "Stopped": Meaning("disconnected", why="the tailnet is switched off here", what_to_do="connect"),
}


def of_status(status: Status, *, has_network: bool) -> Meaning:
    """Return what tailscaled's own account of itself means."""
    trouble = " ".join(text for text in status.health or () if text != _NO_NEWS)
    state = status.backend_state
    if _STORE_FAILED in trouble:
        return Meaning("state not kept", why=trouble, what_to_do=_MEND_STATE)
    if state == "Running":
        return _running(status, trouble)
    if state in {"NeedsLogin", "NoState"}:
        return _offline(status, trouble, has_network=has_network)
    if state == "Starting":
        return Meaning("connecting", why=trouble or "it is connecting")
    # A state of a later version is shown as it is.
    return _PLAIN.get(state, Meaning(state or "unknown", why=trouble))


def _offline(status: Status, trouble: str, *, has_network: bool) -> Meaning:
    if not has_network:
        return Meaning(
            "no network interface",
            why="the container has no network interface but the loopback",
            what_to_do="attach it to a network",
        )
    if status.backend_state == "NeedsLogin":
        if status.node is not None and status.node.expired:
            return Meaning("key expired", why="the device's key has expired", what_to_do=_SIGN_IN)
        return Meaning("needs login", why=trouble or "the device is in no tailnet", what_to_do=_SIGN_IN)
    if "control" in trouble or "fetch" in trouble:
        return Meaning(UNREACHABLE, why=trouble, what_to_do=_CHECK_NETWORK)
    return Meaning("starting", why=trouble or "tailscaled is starting")


def down(why: str, *, begun: bool) -> Meaning:
    """Return what no answer at all means; ``begun`` says whether tailscaled has only just been started."""
    return Meaning("starting", why=why) if begun else Meaning(DOWN, why=why, what_to_do="read its lines in the log")


def view(meaning: Meaning, before: TailnetView, now_s: float) -> TailnetView:
    """Return the next view: since when counts from a change of state, away from the last time it was up."""
    away_since_s = before.away_since_s if before.away_since_s is not None else now_s
    return TailnetView(
        mode=before.mode,
        state=meaning.state,
        since_s=before.since_s if before.state == meaning.state else now_s,
        up=meaning.up,
        why=meaning.why,
        what_to_do=meaning.what_to_do,
        away_since_s=None if meaning.up else away_since_s,
    )


def _running(status: Status, trouble: str) -> Meaning:
    if status.node is not None and status.node.online:
        return Meaning(CONNECTED, up=True)
    return Meaning(
        UNREACHABLE,
        why=trouble or "there is no connection to the control server; peers may still be reached",
        what_to_do=_CHECK_NETWORK,
    )
