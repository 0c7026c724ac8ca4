"""Derives incidents from changes of the snapshot, and updates open ones. Pure.

The functions keep no state: a caller that sees every snapshot sees every incident.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from supervisor.core import incidents as kinds
from supervisor.core.backup import BackupState
from supervisor.core.causes import cause_of_end, kind_of_end
from supervisor.core.counts import SUCCEEDED
from supervisor.core.health import FAIL, STARTUP_S, TAILNET_BLINK_S
from supervisor.core.incidents import ERROR, INFO, WARNING, Incident
from supervisor.core.process import HELD_STATES, State
from supervisor.core.run_record import STOPPED, UNFINISHED, RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from supervisor.core.causes import Evidence
    from supervisor.core.run_record import RunEnd
    from supervisor.core.snapshot import ExitView, HealthChange, ProcessView, Snapshot

    # A process before, None if it is new, and after.
    Change = tuple[ProcessView | None, ProcessView]

# Without an id, which the recorder gives it.
_new = partial(Incident, "")
_BEFORE_THE_START = frozenset({BackupState.STARTING, BackupState.STANDBY, BackupState.RESTORING})
_WHAT = {
    kinds.CRASH: "crashed",
    kinds.EXIT: "ended by itself",
    kinds.KILLED: "was killed",
    kinds.HANG: "hung",
    kinds.OUT_OF_MEMORY: "ran out of memory",
    kinds.NOT_STARTED: "could not be started",
}
_STOPS = (
    ("SIGTERM", "the platform or an operator asked the container to stop, as for a deploy"),
    ("SIGINT", "somebody pressed Ctrl-C, or sent it INT"),
    ("SIGHUP", "its terminal was closed"),
    ("has ended for good", "the app is not started again, and everything else runs for it"),
)
_LOGINS = {
    "refused": "the control server refused it",
    "no_answer": "the control server did not answer",
    "no_key": "there was no key to log in with",
}

_GIVEN_UP = "everything is stopped in order, and the container ends with exit code 70"
_NOT_AGAIN = "it is not started again, as everything is being stopped"
_DONE = {
    State.FAILED: "it is given up",
    State.ENDED: "it is not started again: its restart policy says so",
    State.INACTIVE: "it stays stopped, as ordered",
    State.WAITING: "it waits for its turn to start",
    **dict.fromkeys(HELD_STATES, "its start is held by the backups"),
}


def changed_processes(before: Snapshot, after: Snapshot) -> list[Change]:
    """Return the processes that have changed; processes keep their positions."""
    if after.processes is before.processes:
        return []
    known = len(before.processes)
    if after.number == before.number + 1:
        # Only one: comparing a thousand takes longer than all else that follows from a change.
        place = after.changed
        return [(before.processes[place] if place < known else None, after.processes[place])]
    changed = [pair for pair in zip(before.processes, after.processes, strict=False) if pair[0] is not pair[1]]
    return [*changed, *((None, view) for view in after.processes[known:])]


def new_ends(seen: ProcessView | None, view: ProcessView) -> Iterator[ExitView]:
    """Yield the exits that were not requested."""
    last_s = seen.exits[-1].at_s if seen is not None and seen.exits else float("-inf")
    yield from (end for end in view.exits if end.at_s > last_s and not end.expected)


def begins_to_end_hung(seen: ProcessView | None, view: ProcessView) -> bool:
    """Return whether a process is about to be ended because it hung; its state can still be inspected."""
    return view.hung and view.state is State.STOPPING and (seen is None or seen.state is not State.STOPPING)


def of_end(view: ProcessView, end: ExitView, evidence: Evidence, wall_offset_s: float) -> Incident:
    """Return the incident for an exit."""
    kind = kind_of_end(end, evidence)
    return _new(
        at_s=end.at_s + wall_offset_s,
        kind=kind,
        subject=view.name,
        level=ERROR,
        what=f"{view.name} {_WHAT[kind]}",
        why=end.reason,
        cause=cause_of_end(kind, end, evidence),
        code=end.code,
        uptime_s=round(end.uptime_s, 3),
        peak_bytes=end.peak_bytes,
        limit_bytes=evidence.limit_bytes,
        last_lines=evidence.head or end.last_lines,
    )


def news(before: Snapshot, after: Snapshot, now_s: float) -> Iterator[Incident]:
    """Yield the incidents of everything except processes and the passing of time."""
    if after.stopping and not before.stopping:
        yield of_stop(after, now_s)
    if after.tailnet is not before.tailnet:
        yield from _logins(before, after)
        yield from _returns(before, after)
    if after.health is not before.health:
        yield from _verdicts(before, after)
    if after.backup is not before.backup:
        yield from _backups(before, after)


def of_stop(snapshot: Snapshot, now_s: float) -> Incident:
    """Return the incident of the container's end, which begins now."""
    why = snapshot.stopping_why
    return _new(
        at_s=now_s + snapshot.wall_offset_s,
        kind=kinds.END,
        subject="container",
        level=INFO,
        what="the container was stopped",
        why=why,
        cause=next((cause for sign, cause in _STOPS if sign in why), "see the incidents before this one"),
    )


