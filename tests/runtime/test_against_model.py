"""The running supervisor does what the pure functions say: both get the same orders and faults.

State, starts, failures, exits and health must be the same after each. A fault is an exit with a code or by a signal, or
a process that is stopped (SIGSTOP), which an order must reach nevertheless.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from supervisor.core.health import Verdict, assess
from supervisor.core.process import (
    Event,
    EventKind,
    ExitStatus,
    GiveUp,
    Machine,
    Moment,
    ProcessAction,
    ProcessSpec,
    Restart,
    SetTimer,
    State,
    step,
)
from supervisor.core.snapshot import ExitView, ProcessView, Snapshot
from supervisor.runtime.child import EXITS_KEPT
from tests.process.running import Run
from tests.support.waiting import wait_until

# It exits with its own code for each signal, and runs otherwise.
SCRIPT = "trap 'exit 0' USR1; trap 'exit 3' USR2; echo up; while :; do sleep 0.02; done"
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "15"))
# Only its failure makes health fail; that of the others is a warning.
CRITICAL = "always"
POLICIES = {"always": Restart.ALWAYS, "onfailure": Restart.ON_FAILURE, "never": Restart.NEVER}
NAMES = st.sampled_from(sorted(POLICIES))
ORDERS = st.sampled_from([EventKind.START, EventKind.STOP, EventKind.RESTART])
# The signals that end a process from outside, and the resulting exit status.
ENDS = {
    signal.SIGUSR1: ExitStatus(code=0),
    signal.SIGUSR2: ExitStatus(code=3),
    signal.SIGKILL: ExitStatus(signal=signal.SIGKILL),
    signal.SIGSEGV: ExitStatus(signal=signal.SIGSEGV),
}
_FAILURES = 3
_NEXT = {
    ProcessAction.SPAWN: Event(EventKind.SPAWNED),
    ProcessAction.REQUEST_END: Event(EventKind.EXITED, ExitStatus(signal=signal.SIGTERM)),
    ProcessAction.CLEAN: Event(EventKind.CLEANED),
}


class Model:
    """One process by the table, in a world where everything happens at once; ``spawns`` counts its starts."""

    def __init__(self, name: str, give_up: GiveUp | None = None) -> None:
        self.spec = ProcessSpec(name, (name,), {}, restart=POLICIES[name], critical=name == CRITICAL, give_up=give_up)
        self.machine = Machine()
        self.spawns = 0
        self.exits: tuple[ExitView, ...] = ()
        self.started_s = 0.0

    def take(self, event: Event) -> None:
        """Apply an event, and all events that follow from it."""
        events = [event]
        while events:
            event = events.pop(0)
            if event.exit_status is not None:
                self._end(event.exit_status)
            self.machine, actions = step(self.spec, self.machine, event, Moment(0.0, 0.0))
            if ProcessAction.SPAWN in actions:
                self.spawns += 1
                self.started_s = time.monotonic()
            for action in actions:
                if isinstance(action, SetTimer) and action.kind is EventKind.RETRY_DUE:
                    events.append(Event(EventKind.RETRY_DUE))
                elif isinstance(action, ProcessAction) and action in _NEXT:
                    events.append(_NEXT[action])

    def _end(self, status: ExitStatus) -> None:
        done = status.success and self.spec.restart is not Restart.ALWAYS
        end = ExitView(time.monotonic(), *status, 0.0, "", expected=self.machine.asked or done)
        self.exits = (*self.exits, end)[-EXITS_KEPT:]

    def learn(self, view: Any) -> None:
        """Take over from the program what depends on time alone, or on what happened before."""
        self.machine = self.machine._replace(failures=view["failures"])
        ago_s = time.time() - time.monotonic()
        self.exits = tuple(
            ExitView(
                datetime.fromisoformat(end["at"]).timestamp() - ago_s, *status_of(end), 0.0, "", (), end["expected"]
            )
            for end in view["exits"]
        )

    @property
    def is_given_up(self) -> bool:
        """Whether it failed too often."""
        return self.machine.state is State.FAILED

    @property
    def view(self) -> ProcessView:
        """Return its view in a snapshot."""
        is_running = self.machine.state is State.RUNNING
        return ProcessView(
            self.spec.name,
            self.machine.state,
            critical=self.spec.critical,
            ready=is_running,
            ready_since_s=self.started_s if is_running else None,
            ever_ready=is_running,
            exits=self.exits,
        )

    @property
    def said(self) -> dict[str, object]:
        """Return what the API has to report of it."""
        return {
            "state": self.machine.state.value,
            "failures": self.machine.failures,
            "critical": self.spec.critical,
            "ready": self.machine.state is State.RUNNING,
            "running": self.machine.state is State.RUNNING,
            "exits": [(end.code, end.signal, end.expected) for end in self.exits],
        }


def status_of(end: Any) -> ExitStatus:
    """Return the exit status in an exit of the API."""
    return ExitStatus(end["code"], None if end["signal"] is None else int(signal.Signals[end["signal"]]))


def said_of(view: Any) -> dict[str, object]:
    """Return what the API reports of a process, as far as the model knows it."""
    told = {name: view[name] for name in ("state", "failures", "critical", "ready")}
    exits = [(*status_of(end), end["expected"]) for end in view["exits"]]
    return {**told, "running": view["pid"] is not None, "exits": exits}


class Program:
    """The real supervisor; without ``gives_up`` it restarts processes for ever."""

    def __init__(self, gives_up: str = "never") -> None:
        tables = [
            f"[process.{name}]\ncommand = {json.dumps(['sh', '-c', SCRIPT])}\n"
            f"restart = {json.dumps(POLICIES[name].value)}\ncritical = {json.dumps(name == CRITICAL)}\n"
            for name in POLICIES
        ]
        env = {"SUPERVISOR_BACKOFF_MAX": "20ms", "SUPERVISOR_APP": "off", "SUPERVISOR_GIVE_UP": gives_up}
        # Failures are not forgiven after a time, which the model does not know.
        env["SUPERVISOR_BACKOFF_RESET"] = "1h"
        self.run = Run(toml="".join(tables), env=env)

    def call(self, method: str, path: str) -> Any:
        """Call the API."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(self.run.run_dir / "control.sock"))
            headers = {"Content-Type": "application/json"} if method == "POST" else {}
            connection.request(method, path, headers=headers)
            return json.loads(connection.getresponse().read())

    def views(self) -> dict[str, Any]:
        """Return the API's view of each process, by name."""
        return {each["name"]: each for each in self.call("GET", "/api/processes")["processes"]}

    def health(self) -> tuple[str, dict[str, tuple[str, str]]]:
        """Return the overall status, and the status and state of each process."""
        told = self.call("GET", "/health")
        return told["status"], {
            name: (each["status"], each["observedValue"]) for name, (each,) in told["checks"].items()
        }

    def signal(self, name: str, number: int) -> None:
        """Send a process a signal, once it has set its traps."""
        view = self.views()[name]
        wait_until(lambda: os.path.exists(f"/proc/{view['pid']}") and self._listens(view["pid"]), what="its traps")
        os.kill(view["pid"], number)

    def _listens(self, pid: int) -> bool:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
        return bool(caught & 1 << signal.SIGUSR2 - 1)


