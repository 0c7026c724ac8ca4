"""The way of a tailnet to where its owner wants it, as a total table of stage and event.

``step`` takes what happened and returns the next machine with what is to be done about it; it touches nothing, and
reads no clock. It works by level: each look at tailscaled (OBSERVED) starts from what is, so nothing is lost when
tailscaled, or this, is restarted half-way through anything.
Rule 1: a login with a key is in one of four stages; what else may be true of it is data.
Rule 2: one command at a time: while one runs, looks are followed and decide nothing.
Rule 3: what comes of a key is an answer to the wish that it was handed over for, and to no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.counts import NO_ANSWER, NO_KEY, REFUSED, SUCCEEDED, plus_one
from supervisor.core.policy import leaves_login_to_others, next_action
from supervisor.core.retry import LoginRetry, Recovery, doubling_s, recover
from supervisor.core.tailnet import (
    BEGIN_ANEW,
    IN_A_TAILNET,
    Action,
    Backend,
    Choice,
    LogEntry,
    LoginPrefs,
    Pending,
    Stage,
    TailnetEventKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.tailnet import Observation, Step, TailnetEvent, TailnetMachine

    _Handler = Callable[[TailnetMachine, TailnetEvent, float], Step]

# Where control has taken a key that was under way.
_TAKEN = frozenset({Backend.STARTING, Backend.NEEDS_APPROVAL})
# tailscaled does not say what it has until it has heard from control.
_MAY_HAVE_LOGIN = IN_A_TAILNET | {Backend.NO_STATE}
# So long after an order, being switched off may still be the order's own doing.
OBEYED_S = 5.0
_SETTLED_S = 60.0
_LONGEST_WAIT_S = 60.0


def step(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Return the next machine, and what is to be done."""
    return TABLE[machine.stage, event.kind](machine, event, now_s)


