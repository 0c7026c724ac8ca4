"""Health as a pure function of a snapshot and the time, and what probes say about one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.backup import COMPONENT as BACKUP
from supervisor.core.backup import STALE_INTERVALS, BackupState
from supervisor.core.credentials import FIRST_WARNING_S, SECOND_WARNING_S, expiries
from supervisor.core.process import State
from supervisor.core.snapshot import HealthChange
from supervisor.moltis import CLOSE_PROXY, OPEN_PROXY_PORT

if TYPE_CHECKING:
    from supervisor.core.backup import BackupView
    from supervisor.core.snapshot import ProcessView, Snapshot, TailnetView

PASS, WARN, FAIL = "pass", "warn", "fail"
_WORSE = {PASS: 0, WARN: 1, FAIL: 2}
# This many failures within this time are flapping; a process then counts as up after running for this long.
FLAPPING_FAILURES = 3
FLAPPING_WINDOW_S = 300.0
SETTLED_S = 10.0
# A tailnet that is down for less than this keeps its status; only its state changes.
TAILNET_BLINK_S = 10.0
STARTUP_S = 60.0
MOST_CHANGES = 50
TAILNET = "tailnet"
EXPOSURE = "exposure"
CREDENTIALS = "credentials"


class Component(NamedTuple):
    """A component: its public state, its status, and the reason.

    ``until_s`` is when time alone may change it; None for never.
    """

    name: str
    state: str
    status: str
    why: str = ""
    until_s: float | None = None


_OPEN_PROXY = Component(
    EXPOSURE,
    "open proxy",
    WARN,
    f"every tailnet peer reaches Moltis' forward proxy on port {OPEN_PROXY_PORT}, and through it everything in here; "
    f"restart the app after this: {CLOSE_PROXY}",
)


class Verdict(NamedTuple):
    """The combined verdict: ``reasons`` are its problems, ``until_s`` is when to assess again."""

    status: str
    components: tuple[Component, ...]
    until_s: float | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The problems, the worst first."""
        bad = sorted((part for part in self.components if part.status != PASS), key=lambda part: -_WORSE[part.status])
        return tuple(f"{part.name}: {part.why or part.state}" for part in bad)

    @property
    def wrong(self) -> tuple[tuple[str, str], ...]:
        """The name and status of each component that does not pass, which identify the verdict.

        Credentials have two stages, each of which is reported.
        """
        bad = (part for part in self.components if part.status != PASS)
        return tuple((part.name, part.state if part.name == CREDENTIALS else part.status) for part in bad)


def remembered(changes: tuple[HealthChange, ...], verdict: Verdict, now_s: float) -> tuple[HealthChange, ...]:
    """Return the last changes, with one more if the failing components differ from those of the last change."""
    if changes and (changes[-1].status, changes[-1].wrong) == (verdict.status, verdict.wrong):
        return changes
    return (*changes, HealthChange(now_s, verdict.status, verdict.reasons, verdict.wrong))[-MOST_CHANGES:]


def assess(snapshot: Snapshot, now_s: float) -> Verdict:
    """Return the combined verdict and that of each component."""
    parts = [
        Component(view.name, view.state.value, FAIL if view.critical else WARN, snapshot.backup.holding)
        if snapshot.is_held(view)
        else _process(view, now_s)
        for view in snapshot.processes
    ]
    if snapshot.tailnet.mode != "off":
        if snapshot.backup.holds and snapshot.tailnet.mode == "embedded":
            parts.append(Component(TAILNET, snapshot.tailnet.state, WARN, snapshot.backup.holding))
        else:
            parts.append(_tailnet(snapshot.tailnet, snapshot.tailnet_grace_s, now_s))
    if snapshot.backup.state is not BackupState.OFF:
        parts.append(_backup(snapshot.backup, snapshot.started_s, now_s))
    if any(listener.port == OPEN_PROXY_PORT for listener in snapshot.exposed):
        parts.append(_OPEN_PROXY)
    if snapshot.credential_warnings:
        parts += _credentials(snapshot, now_s)
    if snapshot.backup.stands_in(now_s) and not all(view.answered for view in snapshot.processes if view.critical):
        # The platform must not end the container for it, while it waits.
        until_s = snapshot.backup.ready_until_s
        parts = [part._replace(status=WARN, until_s=until_s) if part.status == FAIL else part for part in parts]
    status = max((part.status for part in parts), key=_WORSE.__getitem__, default=PASS)
    dues = [part.until_s for part in parts if part.until_s is not None]
    dues += _warning_times_s(snapshot, now_s)
    return Verdict(status, tuple(parts), min(dues, default=None))