class Both(RuleBasedStateMachine):
    """Program and model side by side."""

    program: Program

    def __init__(self) -> None:
        super().__init__()
        self.models = {name: Model(name) for name in POLICIES}
        for name, model in self.models.items():
            self.program.call("POST", f"/api/processes/{name}/start")
            model.take(Event(EventKind.START))
        self.frozen: set[str] = set()
        self._wait_for_states()
        for name in POLICIES:
            # The last example may have left it stopped (SIGSTOP).
            self.program.signal(name, signal.SIGCONT)
        views = self.program.views()
        self.begun = {name: view["restarts"] for name, view in views.items()}
        for name, model in self.models.items():
            model.spawns = 0
            model.learn(views[name])
        self._compare()

    @rule(name=NAMES, order=ORDERS)
    def order(self, name: str, order: EventKind) -> None:
        """Give one order, and compare the results; it reaches a process that is stopped (SIGSTOP) too."""
        self.program.call("POST", f"/api/processes/{name}/{order.value}")
        self.models[name].take(Event(order))
        if order is not EventKind.START:
            self.frozen.discard(name)
        self._compare()

    @rule(name=NAMES)
    def freeze_or_thaw(self, name: str) -> None:
        """Freeze a running process, or thaw it: that changes nothing that is known of it."""
        if self.models[name].machine.state is State.RUNNING:
            self.program.signal(name, signal.SIGCONT if name in self.frozen else signal.SIGSTOP)
            self.frozen ^= {name}
            self._compare()

    @rule(name=NAMES, number=st.sampled_from(sorted(ENDS)))
    def end(self, name: str, number: int) -> None:
        """End a running process from outside."""
        model = self.models[name]
        if model.machine.state is State.RUNNING:
            self.program.signal(name, number)
            if name in self.frozen and number != signal.SIGKILL:
                # The signal waits until the process is thawed.
                self._compare()
                self.program.signal(name, signal.SIGCONT)
            self.frozen.discard(name)
            model.take(Event(EventKind.EXITED, ENDS[signal.Signals(number)]))
            self._compare()

    @rule(name=NAMES, orders=st.lists(ORDERS, min_size=2, max_size=5))
    def orders_at_once(self, name: str, orders: list[EventKind]) -> None:
        """Give several orders without a pause: the number of starts depends on timing, the final state does not."""
        for order in orders:
            self.program.call("POST", f"/api/processes/{name}/{order.value}")
            self.models[name].take(Event(order))
        if set(orders) != {EventKind.START}:
            self.frozen.discard(name)
        self._wait_for_states()
        view = self.program.views()[name]
        self.models[name].spawns = view["restarts"] - self.begun[name]
        self.models[name].learn(view)
        self._compare()

    def _wait_for_states(self) -> None:
        """Wait until each process is in the state that the table gives, which is final."""
        states = {name: model.machine.state.value for name, model in self.models.items()}
        wait_until(lambda: {name: view["state"] for name, view in self.program.views().items()} == states, 10.0)

    def _compare(self) -> None:
        """Wait until both report the same of every process, and the same health."""

        def said() -> tuple[object, ...]:
            views = self.program.views()
            starts = {name: view["restarts"] - self.begun[name] for name, view in views.items()}
            return starts, {name: said_of(view) for name, view in views.items()}, self.program.health()

        def wanted() -> tuple[object, ...]:
            verdict = self._verdict()
            parts = {part.name: (part.status, part.state) for part in verdict.components}
            starts = {name: model.spawns for name, model in self.models.items()}
            return starts, {name: model.said for name, model in self.models.items()}, (verdict.status, parts)

        try:
            wait_until(lambda: said() == wanted(), 10.0)
        except AssertionError:
            assert said() == wanted(), self.program.run.records[-20:]

    def _verdict(self) -> Verdict:
        views = tuple(self.models[name].view for name in POLICIES)
        return assess(Snapshot(processes=views), time.monotonic())


