"""The running supervisor does what the pure table says: both get the same orders and faults, and say the same then."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from supervisor.core.process import (
    Event,
    EventKind,
    ExitStatus,
    Machine,
    Moment,
    ProcessAction,
    ProcessSpec,
    Restart,
    SetTimer,
    State,
    step,
)
from tests.process.running import Run
from tests.support.waiting import wait_until

# It ends with a code of its own for a signal, and stays otherwise.
SCRIPT = "trap 'exit 0' USR1; trap 'exit 3' USR2; echo up; while :; do sleep 0.02; done"
POLICIES = {"always": Restart.ALWAYS, "onfailure": Restart.ON_FAILURE, "never": Restart.NEVER}
NAMES = st.sampled_from(sorted(POLICIES))
ORDERS = st.sampled_from([EventKind.START, EventKind.STOP, EventKind.RESTART])
# What ends a process from outside, and how it has ended then.
ENDS = {
    signal.SIGUSR1: ExitStatus(code=0),
    signal.SIGUSR2: ExitStatus(code=3),
    signal.SIGKILL: ExitStatus(signal=signal.SIGKILL),
    signal.SIGSEGV: ExitStatus(signal=signal.SIGSEGV),
}
_NEXT = {
    ProcessAction.SPAWN: Event(EventKind.SPAWNED),
    ProcessAction.REQUEST_END: Event(EventKind.EXITED, ExitStatus(signal=signal.SIGTERM)),
    ProcessAction.CLEAN: Event(EventKind.CLEANED),
}


class Model:
    """One process as the table has it, in a world where all happens at once: ``spawns`` counts its starts."""

    def __init__(self, name: str) -> None:
        self.spec = ProcessSpec(name, (name,), {}, restart=POLICIES[name])
        self.machine = Machine()
        self.spawns = 0

    def take(self, event: Event) -> None:
        """Let an event happen, with all that follows from it."""
        events = [event]
        while events:
            self.machine, actions = step(self.spec, self.machine, events.pop(0), Moment(0.0, 0.0))
            self.spawns += actions.count(ProcessAction.SPAWN)
            for action in actions:
                if isinstance(action, SetTimer) and action.kind is EventKind.RETRY_DUE:
                    events.append(Event(EventKind.RETRY_DUE))
                elif isinstance(action, ProcessAction) and action in _NEXT:
                    events.append(_NEXT[action])


class Program:
    """The real one."""

    def __init__(self) -> None:
        tables = [
            f"[process.{name}]\ncommand = {json.dumps(['sh', '-c', SCRIPT])}\n"
            f"restart = {json.dumps(POLICIES[name].value)}\n"
            for name in POLICIES
        ]
        env = {"SUPERVISOR_BACKOFF_MAX": "20ms", "SUPERVISOR_APP": "off", "SUPERVISOR_GIVE_UP": "never"}
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
        """Return what it says of each process."""
        return {each["name"]: each for each in self.call("GET", "/api/processes")["processes"]}

    def end(self, name: str, number: int) -> None:
        """Have a process end, once it listens."""
        pid = self.views()[name]["pid"]
        ups = [record for record in list(self.run.records) if record.get("process") == name]
        wait_until(lambda: len(ups) or self.run.all("up", process=name), what="its first word")
        os.kill(pid, number)


class Both(RuleBasedStateMachine):
    """Program and model side by side."""

    program: Program

    def __init__(self) -> None:
        super().__init__()
        self.models = {name: Model(name) for name in POLICIES}
        for name, model in self.models.items():
            self.program.call("POST", f"/api/processes/{name}/start")
            model.take(Event(EventKind.START))
        self._compare(counted=False)
        self.begun = {name: view["restarts"] for name, view in self.program.views().items()}
        for model in self.models.values():
            model.spawns = 0

    @rule(name=NAMES, order=ORDERS)
    def order(self, name: str, order: EventKind) -> None:
        """Give one order, and see what comes of it."""
        self.program.call("POST", f"/api/processes/{name}/{order.value}")
        self.models[name].take(Event(order))
        self._compare()

    @rule(name=NAMES, number=st.sampled_from(sorted(ENDS)))
    def end(self, name: str, number: int) -> None:
        """Have a running one end from outside."""
        model = self.models[name]
        if model.machine.state is State.RUNNING:
            self.program.end(name, number)
            model.take(Event(EventKind.EXITED, ENDS[signal.Signals(number)]))
            self._compare()

    @rule(name=NAMES, orders=st.lists(ORDERS, min_size=2, max_size=5))
    def orders_at_once(self, name: str, orders: list[EventKind]) -> None:
        """Give several without a pause: how many starts that makes is a matter of time, what it comes to is not."""
        for order in orders:
            self.program.call("POST", f"/api/processes/{name}/{order.value}")
            self.models[name].take(Event(order))
        self._compare(counted=False)
        self.models[name].spawns = self.program.views()[name]["restarts"] - self.begun[name]

    def _compare(self, *, counted: bool = True) -> None:
        """Wait until both say the same of every process."""

        def said() -> dict[str, tuple[object, ...]]:
            views = self.program.views()
            return {
                name: (views[name]["state"], views[name]["restarts"] - self.begun[name] if counted else 0)
                for name in POLICIES
            }

        wanted = {
            name: (model.machine.state.value, model.spawns if counted else 0) for name, model in self.models.items()
        }
        try:
            wait_until(lambda: said() == wanted, 10.0)
        except AssertionError:
            assert said() == wanted, self.program.run.records[-20:]


@pytest.mark.slow
def test_the_program_does_what_the_table_says() -> None:
    """Orders and ends in any order."""
    Both.program = Program()
    try:
        Both.program.run.wait_for("up", process="never")
        wait_until(Both.program.views, what="the API")
        run_state_machine_as_test(
            Both,
            settings=settings(
                max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
        assert Both.program.run.stop() == 0
    finally:
        Both.program.run.close()