def ready(snapshot: Snapshot, now_s: float) -> tuple[bool, tuple[str, ...]]:
    """Return whether to accept traffic, and the reasons if not: critical processes, and the tailnet after its grace."""
    if snapshot.stopping:
        return False, ("stopping",)
    verdict = assess(snapshot, now_s)
    return verdict.status != FAIL, verdict.reasons if verdict.status == FAIL else ()


def _process(view: ProcessView, now_s: float) -> Component:
    bad = FAIL if view.critical else WARN
    if view.state is State.ENDED:
        well = bool(view.exits) and view.exits[-1].code == 0
        return Component(view.name, "ended", PASS if well else bad, "" if well else _last_exit(view))
    if view.state is not State.RUNNING:
        return Component(view.name, view.state.value, bad, _why_not_running(view))
    if not view.ready:
        state = "not ready" if view.ever_ready else "starting"
        return Component(view.name, state, bad, view.ready_why or state)
    failures = [end for end in view.exits if not end.expected and now_s - end.at_s < FLAPPING_WINDOW_S]
    if len(failures) < FLAPPING_FAILURES:
        return Component(view.name, "running", PASS)
    settled_s = (view.ready_since_s or now_s) + SETTLED_S
    minutes = f"{FLAPPING_WINDOW_S / 60:.0f} minutes"
    why = f"it has failed {len(failures)} times in {minutes}; the last time: {_last_exit(view)}"
    forgotten_s = failures[-FLAPPING_FAILURES].at_s + FLAPPING_WINDOW_S
    if now_s < settled_s:
        return Component(view.name, "flapping", bad, why, min(settled_s, forgotten_s))
    return Component(view.name, "flapping", WARN, why, forgotten_s)


def _last_exit(view: ProcessView) -> str:
    return view.exits[-1].reason if view.exits else "it never ran"


def _why_not_running(view: ProcessView) -> str:
    if view.state is State.INACTIVE:
        return "it is stopped"
    if view.state in {State.BACKOFF, State.FAILED, State.CLEANING} and view.exits:
        return f"{_last_exit(view)}; {'given up' if view.state is State.FAILED else 'it will be restarted'}"
    if view.state is State.WAITING and view.ready_why:
        return view.ready_why
    if view.pid is not None and not view.ready and view.ready_why:
        return f"{view.state.value}: {view.ready_why}"
    return str(view.state.value)


def _tailnet(tailnet: TailnetView, grace_s: float | None, now_s: float) -> Component:
    if tailnet.up:
        wrong = [*tailnet.warnings, *([tailnet.serve.why] if tailnet.serve.why else [])]
        return Component(TAILNET, tailnet.state, WARN if wrong else PASS, "; ".join(wrong))
    if tailnet.by_owner:
        return Component(TAILNET, tailnet.state, WARN, tailnet.why)
    away_since_s = now_s if tailnet.away_since_s is None else tailnet.away_since_s
    dues = [away_since_s + TAILNET_BLINK_S, *([] if grace_s is None else [away_since_s + grace_s])]
    until_s = min((due_s for due_s in dues if due_s > now_s), default=None)
    if grace_s is not None and now_s - away_since_s >= grace_s:
        return Component(TAILNET, tailnet.state, FAIL, tailnet.why, until_s)
    # Only a tailnet that was up can have a short interruption.
    blinks = tailnet.first_up_s is not None and now_s - away_since_s < TAILNET_BLINK_S
    return Component(TAILNET, tailnet.state, PASS if blinks else WARN, tailnet.why, until_s)


