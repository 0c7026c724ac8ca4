"""`run`: assembles the parts, first those that the first child needs, then the loop and everything else."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from supervisor import __version__
from supervisor.commands.resources import RunResources
from supervisor.config.build import resolve
from supervisor.config.plan import SUPERVISOR, TAILSCALED
from supervisor.core.backup import BackupState, BackupView, hold_of
from supervisor.core.snapshot import Snapshot, TailnetView
from supervisor.core.tailnet_states import TailnetState
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime.engine import Engine
from supervisor.runtime.store import Channels, SnapshotStore
from supervisor.system import kernel
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.system.reaper import Reaper
from supervisor.system.signals import send

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from supervisor.config.plan import Plan
    from supervisor.runtime.main_loop import LazyServices, Service
    from supervisor.runtime.stop import StopPlan
    from supervisor.system.signals import Inbox
    from supervisor.telemetry.spans import Recorder

# The endpoint of spans; the first variable that is set counts.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_NO_THREADS = (
    "no thread can be started, so everything is slower: the container is at its limit of processes (pids); raise it"
)
# Time that a stop spends on sending the remaining spans.
FLUSH_S = 0.3
# Time that it spends on writing the owner's choice to a slow disk.
SETTLE_S = 0.5


def run(config: str | None, restart: str | None, command: Sequence[str], inbox: Inbox) -> NoReturn:
    """Start everything, run, and exit with the exit code of the contract.

    Raises ConfigError before anything was started, and OSError if the system cannot create an event loop.
    """
    plan = resolve(os.environ, config=config, restart=restart, command=command)
    resources = RunResources(plan)
    resources.announce()
    adopts, undumpable, named = kernel.adopt_orphans(), kernel.set_undumpable(), kernel.take_name()
    launcher = kernel.launcher()
    parts = Run(plan, resources, launcher)
    app = plan.app_address if plan.app is not None else None
    listen = {"listen": str(resources.address), "app": None if app is None else str(app)}
    parts.log.record("info", "starting", version=__version__, pid=os.getpid(), **listen)
    parts.engine.start_all()
    try:
        _go_on(parts, resources, _missing(adopts=adopts, undumpable=undumpable, named=named, launcher=launcher), inbox)
    except Exception:
        # Nothing would supervise the children any more.
        parts.end_at_once()
        raise
    raise AssertionError("the loop ended without an exit code")


def _go_on(parts: Run, resources: RunResources, missing: Sequence[str], inbox: Inbox) -> None:
    """Log warnings and notices, then run the event loop. Raises OSError if it cannot be created."""
    plan = parts.plan
    for warning in (*resources.warnings, *plan.warnings):
        parts.log.record("warning", warning)
    for notice in (*plan.notices, *missing):
        parts.log.record("info", notice)
    kernel.keep_heaps_few()
    # Imported while the children start: an event loop costs more than everything before.
    import asyncio
    import selectors

    from supervisor.runtime.loop_latency import EventLoop

    # Only now, because the first children get the limit that this process was started with.
    DESCRIPTORS.claim()
    gc.enable()
    # Created separately: a loop whose selector fails is left half-initialised, and warns when it is collected.
    selector = selectors.DefaultSelector()
    with asyncio.Runner(loop_factory=partial(EventLoop, selector)) as runner:
        runner.get_loop()
        runner.run(parts.stay(inbox))


class Run:
    """The parts of a run: those that the first child needs, and how the others are created."""

    def __init__(self, plan: Plan, resources: RunResources, launcher: tuple[str, ...]) -> None:
        self.plan = plan
        self.resources = resources
        self.log = _log(plan)
        self.store = SnapshotStore(_first_snapshot(plan))
        self.channels = Channels()
        self.recorder = _recorder(self.store, self.log)
        self.engine = Engine(plan.processes, self.store, self.log, Reaper(), launcher)
        if plan.backup is not None and plan.backup.holds:
            self.engine.hold(self.engine.children, hold_of(self.store.snapshot.backup.state))
            # Immediately, since the app may be released next, and binds that port.
            self.store.watch(lambda snapshot: None if snapshot.backup.holds else resources.give_way())

    def end_at_once(self) -> None:
        """Kill all children without an ordered stop, which needs the event loop."""
        for pid in self.engine.reaper.owned:
            send(pid, signal.SIGKILL, group=True)
        self.resources.close()

    async def stay(self, inbox: Inbox) -> None:
        """Run the main loop with all services; the process exits in it."""
        import asyncio

        from supervisor.runtime.main_loop import LazyServices, MainLoop

        # After the log's own thread has been started.
        asyncio.get_running_loop().call_soon(self._look_for_threads)
        app = self.plan.app.name if self.plan.app is not None else None
        lazy = LazyServices(self.store)
        loop = MainLoop(self.engine, inbox, app, partial(self.stop_plan, lazy), self.services(lazy))
        await loop.run(partial(self._finish, lazy))

    def _look_for_threads(self) -> None:
        from supervisor.runtime.loop_latency import can_start_threads

        if not can_start_threads():
            self.log.record("warning", _NO_THREADS)

    def stop_plan(self, lazy: LazyServices) -> StopPlan:
        """Return the steps of the ordered stop, for the services that are running by then."""
        from supervisor.runtime.stop import StopPlan

        tailnet = lazy.keep("tailnet")
        web, backups = (lazy.running.get(name) for name in ("web", "backup"))
        return StopPlan(
            timeout_s=self.plan.settings.stop_timeout_s,
            last=TAILSCALED if self.plan.tailscaled is not None else None,
            close_tailnet=tailnet.close if tailnet is not None and tailnet.needs_closing else None,
            keep=backups.keep if backups is not None and backups.keeps else None,
            close_web=web.close if web is not None else None,
        )

    def _finish(self, lazy: LazyServices, status: int, why: str | None) -> NoReturn:
        from supervisor.runtime.loop_latency import join_background

        story = self._last_story(lazy, status, why)
        self.log.record("critical" if why else "info", "stopped", status=status, why=why, story=story)
        self.resources.close()
        if self.recorder is not None:
            self.recorder.flush(FLUSH_S)
        if not self.log.close() and why:
            # The log could not even begin.
            sys.stderr.write(f"moltis-supervisor: {why}\n")
            sys.stderr.flush()
        # Last: the disk is written to while the log is.
        join_background(SETTLE_S)
        # An ordered stop leaves no children.
        self.end_at_once()
        sys.stdout.flush()
        os._exit(status)

    def _last_story(self, lazy: LazyServices, status: int, why: str | None) -> Mapping[str, object] | None:
        """Record the end as an incident, and return its summary; None if that fails."""
        try:
            # Imported here if everything ends before it was.
            from supervisor.incidents.recorder import IncidentRecorder

            recorder = lazy.running.get("incidents") or IncidentRecorder(
                self.plan, self.store, self.log, self.engine.oom
            )
            story: Mapping[str, object] = recorder.finish(status, why)
        except Exception as error:  # noqa: BLE001 - the end comes in any case
            self.log.record("error", "the end is not recorded", why=repr(error))
            return None
        return story

    def services(self, lazy: LazyServices) -> Mapping[str, Service]:
        """Return the services that run beside the processes, the login first and the heavy ones last."""
        plan, store, log, engine, recorder = self.plan, self.store, self.log, self.engine, self.recorder
        services = {}
        if plan.settings.tailnet.mode != "off":
            services["tailnet"] = lazy.service(
                "tailnet",
                "supervisor.tailnet.tailnet_service",
                lambda found: found.TailnetService(plan, store, log, engine, self.channels),
            )
        if plan.backup is not None:
            services["backup"] = lazy.service(
                "backup",
                "supervisor.backup.service",
                lambda found: found.Backups(plan, store, engine, self.channels, os.environ),
                lasting=True,
            )
        services["probes"] = lazy.service("probes", "supervisor.runtime.probes", lambda found: found.Probes(engine))
        services["health"] = lazy.service(
            "health", "supervisor.runtime.health_monitor", lambda found: found.HealthMonitor(store, log)
        )
        if plan.settings.tailnet.mode != "off" and not plan.settings.tailnet.prefs.shields_up:
            services["exposure"] = lazy.service("exposure", "supervisor.runtime.exposure", self._exposure)
        services["incidents"] = lazy.service(
            "incidents",
            "supervisor.incidents.recorder",
            lambda found: found.IncidentRecorder(plan, store, log, engine.oom),
        )
        services["records"] = lazy.heavy_service(
            "records", "supervisor.logs.bridge", lambda found: found.EventBridge(log)
        )
        services["web"] = lazy.service("web", "supervisor.web.server", self._server)
        if recorder is not None:
            services["spans"] = lazy.heavy_service(
                "spans",
                "supervisor.telemetry.otlp",
                lambda found: found.Exporter(recorder, log, store),
            )
        return services

    def _exposure(self, found: Any) -> Any:
        plan = self.plan
        own = [listener.getsockname()[:2] for listener in self.resources.sockets]
        public = plan.app_address.port if plan.settings.expose == "public" and plan.app_address is not None else None
        return found.Exposure(self.engine, own, public, sidecar=plan.settings.tailnet.mode == "attach")

    def _server(self, found: Any) -> Any:
        parts = self.plan, self.store, self.log, self.engine, self.channels
        held = self.resources
        return found.Server(*parts, held.sockets, held.control, self.recorder, held.placeholders, held.when_giving_way)


def _log(plan: Plan) -> LogPipeline:
    settings = plan.settings.log
    return LogPipeline(
        format=settings.format,
        color=settings.format == "pretty" and os.isatty(1),
        redactor=Redactor([source.read().reveal() for source in plan.settings.secrets]),
        history_lines=settings.history_lines,
        overflow=settings.overflow,
        noise=settings.noise,
        names=[SUPERVISOR, *(spec.name for spec in plan.processes)],
    )


def _recorder(store: SnapshotStore, log: LogPipeline) -> Recorder | None:
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    # Imported if spans are exported.
    from supervisor.telemetry import spans

    return spans.begin(os.environ, store, log)


def _first_snapshot(plan: Plan) -> Snapshot:
    now_s = time.monotonic()
    mode = plan.settings.tailnet.mode
    tailnet = TailnetView()
    if mode != "off":
        tailnet = TailnetView(
            mode, TailnetState.STARTING, now_s, why="nothing is known about it yet", away_since_s=now_s
        )
    return Snapshot(
        wall_offset_s=time.time() - now_s,  # noqa: TID251 - where the two clocks meet
        started_s=now_s,
        tailnet=tailnet,
        tailnet_grace_s=plan.settings.tailnet.grace_s,
        warnings=plan.warnings,
        notices=plan.notices,
        backup=_first_backup(plan, now_s),
        credential_warnings=plan.settings.credential_warnings,
    )


def _first_backup(plan: Plan, now_s: float) -> BackupView:
    if plan.backup is None or plan.settings.backup is None:
        return BackupView()
    return BackupView(
        BackupState.STARTING,
        now_s,
        holds=plan.backup.holds,
        repository=plan.settings.backup.repository,
        interval_s=plan.settings.backup.interval_s,
    )


def _missing(*, adopts: bool, undumpable: bool, named: bool, launcher: tuple[str, ...]) -> list[str]:
    """Return a note for each feature that this kernel or image lacks."""
    notes = []
    if not adopts:
        notes.append("orphans are not handed to the supervisor here: it cannot end what a process left behind")
    if not kernel.shows_processes():
        notes.append(
            "there is no /proc of this container's own: what a process leaves behind cannot be found, and commands "
            "over the control socket are refused; mount one"
        )
    if not undumpable:
        notes.append("the kernel does not close the supervisor's memory to processes of its user")
    if not named:
        notes.append(
            "this process cannot be given a name: a command cannot distinguish its control socket from one that an app "
            "of its user puts in its place"
        )
    if not launcher:
        notes.append(
            "there is no setpriv of util-linux that works here: processes do not end with a killed supervisor, and may "
            "gain privileges; install util-linux in the image"
        )
    return notes
