"""Watches the snapshot and creates incidents from its changes: they are logged, stored and published.

It only reads the snapshot, as the panel does; its incidents are published in the store for all other readers.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from bisect import insort
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import msgspec

from supervisor import __version__
from supervisor.config.plan import SUPERVISOR, TAILSCALED
from supervisor.core import incident_rules as rules
from supervisor.core.causes import Evidence, head_of, is_kill
from supervisor.core.counts import ALERT_RESULTS, plus_one
from supervisor.core.health import TAILNET
from supervisor.core.incidents import END, ERROR, INFO, LASTING, PROCESS_ENDS, shortened, within_limits
from supervisor.core.process import HttpProbe, TcpProbe
from supervisor.core.run_record import STOPPED, RunRecord, end_of
from supervisor.core.snapshot import IncidentsView, Snapshot
from supervisor.errors import host_port
from supervisor.incidents.delayed_changes import DelayedChanges
from supervisor.incidents.incident_files import MOST_BYTES, MOST_INCIDENTS, IncidentFiles, story_of
from supervisor.incidents.run_life import RunLife
from supervisor.logs.format import stamp
from supervisor.runtime.loop_latency import TimedReader, join_background, run_in_background
from supervisor.runtime.store import Watch
from supervisor.system import cgroup, kernel, procfs
from supervisor.system.signals import signal_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from supervisor.config.plan import Plan
    from supervisor.core.incidents import Incident
    from supervisor.core.run_record import Lookout
    from supervisor.core.snapshot import ExitView, ProcessView
    from supervisor.incidents.alerts import AlertSender
    from supervisor.incidents.incident_files import FolderContent
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore
    from supervisor.system.kernel import OomCounter

LOOK_S = 15.0
# How long the end of the run waits for an alert that is being sent, and for the folder if it was not read before.
ALERT_S = 1.0
LOAD_S = 1.0
# How long a run waits for the folder before it goes on without: it has up to a hundred files, perhaps in a network.
FOLDER_S = 10.0
_ERRORS_EVERY_S = 60.0
_LOOKED_FOR_S = 1.0
# How far back the start of a panic is searched: a trace of all of tailscaled's goroutines has a thousand lines.
_TRACE_LINES = 2000
# After this many similar incidents within an hour, the last of them counts the rest.
_ALIKE, _ALIKE_S = 10, 3600.0
_STATES = {
    "T": "it was stopped by a signal (SIGSTOP)",
    "t": "a debugger held it",
    "D": "it waited for a disk or a device",
}
# Its texts that may repeat what a process said.
_TEXTS = ("what", "why", "cause", "done", "by")
# How far the times of one outage may differ, because sums of floats are rounded.
_SAME_S = 0.001


class IncidentRecorder:
    """The only component that creates incidents. ``oom`` is the kernel's count of OOM kills, used to explain exits."""

    def __init__(self, plan: Plan, store: SnapshotStore, log: LogPipeline, oom: OomCounter) -> None:
        self._store = store
        self._oom = oom
        self._oom_left = 0
        self._log = log
        self._probes = {spec.name: _asked(spec.probe) for spec in plan.processes}
        self._files = IncidentFiles(plan.state_folder)
        self._stop_timeout_s = plan.settings.stop_timeout_s
        self._sizes: dict[str, int] = {}
        self._open: dict[str, Incident] = {}
        # When the latest of each lasting kind began: it may be reported again as time passes, and when it ends.
        self._last_s: dict[str, float] = {}
        self._states: dict[str, str] = {}
        self._used_bytes: int | None = None
        # The limit of memory, whether the kernel counts its kills, the memory of each, and when that was read.
        self._limit_bytes: int | None = None
        self._counts = False
        self._weights: dict[str, int] = {}
        self._looked_s = float("-inf")
        self._kept = False
        self._folder = TimedReader(self._load, FOLDER_S)
        self._why_unread = ""
        # Errors that were not logged, and when the next one may be.
        self._errors, self._next_error_s = 0, 0.0
        self._told_why_not = ""
        self._life = RunLife(self._files, store.snapshot)
        self._alerts = _alerts(plan, log)
        # A recorder that replaces a crashed one has nothing to do for the changes so far.
        seen = store.snapshot if store.snapshot.incidents.changes else Snapshot()
        self._changes = DelayedChanges(store, seen, self._note_states, self._take)
        for each in store.snapshot.incidents.known:
            if each.kind in LASTING and each.run == self._life.record.run:
                self._last_s[each.kind] = max(self._last_s.get(each.kind, 0.0), self._began_s(each.last_s or each.at_s))
        self._changes.handle()

    async def run(self) -> None:
        """Check memory and for incidents that arise by the passing of time, at intervals, until cancelled."""
        with closing(self._changes), closing(Watch(self._store, lambda snapshot: snapshot.backup.holds)) as watch:
            while True:
                if not self._kept and not watch.value:
                    # The folder must not be changed before a restore is complete.
                    await self._read_folder()
                self._guarded(self._look)
                await watch.changed(LOOK_S)

    def finish(self, status: int, why: str | None) -> dict[str, object]:
        """Store the incident of the run's end, and return its description."""
        self._changes.handle()
        if self._errors:
            self._log.record("error", "an incident was not recorded", why="as before", times=self._errors)
        if not (self._kept or self._folder.hangs or self._store.snapshot.backup.holds):
            # The run ends before the first check. The folder may be on a disk that hangs, and the end must not.
            found: list[tuple[FolderContent, RunRecord | None]] = []
            run_in_background(lambda: found.append(self._load()))
            join_background(LOAD_S)
            if found:
                self._adopt(found[0])
        now_s = time.monotonic()
        for incident in tuple(self._open.values()):
            self._put(rules.closed(incident, now_s + self._store.snapshot.wall_offset_s))
        if not self._ends_of(self._life.record.run):
            self._add(rules.of_stop(self._store.snapshot._replace(stopping_why=why or ""), now_s))
        snapshot = self._store.snapshot
        # By the monotonic clock, since the other one may have been set meanwhile.
        took_s = 0.0 if snapshot.stopping_s is None else now_s - snapshot.stopping_s
        left = sorted({*snapshot.managed.values(), *snapshot.left})
        ended = rules.ended_with(self._ends_of(self._life.record.run)[-1], status, why or "", took_s, left)
        self._put(self._masked(ended))
        if self._alerts is not None:
            self._alerts.close(self._left_s())
            self._keep_alerts()
        self._files.end()
        return _without_lines(ended)

    def _ends_of(self, run: str) -> list[Incident]:
        return [each for each in self._view.known if each.kind == END and each.run == run]

    def _left_s(self) -> float:
        """Return how long the end may wait for alerts: what is left of the ordered stop's time, and not long."""
        begun_s = self._store.snapshot.stopping_s
        return ALERT_S if begun_s is None else min(ALERT_S, max(0.0, begun_s + self._stop_timeout_s - time.monotonic()))

    def _keep_alerts(self) -> None:
        """Store what the next run needs to keep to one alert a minute, and the number of unsent alerts."""
        if self._alerts is None:
            return
        self._life.change(alerted_s=self._alerts.sent_s, unsent=self._alerts.unsent)
        counts = tuple(zip(ALERT_RESULTS, self._alerts.counts, strict=True))
        if counts != self._view.alerts:
            self._show(self._view._replace(alerts=counts))

    async def _read_folder(self) -> None:
        """Adopt what is in the folder; a disk that does not answer is asked again at the next look."""
        try:
            found = await self._folder.read()
        except TimeoutError:
            self._why_unread = "the disk of the state folder does not answer"
        else:
            self._why_unread = ""
            self._adopt(found)

    def _load(self) -> tuple[FolderContent, RunRecord | None]:
        content = self._files.load()
        return content, self._files.read_run(RunRecord) or rules.record_of_end(content.incidents)

    def _adopt(self, found: tuple[FolderContent, RunRecord | None]) -> None:
        """Add the stored incidents to those of this run, and store these from now on."""
        self._changes.handle()
        content, previous = found
        self._kept = True
        self._sizes |= content.sizes
        view = self._view
        for name in content.unread:
            self._log.record("warning", "cannot read an incident", file=name, what_to_do="look at it, or remove it")
        own = {each.id for each in view.known}
        known = sorted((*(each for each in content.incidents if each.id not in own), *view.known), key=_order)
        self._show(view._replace(known=tuple(known), unread=content.unread))
        for incident in self._view.known:
            if incident.id in own:
                self._write(incident)
        self._take_previous(previous, self._life.begin(self._store.snapshot))
        self._drop_oldest()

    def _take_previous(self, previous: RunRecord | None, lookout: Lookout) -> None:
        """Log how the previous run ended; an end that it could not record becomes an incident now."""
        if previous is None:
            self._log.record("info", "previous run", how="none is known here")
            return
        if previous.run == self._life.record.run:
            return
        own = rules.own_end(self._view.known, previous.run)
        end = rules.after_incidents(end_of(previous, own, lookout), self._view.known, previous.run)
        for incident in self._view.known:
            if incident.run == previous.run and incident.is_open:
                self._put(rules.closed(incident, end.at_s), quiet=True)
        self._take_unsent(previous)
        in_order = end.how == STOPPED
        when = {"at" if in_order else "last_alive": stamp(end.at_s)}
        said = {"why": shortened(end.why) or None, "cause": shortened(end.cause) or None, "status": own and own.code}
        self._log.record("info" if in_order else "warning", "previous run", how=end.how, **when, **said)
        again = f"started again at {stamp(self._life.record.began_s)}, version {__version__}"
        known = self._ends_of(previous.run)
        if known:
            self._put(self._masked(rules.judged(known[-1], end, again)), quiet=in_order)
        else:
            self._add(rules.of_run(end, again), previous)

    def _take_unsent(self, previous: RunRecord) -> None:
        """Queue an alert for what the previous run could not send: its last incident, and the number of them."""
        if self._alerts is None:
            return
        own = [each for each in self._view.known if each.run == previous.run and each.level == ERROR]
        again = own[-1:] if previous.unsent else []
        self._alerts.go_on(previous.alerted_s, previous.unsent - len(again))
        for incident in again:
            self._alerts.put(incident)

    @property
    def _view(self) -> IncidentsView:
        return self._store.snapshot.incidents

    def _show(self, view: IncidentsView) -> None:
        self._store.update_incidents(view._replace(changes=self._view.changes + 1))

    def _note_states(self, before: Snapshot, after: Snapshot) -> None:
        """Read the state of each process that is about to be ended as it hung: later it does not live any more."""
        for seen, view in rules.changed_processes(before, after):
            if rules.begins_to_end_hung(seen, view) and view.pid is not None:
                self._guarded(self._read_state, view.name, view.pid)

    def _read_state(self, name: str, pid: int) -> None:
        self._states[name] = _STATES.get(procfs.state_of(pid), "")

    def _take(self, before: Snapshot, after: Snapshot, at_s: float) -> None:
        changed = rules.changed_processes(before, after)
        self._guarded(self._take_news, before, after, changed, at_s)
        if self._open:
            self._guarded(self._follow_up, after, {view.name: view for _, view in changed}, at_s)

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Do a part of the work. An error in it affects neither the next part nor the component that changed the store.

        It is logged at most once a minute, as each change of the store may cause it again.
        """
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - the border of a failure domain
            self._errors += 1
            now_s = time.monotonic()
            if now_s < self._next_error_s:
                return
            self._next_error_s = now_s + _ERRORS_EVERY_S
            trace = traceback.format_exc()
            self._log.record(
                "error", "an incident was not recorded", why=repr(error), times=self._errors, traceback=trace
            )
            self._errors = 0

    def _take_news(self, before: Snapshot, after: Snapshot, changed: list[rules.Change], at_s: float) -> None:
        for incident in self._news(before, after, changed, at_s):
            self._add(incident)

    def _news(self, before: Snapshot, after: Snapshot, changed: list[rules.Change], at_s: float) -> Iterator[Incident]:
        for seen, view in changed:
            for end in rules.new_ends(seen, view):
                incident = rules.of_end(view, end, self._evidence(view, end), after.wall_offset_s)
                yield msgspec.structs.replace(incident, signal=signal_name(end.signal) or "")
            given_up = rules.give_up(seen, view, after.wall_offset_s, stopping=after.stopping)
            if given_up is not None:
                yield given_up
        yield from rules.news(before, after, at_s)

    def _evidence(self, view: ProcessView, end: ExitView) -> Evidence:
        # Where thousands end at once, what is the same for all of them is read once.
        now_s = time.monotonic()
        if now_s - self._looked_s > _LOOKED_FOR_S:
            self._looked_s, self._weights = now_s, {}
            self._limit_bytes, self._counts = cgroup.memory().limit, kernel.counts_kills()
        asks = self._limit_bytes is not None and not self._counts and is_kill(end)
        return Evidence(
            limit_bytes=self._limit_bytes,
            others_bytes=self._others_bytes(view.name) if asks else 0,
            used_bytes=self._used_bytes,
            counts=self._counts,
            probe=self._probes.get(view.name, ""),
            state=self._states.pop(view.name, ""),
            head=self._head(view.name, end) if end.last_lines else (),
        )

    def _others_bytes(self, name: str) -> int:
        """Return the memory of all but one process, as it was at the last look."""
        if not self._weights:
            pids = {each.name: each.pid for each in self._store.snapshot.processes if each.pid is not None}
            self._weights = {each: procfs.memory_bytes(pid) or 0 for each, pid in pids.items()}
            self._weights[SUPERVISOR] = procfs.memory_bytes(os.getpid()) or 0
        return sum(self._weights.values()) - self._weights.get(name, 0)

    def _head(self, name: str, end: ExitView) -> tuple[str, ...]:
        page = self._log.history.read(-_TRACE_LINES, _TRACE_LINES, name, end.first_line)
        # The next run may have begun meanwhile.
        return head_of([line.message for line in page.lines if line.number < end.next_line])

    def _add(self, incident: Incident, of: RunRecord | None = None) -> None:
        """Add a new incident, ``of`` this run or another, or count it with similar ones."""
        if incident.kind in LASTING:
            began_s = self._began_s(incident.at_s)
            if began_s <= self._last_s.get(incident.kind, 0.0) + _SAME_S:
                return
            self._last_s[incident.kind] = began_s
        of = of or self._life.record
        incident = self._masked(msgspec.structs.replace(incident, run=of.run, version=of.version))
        view = self._view
        # Each run has an end of its own.
        alike = [each for each in view.known if incident.kind != END and _are_alike(each, incident)]
        if len(alike) >= _ALIKE:
            incident = msgspec.structs.replace(alike[-1], times=alike[-1].times + 1, last_s=incident.at_s, done="")
        else:
            incident = msgspec.structs.replace(incident, id=self._name(incident))
        self._show(view._replace(counts=plus_one(view.counts, incident.kind)))
        self._put(incident)

    def _began_s(self, at_s: float) -> float:
        """Return a time by the monotonic clock: by the other one an outage may come before an earlier one."""
        return min(at_s - self._changes.handled.wall_offset_s, time.monotonic())

    def _name(self, incident: Incident) -> str:
        """Return a new id: it sorts by time and names the subject."""
        at = stamp(incident.at_s).translate({ord("-"): None, ord(":"): None, ord("."): None, ord("T"): "-"})[:-1]
        name = f"{at}-{incident.subject}-{incident.kind}"
        taken = {each.id for each in self._view.known}
        if name not in taken:
            return name
        names = (f"{name}-{number}" for number in range(2, MOST_INCIDENTS + 3))
        return next(each for each in names if each not in taken)

    def _put(self, incident: Incident, *, quiet: bool = False) -> None:
        """Publish and store the newest version of an incident; log it and send it once no change is expected soon."""
        was_open = self._open.pop(incident.id, None) is not None
        if incident.is_open and incident.run == self._life.record.run:
            self._open[incident.id] = incident
        if self._kept:
            self._write(incident)
        view = self._view
        known = [each for each in view.known if each.id != incident.id]
        insort(known, incident, key=_order)
        self._show(view._replace(known=tuple(known)))
        self._drop_oldest(incident.id)
        is_end = incident.kind in PROCESS_ENDS
        if not quiet and (is_end or not was_open) and not (is_end and incident.is_open):
            self._tell(incident)

    def _write(self, incident: Incident) -> None:
        self._sizes[incident.id] = self._files.write(incident)

    def _drop_oldest(self, newest: str = "") -> None:
        """Remove the oldest beyond the limit, first those of earlier runs, and never the ``newest``.

        A clock that was set may have dated others later.
        """
        left, run = list(self._view.known), self._life.record.run
        total = sum(self._sizes.values())
        gone = []
        while len(left) > MOST_INCIDENTS or (total > MOST_BYTES and len(left) > 1):
            others = (each for each in left if each.run != run and each.id != newest)
            oldest = next(others, None) or next(each for each in left if each.id != newest)
            left.remove(oldest)
            gone.append(oldest.id)
            total -= self._sizes.pop(oldest.id, 0)
            self._open.pop(oldest.id, None)
        if gone:
            self._files.remove(gone)
            self._show(self._view._replace(known=tuple(left)))

    def _follow_up(self, snapshot: Snapshot, changed: Mapping[str, ProcessView], at_s: float) -> None:
        """Update the open incidents of the processes that have changed, and those that last."""
        for incident in [each for each in self._open.values() if each.kind in LASTING or each.subject in changed]:
            newer = rules.followed_up(incident, snapshot, changed.get(incident.subject), at_s)
            if newer is not incident:
                self._put(newer)

    def _look(self) -> None:
        """Check for incidents that arise by the passing of time."""
        self._changes.handle()
        self._used_bytes = self._life.look()
        self._keep_alerts()
        now_s, snapshot = time.monotonic(), self._store.snapshot
        under_way = {each.kind for each in self._open.values()}
        for incident in (rules.outage(snapshot, now_s), rules.bad_start(snapshot, now_s)):
            if incident is not None and incident.kind not in under_way:
                self._add(incident)
        self._look_for_kills(now_s)
        why_not = self._why_unread or self._files.why_not
        if why_not != self._told_why_not:
            self._told_why_not = why_not
            self._show(self._view._replace(why_not=self._told_why_not))
            if self._told_why_not:
                self._log.record("warning", "incidents are not kept", why=self._told_why_not)

    def _look_for_kills(self, now_s: float) -> None:
        """Report OOM kills that hit no managed process; the exit of a managed one may still be pending."""
        left, self._oom_left = self._oom_left, self._oom.left()
        others = min(left, self._oom_left)
        if others:
            self._oom.explain(others)
            self._oom_left -= others
            self._add(rules.of_kills(self._store.snapshot, others, self._life.record.limit_bytes, now_s))

    def _tell(self, incident: Incident) -> None:
        """Log the incident as one JSON object, and queue its alert."""
        if self._alerts is not None and incident.level != INFO:
            self._alerts.put(incident)
        # The end of this run is logged in its very last line.
        if incident.kind != END or incident.run != self._life.record.run:
            self._log.record(incident.level, "incident", story=_without_lines(incident))

    def _masked(self, incident: Incident) -> Incident:
        """Return it with secrets masked and texts cut to their limits."""
        daemon = incident.subject in {TAILSCALED, TAILNET}
        redactor = self._log.redactor
        texts = {name: getattr(incident, name).encode(errors="replace") for name in _TEXTS}
        lines = [line.encode(errors="replace") for line in incident.last_lines]
        is_free = redactor.is_free_of_secrets((*texts.values(), *lines), daemon=daemon)

        def masked(text: bytes) -> str:
            found = text if is_free else redactor.mask(text, daemon=daemon)
            return redactor.mask_setup_code(found).decode(errors="replace")

        shown = {name: masked(text) for name, text in texts.items()}
        # Before they are cut: a part of a secret would remain otherwise.
        return within_limits(msgspec.structs.replace(incident, **shown, last_lines=tuple(map(masked, lines))))


def _alerts(plan: Plan, log: LogPipeline) -> AlertSender | None:
    settings = plan.settings.alerts
    if settings.url is None:
        return None
    # Imported only if alerts are set up.
    from supervisor.incidents.alerts import AlertSender

    loop = asyncio.get_running_loop()

    def tell(why: str) -> None:
        # The process ends before the thread does.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: log.record("warning", "an alert was not sent", why=why))

    return AlertSender(settings, plan.settings.tailnet.prefs.hostname, tell)


def _order(incident: Incident) -> tuple[float, str]:
    return incident.at_s, incident.id


def _are_alike(one: Incident, other: Incident) -> bool:
    if one.subject != other.subject or one.kind != other.kind:
        return False
    same = (one.code, one.signal) == (other.code, other.signal)
    return same and 0 <= other.at_s - (one.last_s or one.at_s) < _ALIKE_S


def _without_lines(incident: Incident) -> dict[str, object]:
    """Return the incident for the log, which already has the last lines."""
    return story_of(msgspec.structs.replace(incident, last_lines=()))


def _asked(probe: HttpProbe | TcpProbe | None) -> str:
    if probe is None:
        return ""
    if isinstance(probe, HttpProbe):
        return f"GET {probe.url}"
    return f"a connection to {host_port(probe.host, probe.port)}"