def _credentials(snapshot: Snapshot, now_s: float) -> list[Component]:
    # A process that has ended is reported by those that need it.
    soon = [each for each in expiries(snapshot, now_s) if each.stage and each.left_s > 0]
    if not soon:
        return []
    first = min(soon, key=lambda each: each.left_s)
    return [Component(CREDENTIALS, first.stage, WARN, "; ".join(each.words for each in soon))]


def _warning_times_s(snapshot: Snapshot, now_s: float) -> list[float]:
    """Return when a credential reaches its next stage."""
    if not snapshot.credential_warnings:
        return []
    ends_s = [now_s + each.left_s for each in expiries(snapshot, now_s)]
    times_s = [end_s - before_s for end_s in ends_s for before_s in (FIRST_WARNING_S, SECOND_WARNING_S, 0.0)]
    return [time_s for time_s in times_s if time_s > now_s]


def _backup(view: BackupView, started_s: float, now_s: float) -> Component:
    state = view.state.value
    told = "; ".join(filter(None, [view.why, view.what_to_do]))
    if view.state in {BackupState.HELD, BackupState.CHOOSE, BackupState.REPLACED}:
        return Component(BACKUP, state, FAIL, told)
    if view.state in {BackupState.WITHOUT, BackupState.STANDBY}:
        return Component(BACKUP, state, WARN, told or "this run takes no snapshots")
    stale_s = (started_s if view.last_good_s is None else view.last_good_s) + STALE_INTERVALS * view.interval_s
    if now_s >= stale_s:
        last = "no good snapshot was taken" if view.last_good_s is None else "the last good snapshot is old"
        return Component(BACKUP, state, WARN, f"{last}: {told or view.warning or 'it is longer than three intervals'}")
    wrong = told or view.warning
    return Component(BACKUP, state, WARN if wrong else PASS, wrong, stale_s)


EAGER_S = 0.5
STEADY_S = 5.0
DEADLINE_S = 2.0
# The delay of a busy loop is shorter.
LATE_S = 0.5
MISSES = 3


class Probing(NamedTuple):
    """The probes of one run of a process: whether one succeeded, how many failed since, and for how long.

    ``seen_s`` is the end of the last probe. Time in which this program did not run does not count: between two probes
    at most the interval counts, and a probe that ended far too late is ignored.
    """

    answered: bool = False
    misses: int = 0
    silent_s: float = 0.0
    seen_s: float = 0.0


class Finding(NamedTuple):
    """The result: ``ready`` is None if nothing has changed; ``hung`` requests a restart."""

    ready: bool | None
    why: str = ""
    hung: bool = False


def take_probe(
    probing: Probing, miss: str | None, begun_s: float, now_s: float, hung_after_s: float | None
) -> tuple[Probing, Finding]:
    """Add the result of a probe: ``miss`` is why it failed, None if it succeeded."""
    if miss is None:
        return Probing(answered=True, seen_s=now_s), Finding(ready=True)
    if now_s - begun_s > DEADLINE_S + LATE_S:
        return probing._replace(seen_s=now_s), Finding(ready=None)
    misses = probing.misses + 1
    if not probing.answered:
        return probing._replace(misses=misses), Finding(ready=False, why=f"it has not answered yet: {miss}")
    silent_s = probing.silent_s + min(now_s - probing.seen_s, STEADY_S + DEADLINE_S)
    probing = probing._replace(misses=misses, silent_s=silent_s, seen_s=now_s)
    if misses < MISSES:
        return probing, Finding(ready=None)
    if hung_after_s is not None and silent_s >= hung_after_s:
        return probing, Finding(ready=False, why=f"no answer for {silent_s:.0f} s: {miss}", hung=True)
    return probing, Finding(ready=False, why=f"{misses} probes in a row failed: {miss}")


def interval_s(probing: Probing) -> float:
    """Return the delay between the starts of two probes in seconds."""
    return EAGER_S if not probing.answered else STEADY_S
