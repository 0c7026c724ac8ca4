"""The tailnet as data: its states, events, actions, and the machine.

``core.login_machine`` has the transitions, ``core.policy`` decides the next action.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from supervisor.core.retry import LoginRetry, Outage
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from supervisor.core.counts import Counts


class Backend(StrEnum):
    """A state of tailscaled (1.102: ipn.State); unknown states of later versions are passed on unchanged."""

    NO_STATE = "NoState"
    NEEDS_LOGIN = "NeedsLogin"
    NEEDS_APPROVAL = "NeedsMachineAuth"
    STOPPED = "Stopped"
    STARTING = "Starting"
    RUNNING = "Running"


class Choice(StrEnum):
    """What the owner wants; it persists across restarts."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    FORGOTTEN = "forgotten"
    # It was stored and cannot be read: the device then stays as it is.
    UNKNOWN = "unknown"


SWITCHED_ON = frozenset({Backend.RUNNING, Backend.STARTING, Backend.NEEDS_APPROVAL})
IN_A_TAILNET = SWITCHED_ON | {Backend.STOPPED}


class Stage(Enum):
    """The stage of a login with a key; HELD while the backups hold every start, so that there is no login."""

    HELD = "held"
    IDLE = "idle"
    FETCHING = "fetching a key"
    TRYING = "trying a key"
    RELEASING = "releasing a key"


class Pending(Enum):
    """What a person who asked to connect is waiting for: the first try, or a login URL after a refused key."""

    NOTHING = "nothing"
    TRY = "a try"
    URL = "a login URL"


class TailnetEventKind(Enum):
    """The kinds of events."""

    HOLD = "hold"
    LET_GO = "let go"
    CONNECT = "connect"
    DISCONNECT = "disconnect"
    LEAVE = "leave"
    OBSERVED = "observed"
    LOST = "lost"
    REFUSED = "refused"
    KEY_READY = "key ready"
    NO_KEY = "no key"
    DONE = "done"
    FAILED = "failed"
    BROKEN_OFF = "broken off"


class Action(Enum):
    """An action, in words that complete "cannot …"."""

    NOTHING = "do nothing"
    FETCH_KEY = "get a key"
    LOG_IN = "log in with the key"
    RELEASE_KEY = "stop trying the key"
    ASK_URL = "ask for a login URL"
    SWITCH_ON = "connect"
    SWITCH_OFF = "disconnect"
    LOG_OUT = "log out"
    KEEP_LOGIN = "take up the login it has"
    ADJUST = "adjust the preferences"
    RESTART_CLIENT = "restart the control client"
    MAINTAIN = "look after the device"
    RESTART_TAILSCALED = "restart tailscaled"
    DROP_REMAINS = "restart tailscaled without the login it had"
    CANCEL = "break off what is under way"
    RESET = "forget what was published"


# Actions that restart tailscaled's control client.
BEGIN_ANEW = frozenset({Action.LOG_IN, Action.ASK_URL, Action.KEEP_LOGIN, Action.RELEASE_KEY, Action.LOG_OUT})


class LogEntry(NamedTuple):
    """A record for the log."""

    level: str
    event: str
    fields: tuple[tuple[str, str], ...] = ()


class LoginPrefs(NamedTuple):
    """tailscaled's preferences that control logins.

    A device that is ``logged_out`` does not log in on its own, even with a valid login.
    """

    logged_out: bool = False
    switched_off: bool = False


class Observation(NamedTuple):
    """An observation of tailscaled.

    ``state`` is tailscaled's own, ``life`` identifies its process. ``url`` is whether a login URL is pending,
    ``unreached`` whether it reports that control is unreachable, ``removed`` whether its log mentions a device unknown
    to control, or without its node key. ``key`` is the fingerprint of the login key, if one is needed and available;
    ``prefs`` are set if they were requested.
    """

    state: str = Backend.NO_STATE
    life: object = None
    node_key: str = ""
    have_node_key: bool = False
    online: bool = False
    url: bool = False
    unreached: bool = False
    removed: bool = False
    key: bytes | None = None
    prefs: LoginPrefs | None = None


