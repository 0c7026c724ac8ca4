"""The tailnet's way to what its owner wants, as a total table of stages and events.

``step`` takes an event and returns the next machine with the actions; it has no side effects and reads no clock. It is
level-triggered: each observation of tailscaled (OBSERVED) starts from the current state, so nothing is lost when
tailscaled or the supervisor is restarted in between.

Rule 1: a login with a key is in one of five stages, the first of which is none yet; everything else about it is data.
Rule 2: only one command at a time; while it runs, observations are recorded without decisions.
Rule 3: the result of a key answers the wish that the key was used for, and no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.counts import NO_ANSWER, NO_KEY, REFUSED, SUCCEEDED, plus_one
from supervisor.core.policy import leaves_login_to_others, next_action
from supervisor.core.retry import LoginRetry, Recovery, doubling_s, recover
from supervisor.core.tailnet import (
    BEGIN_ANEW,
    IN_A_TAILNET,
    SWITCHED_ON,
    Action,
    Backend,
    Choice,
    LogEntry,
    LoginFailure,
    LoginPrefs,
    Pending,
    Stage,
    TailnetEventKind,
    TailnetMachine,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.tailnet import Observation, Step, TailnetEvent

    _Handler = Callable[[TailnetMachine, TailnetEvent, float], Step]

# States in which control has accepted a key.
_TAKEN = frozenset({Backend.STARTING, Backend.NEEDS_APPROVAL})
# States that tailscaled does not leave by itself if it has no node key.
_STUCK = frozenset({Backend.STOPPED, Backend.STARTING})
# tailscaled does not report its state until it has heard from control.
_MAY_HAVE_LOGIN = IN_A_TAILNET | {Backend.NO_STATE}
# For this long after an order, being switched off may be a result of the order.
OBEYED_S = 5.0
_SETTLED_S = 60.0
_LONGEST_WAIT_S = 60.0
# A login takes several commands within one state: a key, its release, a URL.
_MOST_REPEATS = 5
_LONGEST_PAUSE_S = 10.0
# A logout of another program is over by then, also without a control server.
_LOGGED_OUT_S = 90.0
_TAKING_UP = LogEntry(
    "info", "tailnet: taking up the device's own login", (("why", "a logout or another login did not get through"),)
)


def step(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Return the next machine, and the actions."""
    return TABLE[machine.stage, event.kind](machine, event, now_s)