def _connect(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Take a person's wish: whatever was tried before is tried at once, unless its answer may be on the way."""
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
    # A person asks for help in an outage, too.
    outage = machine.outage and machine.outage._replace(next_s=0.0)
    return _ordered(machine._replace(choice=Choice.CONNECTED, by_hand=Pending.TRY, outage=outage), now_s)


def _disconnect(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Take the opposite; a login under way is ended, since tailscaled would go on trying."""
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
            # What went wrong before says nothing of what comes now.
            last_error="",
            last_error_s=None,
        ),
        now_s,
    )


def _ordered(machine: TailnetMachine, now_s: float) -> Step:
    """An order begins anew: what failed is tried at once, and a command that it contradicts is broken off."""
    machine = machine._replace(command_failures=0, not_before_s=0.0, forbidden=(), ordered_s=now_s)
    # A logout may wait a minute for a control server that is not there, and a key half a minute for an API.
    contradicts = (machine.running is Action.LOG_OUT and machine.choice is not Choice.FORGOTTEN) or (
        machine.running is Action.FETCH_KEY and machine.stage is not Stage.FETCHING
    )
    return machine, (Action.CANCEL,) if contradicts else ()


def _leave(machine: TailnetMachine, _event: TailnetEvent, _now_s: float) -> Step:
    return machine._replace(leaving=True), ()


def _key_ready(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Hand the key over. Known before tailscaled is told: the first refusal may come at once."""
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
    """Use no key that nobody waits for any more."""
    return machine._replace(running=Action.NOTHING), ()


def _no_key(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Take in that the OAuth client got no key: for good, or for now."""
    key = machine.key or b""
    machine = machine._replace(stage=Stage.IDLE, running=Action.NOTHING, failure=(machine.wish, event.why))
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
    """Take an error from the bus: while a login is under way, it is about that."""
    before, retry = machine.retry, machine.retry.refused(event.why, now_s)
    machine = _erred(machine._replace(retry=retry), event.why, now_s)
    if retry.refusals == before.refusals:
        return machine, ()
    machine = _counted(machine, REFUSED)._replace(failure=(retry.wish, event.why))
    if not retry.under_way:
        machine = machine._replace(stage=Stage.RELEASING)
    if before.refusals:
        return machine, ()
    fields = (("kind", retry.kind), ("why", event.why))
    return machine, (LogEntry("error", "tailnet: the key was refused", fields),)


def _note_error(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Note an error of a login that is not ours; a device that has one may still hear of one that was let go."""
    return _erred(machine, event.why, now_s) if machine.state == Backend.NEEDS_LOGIN else machine, ()


def _let_go(machine: TailnetMachine, why: str, now_s: float) -> TailnetMachine:
    """Let go of a new key: the device has a login."""
    machine = machine._replace(
        replaces=False, by_hand=Pending.NOTHING, pasted=False, makes_ephemeral=None, retry=LoginRetry()
    )
    return _erred(machine, f"the new key was not taken, and the device keeps its login: {why}", now_s)


def _with_url(machine: TailnetMachine) -> TailnetMachine:
    """Who asked to connect is not left alone with a key that does not work."""
    return machine._replace(by_hand=Pending.NOTHING if machine.by_hand is Pending.NOTHING else Pending.URL)


def _erred(machine: TailnetMachine, why: str, now_s: float) -> TailnetMachine:
    return machine._replace(last_error=why, last_error_s=now_s)


def _counted(machine: TailnetMachine, result: str) -> TailnetMachine:
    return machine._replace(results=plus_one(machine.results, result))


def _done(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    machine = _freed(machine)._replace(command_failures=0, prefs=event.prefs or machine.prefs)
    if event.action in {Action.RELEASE_KEY, Action.KEEP_LOGIN} and machine.stage is Stage.RELEASING:
        machine = machine._replace(stage=Stage.IDLE)
        if event.action is Action.RELEASE_KEY:
            machine = _with_url(machine._replace(makes_ephemeral=None))
    if event.action is Action.ASK_URL:
        machine = machine._replace(url_asked_s=now_s)
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


def _failed(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Wait before the next command: longer with each failure, until something is done or a person orders something."""
    action = event.action
    if action is Action.LOG_IN and machine.trying:
        machine = machine._replace(stage=Stage.IDLE, retry=machine.retry.interrupted())
    failures = machine.command_failures + 1
    what = f"cannot {action.value}"
    not_before_s = now_s + doubling_s(1.0, failures - 1, _LONGEST_WAIT_S)
    machine = _freed(machine)._replace(command_failures=failures, not_before_s=not_before_s)
    machine = _erred(machine, f"{what}: {event.why}", now_s)
    if action is not Action.MAINTAIN and not event.passing:
        machine = machine._replace(failure=(machine.wish, machine.last_error))
    if action is not Action.MAINTAIN and event.forbidden:
        why = f"the supervisor's user may not have this tailscaled {action.value}: {event.why}"
        # A key is fetched for nothing where it may not be handed over.
        decided = Action.FETCH_KEY if action is Action.LOG_IN else action
        machine = machine._replace(forbidden=(*machine.forbidden, (decided, why)))
    record = LogEntry("warning", f"tailnet: {what}", (("why", event.why),))
    return machine, (record,) if failures == 1 else ()


def _broken_off(machine: TailnetMachine, _event: TailnetEvent, _now_s: float) -> Step:
    return _freed(machine), ()


def _freed(machine: TailnetMachine) -> TailnetMachine:
    stage = Stage.IDLE if machine.stage is Stage.FETCHING else machine.stage
    return machine._replace(running=Action.NOTHING, stage=stage)


def _lost(machine: TailnetMachine, _event: TailnetEvent, now_s: float) -> Step:
    """Note that there was no answer."""
    return machine._replace(lost=True, since_s=machine.since_s if machine.lost else now_s), ()


def _observed(machine: TailnetMachine, event: TailnetEvent, now_s: float) -> Step:
    """Take in a look, draw the conclusions for the login, and decide what is next."""
    seen = event.seen
    first: tuple[Action, ...] = ()
    if machine.seen and (machine.lost or seen.life != machine.life):
        machine, first = _restarted(machine), (Action.RESET,)
    machine = _follow_login(_follow_state(machine, seen, now_s), seen, now_s)
    # Another restart of the control client would make a pending login URL worthless.
    away = seen.state == Backend.RUNNING and not seen.online and not seen.url
    outage, recovery = recover(machine.outage, now_s, away=away, removed=seen.removed)
    # What could not be done at once, as something else was under way, is still due.
    help_due = outage is not None and (machine.help_due or recovery is Recovery.SOFT)
    machine = machine._replace(outage=outage, help_due=help_due)
    if machine.leaving:
        return machine, first
    last = (Action.RESTART_TAILSCALED,) if recovery is Recovery.RESTART else ()
    machine, actions = _next(machine, seen, now_s)
    return machine, (*first, *actions, *last)


def _restarted(machine: TailnetMachine) -> TailnetMachine:
    """Return it for another life of tailscaled, which has forgotten what it was asked."""
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
        have_node_key=seen.have_node_key,
        url=seen.url,
        ordered_s=None if obeyed else machine.ordered_s,
        had_login=had_login and machine.choice is not Choice.FORGOTTEN,
    )
    if machine.running is not Action.NOTHING:
        return machine
    # Without a node key there is no login to be replaced.
    replaces = machine.replaces and (seen.have_node_key or seen.state != Backend.NEEDS_LOGIN)
    key = seen.key if machine.needs_key else machine.key
    return machine._replace(replaces=replaces, key=key, prefs=seen.prefs or machine.prefs)


def _follow_login(machine: TailnetMachine, seen: Observation, now_s: float) -> TailnetMachine:
    if not machine.trying:
        machine = machine._replace(node_key=seen.node_key)
    # The old login of a device that logs in anew may hold on until the new one is there.
    is_new = not (machine.replaces and seen.node_key == machine.node_key)
    if machine.trying and is_new and seen.state in _TAKEN and machine.makes_ephemeral is not None:
        # An approval may take days, and outlive this process.
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
    """Note that the device is in its tailnet: what was tried for that has done its duty."""
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
    """Give up on a login that brings neither success nor an error."""
    retry = machine.retry
    fruitless = seen.state == Backend.NEEDS_LOGIN and retry.fruitless(now_s) and not seen.unreached
    unanswered = not is_new and retry.overdue(now_s)
    if not (fruitless or unanswered):
        return machine
    why = retry.note or retry.error or "the login brought neither success nor an error"
    return _erred(_counted(machine, NO_ANSWER), why, now_s)._replace(
        stage=Stage.RELEASING if machine.replaces else Stage.IDLE,
        retry=retry._replace(note=why).given_up(now_s),
        failure=(retry.wish, why),
    )


def _next(machine: TailnetMachine, seen: Observation, now_s: float) -> Step:
    if machine.running is not Action.NOTHING or now_s < machine.not_before_s:
        return machine, ()
    if not leaves_login_to_others(machine, now_s):
        machine = machine._replace(due=next_action(machine, now_s))
        if machine.due is not Action.NOTHING and not machine.may_not:
            return _begin(machine, machine.due, now_s), (machine.due,)
    # What helps in an outage would have tailscaled drop a key that is under way.
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
        # What was pending is worth nothing any more, and what holds then is not known.
        machine = machine._replace(url=False, prefs=None)
    if action in {Action.RELEASE_KEY, Action.KEEP_LOGIN}:
        machine = machine._replace(went_back_s=now_s)
    if action is Action.RELEASE_KEY and machine.replaces:
        return _let_go(machine, machine.last_error, now_s)
    return machine._replace(retry=LoginRetry()) if action is Action.KEEP_LOGIN else machine


_EVERYWHERE: dict[TailnetEventKind, _Handler] = {
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
}
