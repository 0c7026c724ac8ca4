"""The event loop around the engine: signals, timers, the other services, and the ordered stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

from supervisor.backoff import Backoff, delay_s
from supervisor.core.process import Restart, State
from supervisor.core.tailnet_states import TailnetState
from supervisor.errors import EX_SOFTWARE
from supervisor.runtime.loop_latency import being_cancelled, load_module
from supervisor.runtime.stop import Stop, StopPlan
from supervisor.runtime.store import Watch
from supervisor.system.signals import STOP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import SnapshotStore
    from supervisor.system.signals import Inbox

    Service = Callable[[], Awaitable[None]]

SERVICE_BACKOFF = Backoff(initial_s=1.0, max_s=60.0)
LOOK_FOR_SIGNALS_S = 3.0
# A clock that is adjusted slowly is followed in steps of this size.
CLOCK_SET_S = 1.0
_FORCE_HINT = "a second INT (Ctrl-C) kills the app at once"


class MainLoop:
    """Runs an engine whose processes have already been started, until there is a reason to stop; then stops in order.

    ``services`` run concurrently, by name: the failure of one is logged and it is restarted, without effect on the
    processes. ``app`` names the process whose end stops everything.
    """

    def __init__(
        self,
        engine: Engine,
        inbox: Inbox,
        app: str | None,
        stop_plan: Callable[[], StopPlan],
        services: Mapping[str, Service],
    ) -> None:
        self._engine = engine
        self._inbox = inbox
        self._app = app
        self._stop_plan = stop_plan
        self._services = services
        self._stop: Stop | None = None
        self._stop_asked = asyncio.Event()
        self._interrupts = 0
        self._status = 0
        self._why: str | None = None
        self._stop_why = ""
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, finish: Callable[[int, str | None], None]) -> None:
        """Run until everything has stopped, then call ``finish`` with the supervisor's exit code.

        ``finish`` also gets the reason if the stop was not requested.
        """
        try:
            await self._run(finish)
        except (Exception, asyncio.CancelledError) as error:
            if being_cancelled():
                raise
            finish(EX_SOFTWARE, self._log_defect(error))

    async def _run(self, finish: Callable[[int, str | None], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._take_exception)
        self._engine.log.start(loop)
        loop.add_reader(self._inbox.fd, self._wake)
        async with asyncio.TaskGroup() as group:
            services = [group.create_task(self._keep(name, service)) for name, service in self._services.items()]
            self._look_for_signals()
            self._reap()
            self._engine.observe(self)
            await self._stop_asked.wait()
            self._engine.store.update_stopping(self._why or self._stop_why)
            self._engine.log.stop_waiting()
            self._stop = Stop(self._engine, self._stop_plan())
            if self._interrupts > 1:
                self._stop.force()
            await self._stop.run()
            finish(self._final_status(), self._why)
            for task in services:
                task.cancel()

    def _final_status(self) -> int:
        """Return the exit code: that of the app if it is never restarted, also after a signal, as tini does."""
        if self._status == 0 and self._app is not None:
            app = self._engine.children[self._app]
            if app.spec.restart is Restart.NEVER and app.machine.exit_status is not None:
                return app.machine.exit_status.shell_status
        return self._status

    def _look_for_signals(self) -> None:
        """Check now and every few seconds: without memory the kernel may drop the wake-up (pipe(7): ENOMEM)."""
        # First: nothing below may end it.
        asyncio.get_running_loop().call_later(LOOK_FOR_SIGNALS_S, self._look_for_signals)
        self._wake()
        self._look_at_clock()

    def _look_at_clock(self) -> None:
        """Update the offset between the clocks if the wall clock was set, or the machine has slept."""
        store = self._engine.store
        offset_s = time.time() - time.monotonic()  # noqa: TID251 - where the two clocks meet again
        if abs(offset_s - store.snapshot.wall_offset_s) > CLOCK_SET_S:
            store.update_wall_offset(offset_s)

    def _wake(self) -> None:
        for number in self._inbox.read():
            self._guarded(partial(self._take, number))

    def _take(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number in STOP:
            self._take_stop(number)
        elif number == signal.SIGHUP:
            self._take_hangup()
        elif self._app is not None:
            self._engine.children[self._app].signal(number)

    def _reap(self) -> None:
        if self._engine.reap():
            asyncio.get_running_loop().call_soon(self._guarded, self._reap)
        self.take_change()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - any error is logged, and everything stops
            self.take_defect(error)

    def take_defect(self, error: Exception) -> None:
        """Stop everything, as the state of the processes is unknown after an error in the engine."""
        why = self._log_defect(error)
        if not self._stop_asked.is_set():
            self._status, self._why = EX_SOFTWARE, why
            self._stop_asked.set()

    def _log_defect(self, error: BaseException) -> str:
        trace = "".join(traceback.format_exception(error))
        # A resource that the machine refuses is not a defect in the supervisor.
        event = "cannot go on" if isinstance(error, OSError) else "internal error"
        self._engine.log.record("critical", event, why=repr(error), traceback=trace)
        return f"{event}: {error!r}"

    def _take_stop(self, number: int) -> None:
        """Stop in order; a second INT is a second Ctrl-C and forces it, but wrappers and platforms repeat TERM."""
        name = signal.Signals(number).name
        self._interrupts += number == signal.SIGINT
        if not self._stop_asked.is_set():
            self._stop_why = f"{name} received"
            self._engine.log.record("info", "stopping", why=self._stop_why)
            self._stop_asked.set()
        elif number == signal.SIGINT and self._interrupts > 1:
            self._engine.log.record("warning", "forcing the stop", why=f"{name} received again")
            if self._stop is not None:
                self._stop.force()
        else:
            self._engine.log.record(
                "info", f"{name} changes nothing", why="the stop is under way", what_to_do=_FORCE_HINT
            )

    def _take_hangup(self) -> None:
        if self._inbox.hangup_stops:
            self._take_stop(signal.SIGHUP)
        else:
            self._engine.log.record("info", "SIGHUP ignored", why="settings take a restart")

    def take_final(self, name: str) -> None:
        """Stop everything if the app ended, or a critical process failed, permanently."""
        if self._stop_asked.is_set():
            return
        child = self._engine.children[name]
        exit_status = child.machine.exit_status
        failed = child.machine.state is State.FAILED
        if name == self._app and not failed and exit_status is not None:
            self._status = exit_status.shell_status
            self._stop_why = f"{name} has ended for good"
            self._engine.log.record("info", "stopping", why=self._stop_why, status=self._status)
            self._stop_asked.set()
        elif child.spec.critical and (failed or exit_status is None or not exit_status.success):
            self._status = EX_SOFTWARE
            self._why = f"{name} is critical and failed for good: {child.last_reason}"
            self._engine.log.record("critical", "stopping", why=self._why, status=self._status)
            self._stop_asked.set()

    def take_change(self) -> None:
        """Set the one timer to the engine's next timer."""
        due_s = self._engine.next_due_s()
        if self._timer is None or self._timer.cancelled() or due_s != self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = None if due_s is None else loop.call_at(due_s, self._guarded, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._engine.fire_due()

    async def _keep(self, name: str, service: Service) -> None:
        failures = 0
        while True:
            begun_s = time.monotonic()
            try:
                await service()
            except (Exception, asyncio.CancelledError) as error:
                if being_cancelled():
                    raise
                proven = time.monotonic() - begun_s >= SERVICE_BACKOFF.reset_s
                failures = 1 if proven else failures + 1
                wait_s = delay_s(SERVICE_BACKOFF, failures, 1.0)
                self._engine.log.record(
                    "error",
                    "service crashed",
                    part=name,
                    why=repr(error),
                    again_in_s=wait_s,
                    traceback=traceback.format_exc(),
                )
                await asyncio.sleep(wait_s)
            else:
                return

    def _take_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        trace = "".join(traceback.format_exception(error)) if error is not None else None
        self._engine.log.record("error", "internal error", why=context.get("message"), traceback=trace)


# A login that takes longer waits for a distant control server, and needs little CPU.
_LOGIN_FIRST_S = 0.15
_LOGGING_IN = frozenset({TailnetState.STARTING, TailnetState.CONNECTING})


class LazyServices:
    """Creates services whose modules are imported late; ``running`` maps the name of each running one to its object."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        # Two threads that import at the same time would slow each other down.
        self._one = asyncio.Lock()
        self.running: dict[str, Any] = {}
        self._crashed: dict[str, Any] = {}
        self._kept: set[str] = set()

    def service(self, name: str, module: str, make: Callable[[Any], Any], *, lasting: bool = False) -> Service:
        """Return a service that imports a module, creates an object with ``make`` and runs it.

        The object of a ``lasting`` one outlives a failure: it is run again, and is in ``running`` meanwhile.
        """

        async def run() -> None:
            async with self._one:
                found = await load_module(module)
            if name not in self.running:
                self.running[name] = make(found)
            try:
                await self.running[name].run()
            finally:
                if not lasting and name not in self._kept:
                    self._crashed[name] = self.running.pop(name)

        return run

    def keep(self, name: str) -> Any:
        """Return the object of a service, which is the one that it runs from now on; None if there was none yet.

        Between a crash and the next try it is the one that crashed: what it knows is needed to stop in order.
        """
        self._kept.add(name)
        if name not in self.running and name in self._crashed:
            self.running[name] = self._crashed[name]
        return self.running.get(name)

    def heavy_service(self, name: str, module: str, make: Callable[[Any], Any]) -> Service:
        """Return the same for a module that takes 0.1 s to import: it waits for the login."""
        later = self.service(name, module, make)

        async def run() -> None:
            await self._let_login_go_first()
            await later()

        return run

    async def _let_login_go_first(self) -> None:
        """Wait for a short time until the device has logged in or waits for something else."""
        with (
            contextlib.suppress(TimeoutError),
            contextlib.closing(Watch(self._store, lambda snapshot: snapshot.tailnet.state not in _LOGGING_IN)) as watch,
        ):
            async with asyncio.timeout(_LOGIN_FIRST_S):
                await watch.until_true()