class TailnetEvent(NamedTuple):
    """An event. The relevant fields depend on its kind.

    LET_GO: ``choice`` and ``ephemeral``, as stored. CONNECT: ``key``. DISCONNECT: ``forget``. OBSERVED: ``seen``.
    REFUSED: ``why``. KEY_READY: ``ephemeral``. NO_KEY: ``why``, and ``refusal`` if permanent. DONE: ``action``,
    ``prefs``. FAILED: ``action``, ``why``; ``forbidden``: not permitted for this user; ``passing``: tailscaled is down
    or slow.
    """

    kind: TailnetEventKind
    choice: Choice = Choice.CONNECTED
    key: bytes | None = None
    forget: bool = False
    seen: Observation = Observation()
    action: Action = Action.NOTHING
    prefs: LoginPrefs | None = None
    why: str = ""
    refusal: str = ""
    ephemeral: bool = False
    forbidden: bool = False
    passing: bool = False


class LoginFailure(NamedTuple):
    """Why the login for a wish failed; ``pasted`` is whether a pasted key was refused: not all who share it gave it."""

    wish: int
    why: str
    pasted: bool = False


class TailnetMachine(NamedTuple):
    """The state machine of the tailnet.

    ``attached`` is whether the daemon is a sidecar's. ``choice`` and ``ephemeral`` (the device is to be logged out at
    the end) persist across restarts. ``replaces`` is whether a new login is wanted although the device has one;
    ``pasted`` whether the key was pasted. ``node_key`` is the login before the key being tried. ``wish`` is a number
    that changes with what the owner wants, ``failure`` the last failure of a login. ``running`` is the command under
    way, ``due`` the last one decided on. ``ordered_s`` is the time of the owner's last order, None once
    it is fulfilled; ``went_back_s`` is when the device last returned to its login; ``help_due`` is whether an outage
    waits for recovery that had no time. ``repeats`` is how often commands were carried out since tailscaled's state
    last changed; ``logged_out`` and ``switched_off`` are whether it was that by us since it was last on, ``dropped``
    whether it was restarted in this state to drop what it had left of a login.
    """

    attached: bool = False
    choice: Choice = Choice.CONNECTED
    ephemeral: bool = False
    stage: Stage = Stage.IDLE
    retry: LoginRetry = LoginRetry()
    replaces: bool = False
    pasted: bool = False
    by_hand: Pending = Pending.NOTHING
    by_url: bool = False
    node_key: str = ""
    key: bytes | None = None
    makes_ephemeral: bool | None = None
    url: bool = False
    went_back_s: float | None = None
    url_asked_s: float | None = None
    wish: int = 0
    failure: LoginFailure | None = None
    last_error: str = ""
    last_error_s: float | None = None
    results: Counts = ()
    state: str = Backend.NO_STATE
    since_s: float = 0.0
    life: object = None
    seen: bool = False
    lost: bool = False
    have_node_key: bool = False
    had_login: bool = False
    prefs: LoginPrefs | None = None
    adjusted: bool = False
    running: Action = Action.NOTHING
    due: Action = Action.NOTHING
    command_failures: int = 0
    repeats: int = 0
    not_before_s: float = 0.0
    forbidden: tuple[tuple[Action, str], ...] = ()
    ordered_s: float | None = None
    outage: Outage | None = None
    help_due: bool = False
    logged_out: bool = False
    switched_off: bool = False
    dropped: bool = False
    leaving: bool = False

    @property
    def trying(self) -> bool:
        """Whether tailscaled has a key that was not refused permanently."""
        return self.stage is Stage.TRYING

    @property
    def pending_url(self) -> bool:
        """Whether a person can use the login URL, which is void once a key is handed over or released."""
        return self.url and self.stage in {Stage.IDLE, Stage.FETCHING} and self.running not in BEGIN_ANEW

    @property
    def needs_key(self) -> bool:
        """Whether a key may be needed."""
        return self.state == Backend.NEEDS_LOGIN or self.replaces

    @property
    def passive(self) -> bool:
        """Whether a switched-off device stays so: a sidecar's, except for the effects of our orders."""
        return self.attached and self.ordered_s is None

    @property
    def wants_url(self) -> bool:
        """Whether a person is to get a login URL: there is no key, or the key of their order was refused."""
        return self.key is None or self.by_hand is Pending.URL

    @property
    def may_not(self) -> str:
        """Why the due action is not permitted for this user; empty if it is."""
        return dict(self.forbidden).get(self.due, "")

    @property
    def closing_action(self) -> Action:
        """The action of an orderly stop if the device is not logged out: a sidecar returns to its previous login."""
        return Action.KEEP_LOGIN if self.attached and self.replaces and self.trying else Action.NOTHING


Step = tuple[TailnetMachine, tuple[Action | LogEntry, ...]]
