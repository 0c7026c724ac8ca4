"""What tailscaled's account of itself means to people: the state, why it is so, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.tailnet import (
    CONNECTED,
    CONNECTING,
    DOWN,
    EXPIRED,
    NEEDS_APPROVAL,
    NEEDS_LOGIN,
    NO_NETWORK,
    NOT_KEPT,
    OFF,
    REFUSED,
    STARTING,
    SWITCHED_OFF,
    UNREACHABLE,
)
from supervisor.tailnet.attempt import Attempt
from supervisor.tailnet.course import CONNECTED as CHOSEN
from supervisor.tailnet.course import DISCONNECTED, UNKNOWN
from supervisor.tailnet.sidecar import MAY_NOT, WHERE_IT_IS

if TYPE_CHECKING:
    from supervisor.tailnet.wire import Status

# What an order of ours would end, were it allowed.
_OURS_TO_END = frozenset({NEEDS_LOGIN, EXPIRED, SWITCHED_OFF, OFF})
# Whatever the owner chose, these are told as what they are.
NOT_OFF = frozenset({"Running", "Starting"})
# A control server that takes the connection and then says nothing gives no error either.
SILENCE_S = 10.0


class Meaning(NamedTuple):
    """What a state means: is the tailnet up, why it is not, what a person can do; ``by_owner``: it was their wish."""

    state: str
    up: bool = False
    why: str = ""
    what_to_do: str = ""
    by_owner: bool = False


class Situation(NamedTuple):
    """What is known beside tailscaled's own account.

    ``held_s`` is how long its state has been what it is, and any login under way; ``retry_s`` is when the key is tried
    again (None: it is not). ``logging_in`` says that a key is being handed over just now, ``had_login`` that the device
    was in a tailnet before, ``expired`` that its key's time is over. ``forbidden`` says what tailscaled does not let us
    do, where that is what is due. ``why_unread`` says why the choice is unknown. ``goes_back``: the device is about to
    take up the login that it has.
    """

    choice: str = CHOSEN
    attempt: Attempt | None = None
    login_url: bool = False
    logging_in: bool = False
    has_network: bool = True
    held_s: float = 0.0
    retry_s: float | None = None
    had_login: bool = False
    expired: bool = False
    last_error: str = ""
    forbidden: str = ""
    why_unread: str = ""
    goes_back: bool = False


_SIGN_IN = "give it an auth key (TS_AUTHKEY, or `moltis-supervisor connect`)"
_OPEN_URL = "open the login URL, which the panel, the container's log and `moltis-supervisor auth-url` show"
_CHECK_NETWORK = "check the container's way to the internet"
# What tailscaled says of itself whenever it is not wanted to run, or is only just starting: no news.
_NO_NEWS = (
    "Tailscale is stopped.",
    "Tailscale is starting. Please wait.",
    "You are logged out.",
    "Tailscale hasn't received a network map from the coordination server yet.",
)
_LOGIN_ERROR = "You are logged out. The last login error was: "
_STORE_FAILED = "State store failed"
_MEND_STATE = (
    "make TS_STATE_DIR writable, with room on its disk; where tailscaled.state in it is damaged, remove that file and "
    "log in again"
)
_UNREACHED = ("fetch control key", "dial tcp", "connection refused", "no such host", "i/o timeout", "control")
_APPROVAL = Meaning(
    NEEDS_APPROVAL,
    why="an admin of the tailnet has to approve the device",
    what_to_do="approve it on the Machines page of the admin console",
)
_NO_INTERFACE = Meaning(
    NO_NETWORK,
    why="the container has no network interface but the loopback",
    what_to_do="attach it to a network",
)


def effective(status: Status) -> str:
    """Return tailscaled's state, save where it is wrong: a device that control has removed is still called Running.

    That it was removed shows only in a login URL, which a restart of the control client brings (seen with 1.102).
    """
    removed = status.backend_state == "Running" and status.auth_url and not (status.node and status.node.online)
    return "NeedsLogin" if removed else status.backend_state


def of_status(status: Status, about: Situation) -> Meaning:
    """Return what tailscaled's own account of itself means."""
    meaning = _of_status(status, about)
    if about.forbidden and meaning.state in _OURS_TO_END and not about.login_url:
        return meaning._replace(why=about.forbidden, what_to_do=MAY_NOT)
    return meaning


def _of_status(status: Status, about: Situation) -> Meaning:
    trouble = trouble_of(status)
    state = effective(status)
    if _STORE_FAILED in trouble:
        return Meaning(NOT_KEPT, why=trouble, what_to_do=_MEND_STATE)
    if about.choice != CHOSEN and state not in NOT_OFF:
        return _by_owner(status, about)
    if state == "Running":
        return _running(status, trouble, about)
    if state in {"NeedsLogin", "NoState"} and not about.has_network:
        return _NO_INTERFACE
    if state == "NeedsLogin":
        return _needs_login(trouble, about)
    return _others(state, trouble, about)


def trouble_of(status: Status) -> str:
    """Return what tailscaled complains of, without what is no news."""
    # tailscaled tells them in another order each time.
    return " ".join(sorted(text.removeprefix(_LOGIN_ERROR) for text in status.health or () if text not in _NO_NEWS))