def ended_with(incident: Incident, status: int, why: str, took_s: float, left: Sequence[str] = ()) -> Incident:
    """Return the incident of the container's end: ``why`` is set if it was not requested.

    ``left`` are the names of the processes that had not ended by then.
    """
    ended = "everything was ended in order within"
    if left:
        ended = f"not everything was ended in order: {', '.join(left)} still ran after"
    done = f"{ended} {took_s:.1f} s; {_exit_code(status)}"
    incident = msgspec.structs.replace(incident, code=status, done=done)
    if not why:
        return incident
    return msgspec.structs.replace(
        incident, level=ERROR, what=f"the container ended with {_exit_code(status)}", why=why
    )


def _exit_code(status: int | None) -> str:
    return f"exit code {status}"


def of_kills(snapshot: Snapshot, count: int, limit_bytes: int | None, now_s: float) -> Incident:
    """Return the incident of unmanaged processes that the kernel killed for lack of memory."""
    return _new(
        at_s=now_s + snapshot.wall_offset_s,
        kind=kinds.OUT_OF_MEMORY,
        subject="container",
        level=ERROR,
        what="the container ran out of memory",
        why=f"the kernel killed {count} of its processes, none of which the supervisor had started",
        cause="something that a process started used up the memory; give the container more, or reduce what it uses",
        done="nothing: the process that it belonged to is still running",
        limit_bytes=limit_bytes,
    )


def after_incidents(end: RunEnd, known: Iterable[Incident], run: str) -> RunEnd:
    """Return the end of a run that was killed, not before its last incident: its record is written less often."""
    if end.how == STOPPED:
        return end
    seen_s = [max(each.at_s, each.last_s or 0.0, each.until_s or 0.0) for each in known if each.run == run]
    return end._replace(at_s=max([end.at_s, *seen_s]))


def own_end(known: Iterable[Incident], run: str) -> Incident | None:
    """Return the incident of a run's end that the run wrote itself; None if it did not, and was killed."""
    return next((each for each in known if each.kind == kinds.END and each.run == run and _is_own(each)), None)


def record_of_end(known: Sequence[Incident]) -> RunRecord | None:
    """Return the record of the last run, if its own one is lost: ``known`` are the stored incidents, the oldest first.

    The newest of them tells of that run if it is its end, and no later run has seen that.
    """
    # That one adds to it that it was started again.
    if not known or known[-1].kind != kinds.END or not known[-1].done.endswith(_exit_code(known[-1].code)):
        return None
    end = known[-1]
    return RunRecord(end.run, end.at_s, end.at_s, end.version)


def _is_own(end: Incident) -> bool:
    """Return whether the run itself wrote its end: with an exit code, or before that with a level of no other run."""
    return end.code is not None or end.level == INFO


def of_run(end: RunEnd, again: str) -> Incident:
    """Return the incident of a run's end that the run could not write itself."""
    level = INFO if end.how == STOPPED else ERROR
    found = _new(at_s=end.at_s, kind=kinds.END, subject="container", level=level, what="")
    return judged(found, end, again)


