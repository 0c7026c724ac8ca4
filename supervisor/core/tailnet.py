"""The tailnet as data: its states, what can happen to it, what can be done about it, and where it stands.

``core.login_machine`` has the table that leads from one to the other, ``core.policy`` decides what is next.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from supervisor.core.retry import LoginRetry, Outage
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from supervisor.core.counts import Counts


class Backend(StrEnum):
    """A state in tailscaled's own words (1.102: ipn.State); one of a later version is passed on as it is."""

    NO_STATE = "NoState"
    NEEDS_LOGIN = "NeedsLogin"
    NEEDS_APPROVAL = "NeedsMachineAuth"
    STOPPED = "Stopped"
    STARTING = "Starting"
    RUNNING = "Running"


class Choice(StrEnum):
    """What the owner wants: it holds over restarts."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    FORGOTTEN = "forgotten"
    # It was kept and cannot be read: the device then stays as it is.
    UNKNOWN = "unknown"


IN_A_TAILNET = frozenset({Backend.RUNNING, Backend.STARTING, Backend.STOPPED, Backend.NEEDS_APPROVAL})


class Stage(Enum):
    """Where a login with a key stands."""

    IDLE = "idle"
    FETCHING = "fetching a key"
    TRYING = "trying a key"
    RELEASING = "releasing a key"


class Pending(Enum):
    """What a person who asked to connect is still owed: their order's first try, or a login URL after a bad key."""

    NOTHING = "nothing"
    TRY = "a try"
    URL = "a login URL"


class TailnetEventKind(Enum):
    """What can happen."""

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
    """One thing to do, in words that complete "cannot …"."""

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
    CANCEL = "break off what is under way"
    RESET = "forget what was published"


# These restart tailscaled's control client.
BEGIN_ANEW = frozenset({Action.LOG_IN, Action.ASK_URL, Action.KEEP_LOGIN, Action.RELEASE_KEY, Action.LOG_OUT})


class LogEntry(NamedTuple):
    """An event for the log."""

    level: str
    event: str
    fields: tuple[tuple[str, str], ...] = ()


class LoginPrefs(NamedTuple):
    """tailscaled's preferences that decide about a login.

    A device that is ``logged_out`` does not log in by itself, whatever login it has.
    """

    logged_out: bool = False
    switched_off: bool = False


class Observation(NamedTuple):
    """What one look at tailscaled brought.

    ``state`` is tailscaled's own, ``life`` tells one of its lives from another. ``url``: a login URL is pending;
    ``unreached``: it complains of the way to control; ``removed``: its log speaks of a device that control does not
    know. ``key`` is the fingerprint of the key to log in with, where one is needed and there is one; ``prefs`` are
    there where they were asked for.
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
    """One thing that happened. Which fields count depends on its kind.

    CONNECT: ``key``. DISCONNECT: ``forget``. OBSERVED: ``seen``. REFUSED: ``why``. KEY_READY: ``ephemeral``. NO_KEY:
    ``why``, and ``refusal`` where that is for good. DONE: ``action``, ``prefs``. FAILED: ``action``, ``why``;
    ``forbidden``: this user may not; ``passing``: tailscaled is away, or slow.
    """

    kind: TailnetEventKind
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


class TailnetMachine(NamedTuple):
    """Where the tailnet stands.

    ``attached``: the daemon is a sidecar's. ``choice`` and ``ephemeral`` (the device is to leave at the end) are kept
    over restarts. ``replaces``: a new login is wanted though the device has one; ``pasted``: the key to use is one that
    was pasted. ``node_key`` is the login of before the key that is tried. ``wish`` is a number that changes with what
    the owner wants, ``failure`` the last failure of a login and the wish that it was for.
    ``running`` is the command under way, ``due`` the last that was decided on. ``ordered_s`` is when the owner last
    ordered something, None once that has come about; ``went_back_s`` is when the device was last to take up the login
    that it has; ``help_due`` says that an outage waits for help that there was no time for.
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
    failure: tuple[int, str] | None = None
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
    not_before_s: float = 0.0
    forbidden: tuple[tuple[Action, str], ...] = ()
    ordered_s: float | None = None
    outage: Outage | None = None
    help_due: bool = False
    leaving: bool = False

    @property
    def trying(self) -> bool:
        """Whether tailscaled has a key that it has not been refused for good."""
        return self.stage is Stage.TRYING

    @property
    def pending_url(self) -> bool:
        """Whether a person may use the login URL: it is worth nothing once a key is handed over, or let go of."""
        return self.url and self.stage in {Stage.IDLE, Stage.FETCHING} and self.running not in BEGIN_ANEW

    @property
    def needs_key(self) -> bool:
        """Whether it matters which key there is."""
        return self.state == Backend.NEEDS_LOGIN or self.replaces

    @property
    def passive(self) -> bool:
        """Whether a device that is switched off stays so: a sidecar's, but for what an order of ours brings about."""
        return self.attached and self.ordered_s is None

    @property
    def wants_url(self) -> bool:
        """Whether a person is to get a login URL: there is no key, or who asked to connect was left with a bad one."""
        return self.key is None or self.by_hand is Pending.URL

    @property
    def may_not(self) -> str:
        """Why what is due cannot be done by this user; empty where it can."""
        return dict(self.forbidden).get(self.due, "")

    @property
    def closing_action(self) -> Action:
        """What an orderly end takes where the device does not leave: a sidecar is left the login that it had."""
        return Action.KEEP_LOGIN if self.attached and self.replaces and self.trying else Action.NOTHING


Step = tuple[TailnetMachine, tuple[Action | LogEntry, ...]]