@pytest.mark.slow
def test_the_program_does_what_the_table_says() -> None:
    """This holds for orders and exits in any sequence."""
    Both.program = Program()
    try:
        Both.program.run.wait_for("up", process="never")
        wait_until(Both.program.views, what="the API")
        run_state_machine_as_test(
            Both,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
        assert Both.program.run.stop() == 0
    finally:
        Both.program.run.close()


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(st.lists(st.sampled_from([*ENDS, EventKind.RESTART, EventKind.STOP]), min_size=3, max_size=8))
def test_a_process_is_given_up_when_the_table_says(events: list[signal.Signals | EventKind]) -> None:
    """The supervisor then ends with 70, and not before; an order is no failure."""
    model, program = Model(CRITICAL, GiveUp(_FAILURES, 3600.0)), Program(f"{_FAILURES}/1h")
    try:
        wait_until(program.views, what="the API")
        model.take(Event(EventKind.START))
        for each in events:
            wait_until(lambda: program.views()[CRITICAL]["state"] == model.machine.state.value, 10.0)
            if isinstance(each, EventKind):
                program.call("POST", f"/api/processes/{CRITICAL}/{each.value}")
                model.take(Event(each))
                wait_until(lambda: program.views()[CRITICAL]["restarts"] == model.spawns - 1, 10.0)
            elif model.machine.state is State.RUNNING:
                program.signal(CRITICAL, each)
                model.take(Event(EventKind.EXITED, ENDS[each]))
                if model.is_given_up:
                    assert program.run.wait() == 70
                    return
                wait_until(lambda: program.views()[CRITICAL]["failures"] == model.machine.failures, 10.0)
        assert program.run.stop() == 0
    finally:
        program.run.close()