def judged(incident: Incident, end: RunEnd, again: str) -> Incident:
    """Return the end of a run as the next run assesses it."""
    done = "; ".join(filter(None, (incident.done, again)))
    if end.how == STOPPED:
        what = incident.what or "the container was stopped"
        return msgspec.structs.replace(incident, what=what, why=incident.why or end.why, done=done)
    what = "the container was killed" + (" while it was stopping" if end.how == UNFINISHED else "")
    return msgspec.structs.replace(incident, level=ERROR, what=what, why=end.why, cause=end.cause, done=done)


def give_up(
    seen: ProcessView | None, view: ProcessView, wall_offset_s: float, *, stopping: bool = False
) -> Incident | None:
    """Return the incident of a process that was given up; it ends nothing where everything is ``stopping`` anyway."""
    if view.state is not State.FAILED or (seen is not None and seen.state is State.FAILED):
        return None
    last = view.exits[-1] if view.exits else None
    times = "once" if view.failures == 1 else f"{view.failures} times"
    return _new(
        at_s=view.since_s + wall_offset_s,
        kind=kinds.GIVE_UP,
        subject=view.name,
        level=ERROR,
        what=f"{view.name} was given up",
        why=f"it failed {times}; the last time: {last.reason if last else 'it never ran'}",
        cause="the same again and again: see the incidents before this one",
        done=_NOT_AGAIN if stopping else _GIVEN_UP,
        last_lines=last.last_lines if last else (),
    )


def _logins(before: Snapshot, after: Snapshot) -> Iterator[Incident]:
    was = dict(before.tailnet.logins)
    for result, count in after.tailnet.logins:
        if result != SUCCEEDED and count > was.get(result, 0):
            view = after.tailnet
            yield _new(
                at_s=(view.last_error_s or view.since_s) + after.wall_offset_s,
                kind=kinds.LOGIN_FAILED,
                subject="tailnet",
                level=ERROR,
                what="a login to the tailnet failed",
                why=view.last_error or view.why,
                cause=_LOGINS.get(result, result),
                done=view.what_to_do,
            )


def _returns(before: Snapshot, after: Snapshot) -> Iterator[Incident]:
    """Yield an outage that was over before it was checked."""
    away_s = before.tailnet.away_since_s
    if after.tailnet.up and not before.tailnet.up and away_s is not None and not before.tailnet.by_owner:
        length_s = after.tailnet.since_s - away_s
        if before.tailnet.first_up_s is not None and length_s >= TAILNET_BLINK_S:
            yield _away(before, away_s)


def outage(snapshot: Snapshot, now_s: float) -> Incident | None:
    """Return the incident of a tailnet that was up and is away."""
    view = snapshot.tailnet
    if view.up or view.by_owner or view.away_since_s is None or view.first_up_s is None or snapshot.stopping:
        return None
    return _away(snapshot, view.away_since_s) if now_s - view.away_since_s >= TAILNET_BLINK_S else None


def _away(snapshot: Snapshot, away_s: float) -> Incident:
    view = snapshot.tailnet
    return _new(
        at_s=away_s + snapshot.wall_offset_s,
        kind=kinds.TAILNET_AWAY,
        subject="tailnet",
        level=WARNING,
        what="the tailnet was away",
        why=view.why or view.state,
        cause=view.last_error,
        done=view.what_to_do or "tailscaled tries again by itself",
    )


def _verdicts(before: Snapshot, after: Snapshot) -> Iterator[Incident]:
    """Yield each change of the verdict to fail, except before the first verdict better than fail."""
    history = after.health.history
    last_s = before.health.history[-1].at_s if before.health.history else float("-inf")
    for at, change in enumerate(history):
        if change.at_s <= last_s or change.status != FAIL or after.stopping:
            continue
        if at and history[at - 1].status != FAIL:
            yield _verdict(after, change)


def bad_start(snapshot: Snapshot, now_s: float) -> Incident | None:
    """Return the incident of a start whose verdict has only been fail so far."""
    history = snapshot.health.history
    is_bad = bool(history) and all(change.status == FAIL for change in history)
    backup = snapshot.backup
    # A restore may take longer than any start, which begins when nothing is held any more.
    is_held_up = backup.holds and backup.state in _BEFORE_THE_START
    late = not is_held_up and now_s - max(snapshot.started_s, backup.since_s) >= STARTUP_S
    return _verdict(snapshot, history[0]) if is_bad and late and not snapshot.stopping else None