def _connect(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Handle a person's order to connect: failed steps are retried at once, unless their answer may be on the way."""
    taken = machine.trying and not machine.replaces and machine.state in _TAKEN
    waits = taken or machine.stage is Stage.FETCHING or machine.retry.fresh(now_s)
    present = machine.key if machine.stage is Stage.FETCHING else machine.retry.fingerprint
    another = event.key is not None and event.key != present
    if another or not waits:
        machine = machine._replace(wish=machine.wish + 1)
    if event.key is None and not waits and machine.replaces:
        machine = _let_go(machine, "the device was to connect without it", now_s)
    if not waits or (another and machine.stage is Stage.FETCHING):
        machine = machine._replace(stage=Stage.IDLE, retry=LoginRetry())
    if event.key is not None:
        machine = machine._replace(pasted=True, replaces=machine.replaces or machine.state in _MAY_HAVE_LOGIN)
    # An order in an outage also triggers recovery.
    outage = machine.outage and machine.outage._replace(next_s=0.0)
    return _ordered(machine._replace(choice=Choice.CONNECTED, by_hand=Pending.TRY, outage=outage), now_s)


def _disconnect(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Handle an order to disconnect; a login under way is ended, since tailscaled would keep trying."""
    goes_on = machine.stage in {Stage.TRYING, Stage.RELEASING} or machine.state == Backend.NEEDS_LOGIN
    return _ordered(
        machine._replace(
            choice=Choice.FORGOTTEN if event.forget else Choice.DISCONNECTED,
            wish=machine.wish + 1,
            stage=Stage.RELEASING if goes_on else Stage.IDLE,
            retry=LoginRetry(),
            pasted=False,
            replaces=False,
            by_hand=Pending.NOTHING,
            url_asked_s=None,
            makes_ephemeral=None,
            # Earlier errors do not apply any more.
            last_error="",
            last_error_s=None,
        ),
        now_s,
    )


def _ordered(machine: TailnetMachine, now_s: float) -> Step:
    """Start a new order: failed steps are retried at once, and a contradicting command is cancelled."""
    machine = machine._replace(command_failures=0, repeats=0, not_before_s=0.0, forbidden=(), ordered_s=now_s)
    # A logout may wait a minute for an unreachable control server, and a key half a minute for an API.
    contradicts = (machine.running is Action.LOG_OUT and machine.choice is not Choice.FORGOTTEN) or (
        machine.running is Action.FETCH_KEY and machine.stage is not Stage.FETCHING
    )
    return machine, (Action.CANCEL,) if contradicts else ()


def _leave(machine: TailnetMachine, _event: TailnetEvent, _now_s: float) -> Step:
    return machine._replace(leaving=True), ()


def _key_ready(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Hand over the key. Recorded before tailscaled gets it, because the first refusal may follow at once."""
    if machine.key is None:
        return _late_key(machine, event, now_s)
    machine = machine._replace(
        stage=Stage.TRYING,
        retry=machine.retry.begin(machine.key, now_s, machine.wish),
        makes_ephemeral=event.ephemeral,
        url=False,
        url_asked_s=None,
        prefs=None,
        running=Action.LOG_IN,
    )
    return machine, (LogEntry("info", "tailnet: logging in with a key"), Action.LOG_IN)


def _late_key(machine: TailnetMachine, _event: TailnetEvent, _now_s: float) -> Step:
    """Discard a key that is not needed any more."""
    return machine._replace(running=Action.NOTHING), ()


def _no_key(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Handle that the OAuth client got no key, permanently or temporarily."""
    key = machine.key or b""
    # A login URL follows a refusal only.
    failure = LoginFailure(machine.wish, event.why, machine.pasted and bool(event.refusal))
    machine = machine._replace(stage=Stage.IDLE, running=Action.NOTHING, failure=failure)
    machine = _erred(_counted(machine, NO_KEY), event.why, now_s)
    why = (("why", event.why),)
    if not event.refusal:
        retry = machine.retry.unavailable(key, event.why, now_s)
        return machine._replace(retry=retry), (LogEntry("warning", "tailnet: no key could be had yet", why),)
    record = LogEntry("error", "tailnet: no key could be had", why)
    if machine.replaces:
        return _let_go(machine, event.why, now_s), (record,)
    retry = machine.retry.begin(key, now_s).refused(event.why, now_s, final=True)
    return _with_url(machine._replace(retry=retry._replace(kind=event.refusal))), (record,)


def _refused(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Handle an error of the bus: while a login is under way, the error belongs to it."""
    before, retry = machine.retry, machine.retry.refused(event.why, now_s)
    machine = _erred(machine._replace(retry=retry), event.why, now_s)
    if retry.refusals == before.refusals:
        return machine, ()
    machine = _counted(machine, REFUSED)._replace(failure=LoginFailure(retry.wish, event.why, machine.pasted))
    if not retry.under_way:
        machine = machine._replace(stage=Stage.RELEASING)
    if before.refusals:
        return machine, ()
    fields = (("kind", retry.kind), ("why", event.why))
    return machine, (LogEntry("error", "tailnet: the key was refused", fields),)


def _note_error(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Record an error of another login; a logged-in device may still receive one of a released key."""
    return _erred(machine, event.why, now_s) if machine.state == Backend.NEEDS_LOGIN else machine, ()


def _let_go(machine: TailnetMachine, why: str, now_s: float) -> TailnetMachine:
    """Release a new key, because the device has a login."""
    machine = machine._replace(
        replaces=False, by_hand=Pending.NOTHING, pasted=False, makes_ephemeral=None, retry=LoginRetry()
    )
    return _erred(machine, f"the new key was not taken, and the device keeps its login: {why}", now_s)


def _with_url(machine: TailnetMachine) -> TailnetMachine:
    """After a refused key, a person who asked to connect gets a login URL."""
    return machine._replace(by_hand=Pending.NOTHING if machine.by_hand is Pending.NOTHING else Pending.URL)


def _erred(machine: TailnetMachine, why: str, now_s: float) -> TailnetMachine:
    return machine._replace(last_error=why, last_error_s=now_s)


def _counted(machine: TailnetMachine, result: str) -> TailnetMachine:
    return machine._replace(results=plus_one(machine.results, result))


def _done(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    machine = _freed(machine)._replace(command_failures=0, prefs=event.prefs or machine.prefs)
    if event.action is not Action.MAINTAIN:
        machine = _repeated(machine, now_s)
    if event.action in {Action.RELEASE_KEY, Action.KEEP_LOGIN} and machine.stage is Stage.RELEASING:
        machine = machine._replace(stage=Stage.IDLE)
        if event.action is Action.RELEASE_KEY:
            machine = _with_url(machine._replace(makes_ephemeral=None))
    if event.action is Action.ASK_URL:
        machine = machine._replace(url_asked_s=now_s)
    elif event.action is Action.SWITCH_OFF:
        machine = machine._replace(switched_off=True)
    elif event.action is Action.ADJUST:
        machine = machine._replace(adjusted=True)
    elif event.action is Action.LOG_OUT:
        machine = machine._replace(
            stage=Stage.IDLE,
            retry=LoginRetry(),
            url_asked_s=None,
            adjusted=False,
            had_login=False,
            ephemeral=False,
        )
    return machine, ()


def _repeated(machine: TailnetMachine, now_s: float) -> TailnetMachine:
    """Delay further commands if tailscaled carries them out, and its state stays as it was."""
    repeats = machine.repeats + 1
    wait_s = doubling_s(1.0, repeats - _MOST_REPEATS, _LONGEST_PAUSE_S) if repeats >= _MOST_REPEATS else 0.0
    return machine._replace(repeats=repeats, not_before_s=now_s + wait_s)


def _failed(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Delay the next command: longer with each failure, until one succeeds or a person gives an order."""
    action = event.action
    if action is Action.LOG_IN and machine.trying:
        machine = machine._replace(stage=Stage.IDLE, retry=machine.retry.interrupted())
    failures = machine.command_failures + 1
    what = f"cannot {action.value}"
    not_before_s = now_s + doubling_s(1.0, failures - 1, _LONGEST_WAIT_S)
    machine = _freed(machine)._replace(command_failures=failures, not_before_s=not_before_s)
    machine = _erred(machine, f"{what}: {event.why}", now_s)
    if action is not Action.MAINTAIN and not event.passing:
        machine = machine._replace(failure=LoginFailure(machine.wish, machine.last_error))
    if action is not Action.MAINTAIN and event.forbidden:
        why = f"the supervisor's user may not have this tailscaled {action.value}: {event.why}"
        # A key that may not be handed over is not fetched.
        decided = Action.FETCH_KEY if action is Action.LOG_IN else action
        machine = machine._replace(forbidden=(*machine.forbidden, (decided, why)))
    record = LogEntry("warning", f"tailnet: {what}", (("why", event.why),))
    return machine, (record,) if failures == 1 else ()


def _broken_off(machine: TailnetMachine, _event: TailnetEvent, _now_s: float) -> Step:
    return _freed(machine), ()


def _freed(machine: TailnetMachine) -> TailnetMachine:
    stage = Stage.IDLE if machine.stage is Stage.FETCHING else machine.stage
    logged_out = machine.logged_out or machine.running is Action.LOG_OUT
    return machine._replace(running=Action.NOTHING, stage=stage, logged_out=logged_out)


def _lost(machine: TailnetMachine, _event: TailnetEvent, now_s: float) -> Step:
    """Record that tailscaled does not respond."""
    return machine._replace(lost=True, since_s=machine.since_s if machine.lost else now_s), ()


def _observed(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Handle an observation: update the login and decide the next action."""
    seen = event.seen
    first: tuple[Action, ...] = ()
    if machine.seen and (machine.lost or seen.life != machine.life):
        machine, first = _restarted(machine), (Action.RESET,)
    machine = _follow_login(_follow_state(machine, seen, now_s), seen, now_s)
    # Another restart of the control client would invalidate a pending login URL.
    away = seen.state == Backend.RUNNING and not seen.online and not seen.url
    outage, recovery = recover(machine.outage, now_s, away=away, removed=seen.removed)
    # An action that was postponed because of another one is still due.
    help_due = outage is not None and (machine.help_due or recovery is Recovery.SOFT)
    machine = machine._replace(outage=outage, help_due=help_due)
    if machine.leaving:
        return machine, first
    if _has_remains(machine, now_s):
        return machine._replace(dropped=True), (*first, Action.DROP_REMAINS)
    last = (Action.RESTART_TAILSCALED,) if recovery is Recovery.RESTART else ()
    machine, actions = _next(machine, seen, now_s)
    return machine, (*first, *actions, *last)


def _has_remains(machine: TailnetMachine, now_s: float) -> bool:
    """Return whether tailscaled was logged out, and has then taken a late message of control for a login.

    tailscaled 1.102.5 does so if the message arrives together with the logout: it then reports that it is switched off
    instead of that it needs a login, and cannot be logged in reliably until it is restarted. A logout of another
    program looks the same while it is under way, and a restart would then take a login that it may leave.
    """
    is_idle = machine.running is Action.NOTHING and not machine.attached and not machine.dropped
    lasts = now_s - machine.since_s >= _LOGGED_OUT_S
    over = lasts or (machine.logged_out and machine.state == Backend.STOPPED)
    return is_idle and over and machine.state in _STUCK and not machine.have_node_key


def _restarted(machine: TailnetMachine) -> TailnetMachine:
    """Return the machine for a new process of tailscaled, which has lost earlier requests."""
    if machine.trying:
        machine = machine._replace(stage=Stage.IDLE, retry=machine.retry.interrupted())
    return machine._replace(url_asked_s=None, prefs=None, adjusted=False, forbidden=())


def _follow_state(machine: TailnetMachine, seen: Observation, now_s: float) -> TailnetMachine:
    same = machine.seen and not machine.lost and seen.state == machine.state
    obeyed = machine.ordered_s is not None and now_s - machine.ordered_s >= OBEYED_S and seen.state == Backend.RUNNING
    had_login = machine.had_login or seen.state in IN_A_TAILNET
    machine = machine._replace(
        state=seen.state,
        since_s=machine.since_s if same else now_s,
        life=seen.life,
        seen=True,
        lost=False,
        repeats=machine.repeats if same else 0,
        logged_out=machine.logged_out and seen.state not in SWITCHED_ON,
        switched_off=machine.switched_off and seen.state not in SWITCHED_ON,
        # A restart that did not help is not repeated.
        dropped=machine.dropped and seen.state in {*_STUCK, Backend.NO_STATE},
        have_node_key=seen.have_node_key,
        url=seen.url,
        # Whatever changed the state may have changed them.
        prefs=machine.prefs if same else None,
        ordered_s=None if obeyed else machine.ordered_s,
        had_login=had_login and machine.choice is not Choice.FORGOTTEN,
    )
    if machine.running is not Action.NOTHING:
        return machine
    # Without a node key there is no login to replace.
    replaces = machine.replaces and (seen.have_node_key or seen.state != Backend.NEEDS_LOGIN)
    key = seen.key if machine.needs_key else machine.key
    return machine._replace(replaces=replaces, key=key, prefs=seen.prefs or machine.prefs)


def _follow_login(machine: TailnetMachine, seen: Observation, now_s: float) -> TailnetMachine:
    if not machine.trying:
        machine = machine._replace(node_key=seen.node_key)
    # The old login may stay valid until the new one succeeds.
    is_new = not (machine.replaces and seen.node_key == machine.node_key)
    if machine.trying and is_new and seen.state in _TAKEN and machine.makes_ephemeral is not None:
        # An approval may take days, and outlast this process.
        machine = machine._replace(ephemeral=machine.makes_ephemeral)
    if seen.state == Backend.RUNNING and seen.online:
        machine = _follow_online(machine, now_s, is_new=is_new)
    lasting = seen.state == Backend.RUNNING and now_s - machine.since_s >= _SETTLED_S
    if lasting and not (machine.trying or machine.replaces):
        machine = _settled(machine, LoginRetry())
    if machine.trying:
        machine = _follow_trying(machine, seen, now_s, is_new=is_new)
    if seen.state == Backend.NEEDS_LOGIN:
        machine = machine._replace(by_url=machine.pending_url)
    return machine


def _follow_online(machine: TailnetMachine, now_s: float, *, is_new: bool) -> TailnetMachine:
    if machine.trying and is_new:
        machine = _settled(_counted(machine, SUCCEEDED), machine.retry.succeeded(now_s))
        machine = machine._replace(stage=Stage.IDLE, prefs=LoginPrefs())
    if machine.by_url:
        machine = _counted(machine, SUCCEEDED)._replace(by_url=False, ephemeral=False)
    return machine._replace(url_asked_s=None)


def _settled(machine: TailnetMachine, retry: LoginRetry) -> TailnetMachine:
    """Record that the device is in its tailnet, which completes the login."""
    ephemeral = machine.ephemeral if machine.makes_ephemeral is None else machine.makes_ephemeral
    return machine._replace(
        retry=retry,
        ephemeral=ephemeral,
        makes_ephemeral=None,
        pasted=False,
        replaces=False,
        by_hand=Pending.NOTHING,
    )


def _follow_trying(machine: TailnetMachine, seen: Observation, now_s: float, *, is_new: bool) -> TailnetMachine:
    """Give up on a login without success and without an error."""
    retry = machine.retry
    fruitless = seen.state == Backend.NEEDS_LOGIN and retry.fruitless(now_s) and not seen.unreached
    unanswered = not is_new and retry.overdue(now_s)
    if not (fruitless or unanswered):
        return machine
    why = retry.note or retry.error or "the login brought neither success nor an error"
    return _erred(_counted(machine, NO_ANSWER), why, now_s)._replace(
        stage=Stage.RELEASING if machine.replaces else Stage.IDLE,
        retry=retry._replace(note=why).given_up(now_s),
        failure=LoginFailure(retry.wish, why),
    )


def _next(machine: TailnetMachine, seen: Observation, now_s: float) -> Step:
    if machine.running is not Action.NOTHING or now_s < machine.not_before_s:
        return machine, ()
    if not leaves_login_to_others(machine, now_s):
        machine = machine._replace(due=next_action(machine, now_s))
        if machine.due is not Action.NOTHING and not machine.may_not:
            lost_its_way = machine.due is Action.KEEP_LOGIN and (machine.prefs or LoginPrefs()).logged_out
            told = (_TAKING_UP,) if lost_its_way else ()
            return _begin(machine, machine.due, now_s), (*told, machine.due)
    # Recovery from an outage would make tailscaled drop a key under way.
    trying = machine.trying and not machine.retry.overdue(now_s)
    here = seen.state == Backend.RUNNING and machine.choice in {Choice.CONNECTED, Choice.UNKNOWN} and not trying
    if not here:
        return machine, ()
    helps = (Action.RESTART_CLIENT,) if machine.help_due else ()
    return machine._replace(running=Action.MAINTAIN, help_due=False), (*helps, Action.MAINTAIN)


def _begin(machine: TailnetMachine, action: Action, now_s: float) -> TailnetMachine:
    machine = machine._replace(running=action)
    if action is Action.FETCH_KEY:
        return machine._replace(stage=Stage.FETCHING, retry=machine.retry.interrupted())
    if action in BEGIN_ANEW:
        # Pending results are void, and the current state is unknown.
        machine = machine._replace(url=False, prefs=None)
    if action in {Action.RELEASE_KEY, Action.KEEP_LOGIN}:
        machine = machine._replace(went_back_s=now_s)
    if action is Action.RELEASE_KEY and machine.replaces:
        return _let_go(machine, machine.last_error, now_s)
    return machine._replace(retry=LoginRetry()) if action is Action.KEEP_LOGIN else machine


def _hold(machine: TailnetMachine, _event: TailnetEvent, now_s: float) -> Step:
    """Wait for the backups: nothing is known of tailscaled, and what was under way with it is over."""
    fresh = TailnetMachine(machine.attached, machine.choice, machine.ephemeral, wish=machine.wish, since_s=now_s)
    return fresh._replace(stage=Stage.HELD, results=machine.results, leaving=machine.leaving), ()


def _end_hold(machine: TailnetMachine, event: TailnetEvent, _now_s: float) -> Step:
    """Begin with the choice that came with the files, or with what its owner has ordered meanwhile."""
    choice = event.choice if machine.ordered_s is None else machine.choice
    return machine._replace(stage=Stage.IDLE, choice=choice, ephemeral=event.ephemeral), ()


def _later(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Take an order, to be carried out when the start is no longer held."""
    machine, _ = _EVERYWHERE[event.kind](machine, event, now_s)
    return machine._replace(stage=Stage.HELD), ()


def _nothing(machine: TailnetMachine, _event: TailnetEvent, _now_s: float) -> Step:
    return machine, ()


_EVERYWHERE: dict[TailnetEventKind, _Handler] = {
    TailnetEventKind.HOLD: _hold,
    TailnetEventKind.LET_GO: _nothing,
    TailnetEventKind.CONNECT: _connect,
    TailnetEventKind.DISCONNECT: _disconnect,
    TailnetEventKind.LEAVE: _leave,
    TailnetEventKind.OBSERVED: _observed,
    TailnetEventKind.LOST: _lost,
    TailnetEventKind.DONE: _done,
    TailnetEventKind.FAILED: _failed,
    TailnetEventKind.BROKEN_OFF: _broken_off,
    TailnetEventKind.REFUSED: _note_error,
    TailnetEventKind.KEY_READY: _late_key,
    TailnetEventKind.NO_KEY: _late_key,
}
TABLE: dict[tuple[Stage, TailnetEventKind], _Handler] = {
    **{(stage, kind): handler for stage in Stage for kind, handler in _EVERYWHERE.items()},
    (Stage.FETCHING, TailnetEventKind.KEY_READY): _key_ready,
    (Stage.FETCHING, TailnetEventKind.NO_KEY): _no_key,
    (Stage.TRYING, TailnetEventKind.REFUSED): _refused,
    **{(Stage.HELD, kind): _nothing for kind in TailnetEventKind},
    (Stage.HELD, TailnetEventKind.LET_GO): _end_hold,
    (Stage.HELD, TailnetEventKind.CONNECT): _later,
    (Stage.HELD, TailnetEventKind.DISCONNECT): _later,
    (Stage.HELD, TailnetEventKind.LEAVE): _leave,
}
