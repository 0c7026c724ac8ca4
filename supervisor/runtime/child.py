"""One process at run time: executes the actions of its state table, and publishes its state in the store."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from supervisor.core.counts import ASKED, EXIT_CODE, HUNG, NOT_STARTED, OUT_OF_MEMORY, SIGNAL, SUCCESS, plus_one
from supervisor.core.process import (
    Event,
    EventKind,
    ExitStatus,
    GiveUpOn,
    Machine,
    Moment,
    ProcessAction,
    Restart,
    SetTimer,
    State,
    step,
)
from supervisor.core.snapshot import ExitView, ProcessView
from supervisor.runtime.start_environment import StartEnvironment
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.system.signals import send, signal_name
from supervisor.system.spawn import SpawnError, open_pipe, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from supervisor.core.counts import Counts
    from supervisor.core.process import Action, ProcessSpec
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore
    from supervisor.system.kernel import OomCounter
    from supervisor.system.procfs import Remains
    from supervisor.system.reaper import Exit, Reaper
    from supervisor.system.spawn import Spawned
    from supervisor.system.sweeper import Sweeper

    class ChildHost(Protocol):
        """The part of the engine that a child uses."""

        store: SnapshotStore
        log: LogPipeline
        reaper: Reaper
        launcher: tuple[str, ...]
        sweepers: list[Sweeper]
        sweeping: dict[str, Child]
        oom: OomCounter

        @property
        def is_observed(self) -> bool:
            """Whether the main loop has begun."""

        def sweep_soon(self) -> None:
            """Continue to clean up at the next opportunity."""

        def orphans(self) -> list[int]:
            """Return the children of this process that are not managed."""

        def dispatch(self, name: str, event: Event) -> None:
            """Pass an event to a process."""

        def set_timer(self, name: str, timer: SetTimer, generation: int) -> None:
            """Dispatch an event later, unless the process has left its state by then."""

        def take_final(self, name: str) -> None:
            """Handle that a process has ended permanently."""


AT_REST = frozenset({State.INACTIVE, State.ENDED, State.FAILED})
EXITS_KEPT = 10
LAST_LINES = 10
# How much of a short run's output is searched for a known failure. They are all failures of a start: later the same
# words are about something else.
LIFE_LINES = 500
START_S = 60.0
_OUT_OF_MEMORY = "killed by the kernel: out of memory"
_REFUSED = 126
_LAUNCHER = "setpriv: "
_CANNOT_START = "cannot start"
_LAUNCHER_CODES = frozenset({1, 126, 127})
_EXEC_REFUSED = ": Operation not permitted"
_FILE_CAPABILITIES = (
    "; if `getcap` shows capabilities of the file, add them to the container's (`--cap-add`), or take them off it "
    "(`setcap -r`)"
)
_IN_FOREGROUND = "have it stay in the foreground (most programs have an option for that), or what it starts is ended"


class Child:
    """One process: ``generation`` counts its state changes, ``sweeper`` ends what its last run left behind."""

    _remains: Remains

    def __init__(self, spec: ProcessSpec, engine: ChildHost) -> None:
        self.spec = spec._replace(ordered=bool(spec.after))
        self.machine = Machine()
        self.generation = 0
        self.sweeper: Sweeper | None = None
        self._engine = engine
        self._killed_by_us = False
        self._refused: set[int] = set()
        self._cause = ASKED
        self._last_pid = 0
        self._begun_s = 0.0
        self._death_write_fd: int | None = None
        self._first_line = 0
        self.environment = StartEnvironment(self.spec, engine)
        self.view = ProcessView(
            spec.name, critical=spec.critical, command=" ".join(spec.argv), since_s=time.monotonic()
        )
        engine.store.update_process(self.view)

    @property
    def ready(self) -> bool:
        """Whether those that wait for it may start: it is alive and passes its probe, or has done its work."""
        if self.machine.state is State.ENDED:
            return self.machine.exit_status is not None and self.machine.exit_status.success
        return self.machine.state is State.RUNNING and self.view.ready

    @property
    def last_reason(self) -> str:
        """Why its last run ended, as text."""
        return self.view.exits[-1].reason if self.view.exits else "it never ran"

    def step(self, event: Event, now_s: float, jitter: float) -> None:
        """Apply one event to the state table, and execute the actions that it returns."""
        before = self.machine.state
        self.machine, actions = step(self.spec, self.machine, event, Moment(now_s, jitter))
        state = self.machine.state
        if state is not before:
            self.generation += 1
            self._cause = ASKED if before in AT_REST else self._cause
        shown: dict[str, object] = {
            "failures": self.machine.failures,
            "next_try_s": self.machine.next_try_s,
            "state": state,
        }
        if before is State.WAITING is not state:
            shown["ready_why"] = ""
        self._show(**shown, hung=self.machine.hung, since_s=self.view.since_s if state is before else now_s)
        for action in actions:
            self._carry_out(action)
        self._report(before, event)

    def wait_for(self, others: Sequence[str]) -> None:
        """Show which processes its start waits for."""
        why = f"it waits for {', '.join(others)}"
        if self.view.ready_why != why:
            self._show(ready_why=why)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, SetTimer):
            self._engine.set_timer(self.spec.name, action, self.generation)
        elif isinstance(action, GiveUpOn):
            self._give_up(action)
        elif action is ProcessAction.SPAWN:
            self._spawn()
        elif action is ProcessAction.REQUEST_END:
            self.signal(self.spec.stop_signal, group=True)
            # A process stopped by SIGSTOP cannot handle the signal before it gets CONT.
            self.signal(signal.SIGCONT, group=True)
        elif action is ProcessAction.REQUEST_STACKS:
            self._record("warning", "does not end, asked for its stacks")
            self.signal(signal.SIGQUIT)
        elif action is ProcessAction.KILL:
            self._killed_by_us = True
            self._record("warning", "killed", why="it did not end in time")
            self.signal(signal.SIGKILL, group=True)
        elif action is ProcessAction.CLEAN:
            self._clean()
        elif self.sweeper is not None:
            self.sweeper.escalate()
            self._engine.sweep_soon()

    def _spawn(self) -> None:
        engine = self._engine
        spec = self.spec._replace(env=self.environment.next())
        # Before the start: what it begins is as old or younger, however late the start is noted.
        self._begun_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            spawned = DESCRIPTORS.start(lambda: self._begin(spec))
        except SpawnError as error:
            self._record("error", "cannot start", why=error.why)
            self._remember(ExitView(time.monotonic(), error.code, None, 0.0, error.why, kind=NOT_STARTED))
            engine.dispatch(self.spec.name, Event(EventKind.SPAWN_FAILED, ExitStatus(code=error.code)))
            return
        engine.reaper.own(spawned.pid, self._exited)
        engine.log.attach(self.spec.name, "stdout", spawned.stdout_fd)
        engine.log.attach(self.spec.name, "stderr", spawned.stderr_fd)
        self._killed_by_us = False
        self._refused.clear()
        self._last_pid = spawned.pid
        self._first_line = engine.log.history.next
        now_s = time.monotonic()
        probed = self.spec.probe is not None
        self._show(
            pid=spawned.pid,
            started_s=now_s,
            ready=not probed,
            ever_ready=not probed,
            answered=self.view.answered or not probed,
            ready_why="it has not answered yet" if probed else "",
            ready_since_s=None if probed else now_s,
            restarts_by=self._restarts_by(),
            external_url=self.environment.external_url,
        )
        self._record("info", "started", pid=spawned.pid)
        engine.dispatch(self.spec.name, Event(EventKind.SPAWNED))

    def _begin(self, spec: ProcessSpec) -> Spawned:
        """Start it, and close what only the new process needs. Raises SpawnError."""
        why = self.environment.prepare()
        if why:
            raise SpawnError(_REFUSED, why)
        death_fd = self._open_death_pipe() if spec.parent_death_fd else None
        try:
            return spawn(spec, self._engine.launcher, death_fd)
        finally:
            if death_fd is not None:
                os.close(death_fd)

    def _restarts_by(self) -> Counts:
        """Return the number of restarts, this one included, by the kind of the exit or order that preceded each."""
        first = self.view.started_s is None
        return self.view.restarts_by if first else plus_one(self.view.restarts_by, self._cause)

    def _open_death_pipe(self) -> int:
        if self._death_write_fd is not None:
            os.close(self._death_write_fd)
            self._death_write_fd = None
        read_fd, self._death_write_fd = open_pipe(self.spec)
        return read_fd

    def _exited(self, exit_: Exit) -> None:
        """Record an exit reported by the reaper: the last lines first, then the event."""
        engine = self._engine
        now_s = time.monotonic()
        engine.log.drain(self.spec.name)
        next_line = engine.log.history.next
        lines = engine.log.history.tail(self.spec.name, LAST_LINES, self._first_line)
        why = describe(exit_.exit_status, lines, killed_by_us=self._killed_by_us, ran_out_of_memory=engine.oom.rose)
        kind = kind_of(exit_.exit_status, why, asked=self.machine.asked, hung=self.machine.hung)
        uptime_s = now_s - (self.view.started_s or now_s)
        why = self._why(exit_.exit_status, why, uptime_s)
        # Success is an expected end for a process that is not restarted after it.
        done = exit_.exit_status.success and not self.machine.hung and self.spec.restart is not Restart.ALWAYS
        expected = self.machine.asked or done
        self._record(
            "info" if expected else "error",
            "exited",
            pid=exit_.pid,
            why=why,
            code=exit_.exit_status.code,
            signal=signal_name(exit_.exit_status.signal),
            uptime_s=round(uptime_s, 3),
            last_lines=None if expected else lines,
        )
        code, number = exit_.exit_status
        own_lines = (self._first_line, next_line)
        self._remember(
            ExitView(now_s, code, number, uptime_s, why, lines, expected, kind, exit_.peak_bytes, *own_lines)
        )
        self._show(pid=None, ready=False, ready_why=why, ready_since_s=None)
        engine.dispatch(self.spec.name, Event(EventKind.EXITED, exit_.exit_status))

    def _why(self, exit_status: ExitStatus, why: str, uptime_s: float) -> str:
        if self.machine.hung:
            why = f"it hung ({self.view.ready_why}): {why}"
        remedy = self._known_failure() if exit_status.code and uptime_s < START_S else None
        return why if remedy is None else f"{why}: {remedy}; trying again does not help"

    def _known_failure(self) -> str | None:
        """Return the explanation of a known failure that the output identifies."""
        if not self.spec.known_failures:
            return None
        page = self._engine.log.history.read(self._first_line - 1, LIFE_LINES, self.spec.name)
        messages = [line.message for line in page.lines]
        for signs, text in self.spec.known_failures:
            if any(all(sign in message for sign in signs) for message in messages):
                return text
        return None

    def _clean(self) -> None:
        # Imported with the loop, so that no child starts later because of it.
        from supervisor.system.procfs import Remains
        from supervisor.system.sweeper import Sweeper

        remains = self._remains = Remains(self.spec, self._last_pid, self._engine.log.pipes_of(self.spec.name))
        self.sweeper = Sweeper(lambda: remains.find(self._engine.orphans()))
        self._engine.sweepers.append(self.sweeper)
        self._engine.sweeping[self.spec.name] = self
        self._engine.sweep_soon()

    def sweep(self) -> None:
        """Continue to end what the last run left behind."""
        if self.sweeper is None or not self.sweeper.work():
            return
        self._report_remains(self.sweeper)
        self.stop_sweeping()
        self._engine.dispatch(self.spec.name, Event(EventKind.CLEANED))

    def stop_sweeping(self) -> Sweeper | None:
        """Abandon the cleanup after the last run; return its sweeper, None if there was none."""
        sweeper, self.sweeper = self.sweeper, None
        if sweeper is not None:
            self._engine.sweepers.remove(sweeper)
            del self._engine.sweeping[self.spec.name]
        return sweeper

    def _report_remains(self, sweeper: Sweeper) -> None:
        """Log what was ended, and amend the reason of the exit if the process seems to have daemonized.

        It seems so if it exited early, with success, and left something running. Of an orphan that began meanwhile
        nothing may tell whose it is; it is not ended.
        """
        *earlier, last = self.view.exits
        background = last.kind == SUCCESS and last.uptime_s < self.spec.backoff.reset_s
        if sweeper.seen:
            remedy = _IN_FOREGROUND if background else None
            self._record("warning", "ended what it left behind", **sweeper.figures(), what_to_do=remedy)
            guess = f"seems to have gone into the background, and left {len(sweeper.seen)} running"
        elif background and (names := self._remains.strangers_since(self._begun_s)):
            self._record("warning", "may have left something behind", names=names, what_to_do=_IN_FOREGROUND)
            guess = f"may have gone into the background, as {', '.join(names)} began meanwhile"
        else:
            return
        if background:
            why = f"{last.reason}: it {guess}; {_IN_FOREGROUND}"
            self._show(exits=(*earlier, last._replace(reason=why)))

    def _give_up(self, action: GiveUpOn) -> None:
        window = self.spec.give_up.window_s if self.spec.give_up else 0.0
        self._record(
            "error",
            "given up",
            failures=action.failures,
            within_s=window,
            last_failure=self.last_reason,
        )

    def _report(self, before: State, event: Event) -> None:
        """Log a state change that an operator needs to know, such as the time of the next attempt."""
        state = self.machine.state
        if state is before:
            return
        name = self.spec.name
        if state is State.BACKOFF and self.machine.next_try_s is not None:
            wait_s = max(0.0, self.machine.next_try_s - time.monotonic())
            self._record("warning", "will be restarted", in_s=round(wait_s, 3), failures=self.machine.failures)
        elif state is State.STOPPING:
            self._record("info", "asked to end", order=event.kind.value)
        elif state is State.WAITING and self.spec.after:
            self._record("info", "waits until others are ready", after=self.spec.after)
        elif state in {State.ENDED, State.FAILED}:
            self._engine.take_final(name)

    def update_readiness(self, *, ready: bool, why: str) -> bool:
        """Store a probe's result; return whether the state has changed."""
        if self.view.pid is None or (self.view.ready, self.view.ready_why) == (ready, why):
            return False
        since_s = self.view.ready_since_s if self.view.ready == ready else time.monotonic()
        ever_ready, answered = self.view.ever_ready or ready, self.view.answered or ready
        self._show(ready=ready, ready_why=why, ready_since_s=since_s, ever_ready=ever_ready, answered=answered)
        return True

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its group, if it is alive; log a refusal once per life.

        The pid cannot have been reused: only the supervisor reaps it.
        """
        why = send(self.view.pid, number, group=group) if self.view.pid is not None else ""
        if why and number not in self._refused:
            self._refused.add(number)
            name = signal_name(number)
            self._record("warning", "cannot signal", signal=name, why=why)

    def _remember(self, exit_view: ExitView) -> None:
        self._cause = exit_view.kind
        self._show(exits=(*self.view.exits, exit_view)[-EXITS_KEPT:])

    def _record(self, level: str, event: str, **fields: Any) -> None:
        self._engine.log.record(level, event, child=self.spec.name, **fields)

    def _show(self, **changes: object) -> None:
        self.view = self.view._replace(**changes)  # type: ignore[arg-type]
        self._engine.store.update_process(self.view)


def describe(
    exit_status: ExitStatus,
    last_lines: Sequence[str],
    *,
    killed_by_us: bool,
    ran_out_of_memory: Callable[[], bool | None],
) -> str:
    """Return why a process exited.

    ``ran_out_of_memory`` is called only if it may be the reason; it returns None if the kernel does not report it.
    """
    if exit_status.signal is None:
        refused = last_lines[-1] if last_lines and last_lines[-1].startswith(_LAUNCHER) else ""
        if refused and exit_status.code in _LAUNCHER_CODES:
            hint = _FILE_CAPABILITIES if refused.endswith(_EXEC_REFUSED) else ""
            return f"{_CANNOT_START}: {refused.removeprefix(_LAUNCHER)}{hint}"
        return f"exit code {exit_status.code}"
    name = signal_name(exit_status.signal)
    if exit_status.signal != signal.SIGKILL or killed_by_us:
        return f"ended by {name}"
    out_of_memory = ran_out_of_memory()
    if out_of_memory:
        return _OUT_OF_MEMORY
    return f"ended by {name} from outside" + ("" if out_of_memory is False else ", perhaps out of memory")


def kind_of(exit_status: ExitStatus, why: str, *, asked: bool, hung: bool) -> str:
    """Return the kind of an exit, one of core.counts.END_KINDS; ``why`` is the text from ``describe``."""
    if asked or hung:
        return ASKED if asked else HUNG
    if why == _OUT_OF_MEMORY:
        return OUT_OF_MEMORY
    if exit_status.signal is not None:
        return SIGNAL
    if why.startswith(_CANNOT_START):
        return NOT_STARTED
    return SUCCESS if exit_status.success else EXIT_CODE