def _verdict(snapshot: Snapshot, change: HealthChange) -> Incident:
    """Return the incident of a verdict; its level is info if an order or the exit of a process explains it."""
    names = [name for name, status in change.wrong if status == FAIL]
    views = [view for view in map(snapshot.process, names) if view is not None]
    causes = [_explained(view) for view in views]
    explained = len(views) == len(names) and all(causes)
    return _new(
        at_s=change.at_s + snapshot.wall_offset_s,
        kind=kinds.UNHEALTHY,
        subject="health",
        level=INFO if explained else ERROR,
        what="/health failed",
        why="; ".join(change.reasons),
        cause="; ".join(filter(None, causes)),
    )


def _explained(view: ProcessView) -> str:
    """Return why a process is down if that is known; empty for one that runs and does not answer."""
    if view.state in {State.STOPPING, State.QUITTING, State.KILLING}:
        return f"{view.name} hung, and is being ended" if view.hung else f"{view.name} was stopped on request"
    if not view.exits or (view.state is State.RUNNING and view.ever_ready):
        return ""
    return f"{view.name} was stopped on request" if view.exits[-1].expected else f"{view.name} ended by itself"


def _backups(before: Snapshot, after: Snapshot) -> Iterator[Incident]:
    view, at_s = after.backup, after.backup.since_s + after.wall_offset_s
    known = {order.at_s for order in before.backup.orders}
    for order in view.orders:
        if order.at_s not in known:
            kind = kinds.RESTORE if order.snapshot else kinds.BACKUP
            what = f"a restore of {order.snapshot[:8]} was asked for" if order.snapshot else "a backup was asked for"
            level = WARNING if order.snapshot else INFO
            told_s = order.at_s + after.wall_offset_s
            yield _new(
                at_s=told_s, kind=kind, subject="backup", level=level, what=what, cause="on request", by=order.by
            )
    for kind, what, counts, seen in (
        (kinds.BACKUP_FAILED, "a backup failed", view.taken, before.backup.taken),
        (kinds.RESTORE_FAILED, "a restore failed", view.restores, before.backup.restores),
    ):
        if dict(counts).get("failed", 0) > dict(seen).get("failed", 0):
            yield _new(
                at_s=max(at_s, after.wall_offset_s),
                kind=kind,
                subject="backup",
                level=ERROR,
                what=what,
                why=view.why,
                done=view.what_to_do,
            )


def closed(incident: Incident, at_s: float) -> Incident:
    """Return an open incident closed by the end of its run."""
    if incident.kind in kinds.LASTING:
        return msgspec.structs.replace(incident, until_s=max(at_s, incident.at_s))
    return msgspec.structs.replace(incident, done="the container ended")


def followed_up(incident: Incident, snapshot: Snapshot, view: ProcessView | None, now_s: float) -> Incident:
    """Return an open incident of this run, updated with what is now known of its end; ``view`` is its process."""
    now_s += snapshot.wall_offset_s
    if incident.kind == kinds.TAILNET_AWAY:
        over = snapshot.tailnet.up or snapshot.tailnet.by_owner
        return _ended(incident, now_s) if over else incident
    if incident.kind == kinds.UNHEALTHY:
        return _ended(incident, now_s) if snapshot.health.status != FAIL else incident
    done = _done(view) if view is not None else ""
    return msgspec.structs.replace(incident, done=done) if done else incident


def _ended(incident: Incident, now_s: float) -> Incident:
    return msgspec.structs.replace(incident, until_s=max(now_s, incident.at_s))


def _done(view: ProcessView) -> str:
    if view.state is State.BACKOFF and view.next_try_s is not None:
        wait_s = max(0.0, view.next_try_s - view.since_s)
        return f"it is started again after {wait_s:.1f} s (failure {view.failures} in a row)"
    if view.exits and view.started_s is not None and view.started_s > view.exits[-1].at_s:
        # The pause before it was over, or it had none, before anyone could see it.
        return f"it was started again after {view.started_s - view.exits[-1].at_s:.1f} s"
    return _DONE.get(view.state, "")