def down(why: str, *, begun: bool, attached: bool = False, stopped: bool = False) -> Meaning:
    """Return what no answer at all means.

    ``begun`` says whether tailscaled has only just been started, ``stopped`` that an owner has stopped it.
    """
    if stopped:
        return Meaning(DOWN, why="it was stopped on purpose", what_to_do="start the process tailscaled")
    what_to_do = WHERE_IT_IS if attached else "read its lines in the log"
    return Meaning(STARTING, why=why) if begun else Meaning(DOWN, why=why, what_to_do=what_to_do)


def unread(why: str) -> str:
    """Return what is said of a choice that is unknown."""
    return f"whether it is to be connected cannot be read from owner.json in TS_STATE_DIR ({why}), so it stays as it is"


def _by_owner(status: Status, about: Situation) -> Meaning:
    if about.choice == UNKNOWN:
        return Meaning(SWITCHED_OFF, why=unread(about.why_unread), what_to_do="connect, or disconnect", by_owner=True)
    if about.choice == DISCONNECTED:
        return Meaning(OFF, why="it was disconnected on purpose", what_to_do="connect", by_owner=True)
    if status.have_node_key or effective(status) not in {"NeedsLogin", "NoState"}:
        why = about.last_error or "the device is being logged out"
        return Meaning(OFF, why=why, what_to_do="wait, or remove it in the admin console", by_owner=True)
    return Meaning(OFF, why="the device was forgotten", what_to_do="connect to log in again", by_owner=True)


def _running(status: Status, trouble: str, about: Situation) -> Meaning:
    if status.node is not None and status.node.online:
        return Meaning(CONNECTED, up=True)
    if about.attempt is not None and about.attempt.under_way:
        return _logging_in(about.attempt, about)
    if about.goes_back:
        return Meaning(CONNECTING, why="the device takes up the login that it has")
    return Meaning(
        UNREACHABLE,
        why=trouble or "there is no connection to the control server; peers may still be reached",
        what_to_do=_CHECK_NETWORK,
    )


def _needs_login(trouble: str, about: Situation) -> Meaning:
    attempt = about.attempt or Attempt()
    refused = bool(attempt.error)
    if refused and not about.login_url:
        return _refused(attempt, about)
    if is_unreached(trouble) and not refused and not about.login_url:
        return Meaning(UNREACHABLE, why=trouble, what_to_do=_CHECK_NETWORK)
    if attempt.under_way or about.logging_in:
        return _logging_in(attempt, about)
    why = attempt.note or (f"the auth key was refused: {attempt.error}" if refused else "")
    what_to_do = f"{_OPEN_URL}, or {_SIGN_IN}" if about.login_url else _SIGN_IN
    if about.expired:
        return Meaning(EXPIRED, why=why or "the device's key has expired", what_to_do=what_to_do)
    if about.had_login:
        why = why or "the control server has logged the device out: it was removed, or its key has expired"
    return Meaning(NEEDS_LOGIN, why=why or trouble or "the device is in no tailnet", what_to_do=what_to_do)


def _logging_in(attempt: Attempt, about: Situation) -> Meaning:
    if attempt.under_way and about.held_s >= SILENCE_S and not attempt.note:
        why = f"the control server has said nothing for {about.held_s:.0f} s"
        return Meaning(UNREACHABLE, why=why, what_to_do=_CHECK_NETWORK)
    return Meaning(CONNECTING, why=attempt.note or "logging in with the auth key")


def _refused(attempt: Attempt, about: Situation) -> Meaning:
    advice = {
        "tag not permitted": "let the key, or the tailnet's policy, permit TS_TAGS",
        "expired": "make a new key in the admin console",
        "used up": "make a new key in the admin console, a reusable one where it is to serve again",
    }.get(attempt.kind, "check the key, or make a new one in the admin console")
    again = "" if about.retry_s is None else f"; the same key is tried again in {_duration(about.retry_s)}"
    # Some say themselves what it comes down to.
    why = attempt.error if attempt.error.startswith(attempt.kind) else f"{attempt.kind}: {attempt.error}"
    return Meaning(REFUSED, why=why, what_to_do=f"{advice}, and give it here{again}")


def _others(state: str, trouble: str, about: Situation) -> Meaning:
    if state == "NoState":
        if is_unreached(trouble) or about.held_s >= SILENCE_S:
            why = trouble or f"the control server has said nothing for {about.held_s:.0f} s"
            return Meaning(UNREACHABLE, why=why, what_to_do=_CHECK_NETWORK)
        return Meaning(STARTING, why=trouble or "tailscaled is starting")
    if state == "NeedsMachineAuth":
        return _APPROVAL
    if state == "Starting":
        return Meaning(CONNECTING, why=trouble or "it is connecting")
    if state == "Stopped":
        return Meaning(SWITCHED_OFF, why="the tailnet is switched off here", what_to_do="connect")
    # A state of a later version is shown as it is.
    return Meaning(state or "unknown", why=trouble)


def is_unreached(trouble: str) -> bool:
    """Tell whether a complaint is about the way to the control server."""
    return any(sign in trouble for sign in _UNREACHED)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - as people say it
