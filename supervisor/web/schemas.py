"""Responses of the API, each a view of the one snapshot. Absent values are null.

The reference, docs/reference/openapi.json, is generated from these structs, by their names without `Body`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from supervisor.core.backup import COMPONENT as BACKUP
from supervisor.core.backup import BackupState
from supervisor.core.health import TAILNET, assess
from supervisor.core.process import State  # noqa: TC001 - msgspec reads it
from supervisor.doctor.finding import DoctorBody
from supervisor.json_input import decode_object
from supervisor.logs.format import stamp
from supervisor.logs.sanitize import sanitize_text
from supervisor.system import procfs
from supervisor.system.signals import signal_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.config.plan import Plan
    from supervisor.core.health import Component
    from supervisor.core.snapshot import ExitView, ProcessView, Snapshot, TailnetView
    from supervisor.logs.history import Line
    from supervisor.web.context import Context

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Link = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
Count = Annotated[int, Meta(ge=0)]
HealthStatus = Annotated[str, Meta(extra_json_schema={"enum": ["pass", "warn", "fail"]})]
Texts = tuple[str, ...]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A response without other fields than those it declares."""

    @classmethod
    def of(cls, view: object, **more: Any) -> Self:
        """Create a response from a view's attributes and ``more``; empty texts become null if the field allows it."""
        values = {name: getattr(view, name) for name in cls.__struct_fields__ if name not in more}
        nulls = {name for name, text in values.items() if text == "" and "None" in cls.__annotations__[name]}
        return cls(**values | dict.fromkeys(nulls), **more)


class CheckBody(Body):
    """The state of a component; authenticated callers get the last two fields."""

    status: HealthStatus
    observedValue: str  # noqa: N815 - the media type's name
    time: Moment | UnsetType = UNSET
    output: str | UnsetType = UNSET


class ChangeBody(Body):
    """A time at which the set of failing components changed."""

    at: Moment
    status: HealthStatus
    reasons: Texts


class HealthBody(Body):
    """The combined verdict; authenticated callers get the last three fields."""

    status: HealthStatus
    checks: dict[str, Annotated[list[CheckBody], Meta(min_length=1, max_length=1)]]
    changes: Annotated[list[ChangeBody], Meta(max_length=50)] | UnsetType = UNSET
    warnings: Texts | UnsetType = UNSET
    notices: Texts | UnsetType = UNSET


class ExitBody(Body):
    """An exit of a process."""

    at: Moment
    code: int | None
    signal: str | None
    uptime_s: float
    reason: str
    expected: bool
    last_lines: Texts


class UsageBody(Body):
    """The resource usage of a process; null if it does not run, or the kernel does not say."""

    name: str
    memory_bytes: int | None
    cpu_s: float | None


class ProcessBody(Body):
    """A process."""

    name: str
    state: State
    since: Moment
    pid: int | None
    critical: bool
    ready: bool
    ready_why: str | None
    held_why: str | None
    held_progress: float | None
    command: str
    needs_restart: str | None
    uptime_s: float | None
    restarts: Count
    failures: Count
    next_try_in_s: float | None
    memory_bytes: int | None
    cpu_s: float | None
    exits: Annotated[list[ExitBody], Meta(max_length=10)]


class ProcessesBody(Body):
    """All processes, in the order of their start."""

    processes: list[ProcessBody]


class SnapshotBody(Body):
    """A snapshot of the backups."""

    id: str
    at: str
    generation: Count
    sequence: Count
    whole: bool
    replaced: bool
    reason: str | None
    size_bytes: Count
    added_bytes: Count
    files: Count
    duration_s: float


class BackupOrderBody(Body):
    """An order for the backups, and its result."""

    id: str
    kind: Literal["backup", "restore"]
    snapshot: str | None
    at: Moment
    state: Literal["under way", "done", "failed"]
    why: str | None


class BackupsBody(Body):
    """The state of the backups."""

    state: BackupState
    since: Moment | None
    why: str | None
    what_to_do: str | None
    warning: str | None
    held: bool
    repository: str | None
    generation: Count
    progress: float | None
    last_good: Moment | None
    next: Moment | None
    snapshots: list[SnapshotBody]
    orders: Annotated[list[BackupOrderBody], Meta(max_length=16)]


class PeerBody(Body):
    """Another device of the tailnet."""

    name: str
    address: str | None
    online: bool
    direct: str | None
    relay: str | None
    last_seen: str | None
    tags: Texts


class ServeBody(Body):
    """How the app is published in the tailnet; ``unpublished`` says why it is not, and what to do."""

    urls: Texts
    why: str | None
    unpublished: str | None
    config: dict[str, Any] | None


class ExposedBody(Body):
    """A port that every peer reaches without serve."""

    host: str
    port: int
    process: str | None
    pid: int | None


class OrderBody(Body):
    """An order of the owner for the tailnet, and its result."""

    id: str
    kind: Literal["connect", "connect with a key", "disconnect", "forget"]
    at: Moment
    state: Literal["under way", "waiting", "done", "failed", "replaced"]
    why: str | None


class TailnetBody(Body):
    """The state of the tailnet; the first nine names are those of Moltis' own endpoint."""

    mode: Literal["serve", "off"]
    hostname: str | None
    url: str | None
    tailscale_up: bool
    installed: bool
    tailnet: str | None
    version: str | None
    login_name: str | None
    tailscale_ip: str | None
    addresses: Texts
    state: str
    since: Moment | None
    why: str | None
    what_to_do: str | None
    last_error: str | None
    last_error_at: Moment | None
    choice: Literal["connected", "disconnected", "forgotten", "unknown"]
    auth_url_pending: bool
    peers: list[PeerBody]
    advertised_routes: Texts
    tags: Texts
    key_expiry: str | None
    health: Texts
    warnings: Texts
    notes: Texts
    before_disconnect: str | None
    serve: ServeBody
    exposed: list[ExposedBody]
    orders: Annotated[list[OrderBody], Meta(max_length=16)]


class AuthUrlBody(Body):
    """The pending login URL; ``qr_svg`` is its QR code."""

    auth_url: Link
    qr_svg: str
    since: Moment | None


class LineBody(Body):
    """A line of the log."""

    id: Annotated[int, Meta(ge=1)]
    at: Moment
    process: str
    stream: Annotated[str, Meta(extra_json_schema={"enum": ["stdout", "stderr", "log"]})]
    level: str
    topic: str | None
    message: str
    colored: str | UnsetType = UNSET


class LogBody(Body):
    """The data of an event `log`."""

    lines: list[LineBody]
    lost: Count


class LogPageBody(Body):
    """A page of the history."""

    lines: list[LineBody]
    lost: Count
    after: Count
    boot: str


class FiguresBody(Body):
    """The data of an event `figures`: the resource usage of the processes."""

    processes: list[UsageBody]


class IncidentNewsBody(Body):
    """The number of stored incidents, the id of the newest, and the number of changes in this run."""

    kept: Count
    changes: Count
    newest: str | None


class EventsBody(Body):
    """The data of an event `state`: the parts that have changed."""

    processes: list[ProcessBody] | UnsetType = UNSET
    backups: BackupsBody | UnsetType = UNSET
    tailnet: TailnetBody | UnsetType = UNSET
    health: HealthBody | UnsetType = UNSET
    incidents: IncidentNewsBody | UnsetType = UNSET


class SessionBody(Body):
    """A new session: a bearer token."""

    session: str
    expires_at: Moment


class SignInCodeBody(Body):
    """A sign-in code, for callers on the control socket."""

    code: Annotated[str, Meta(pattern="^[A-Z2-7]{20}$")]
    link: Link
    expires_at: Moment


# The responses in the reference; nested ones are included automatically.
RESPONSES = (
    *(AuthUrlBody, DoctorBody, EventsBody, FiguresBody, LogBody, LogPageBody, ProcessesBody, SessionBody),
    SignInCodeBody,
)


def health(context: Context, *, signed_in: bool) -> HealthBody:
    """Return the combined verdict. Anonymous callers get the name and state of each component only."""
    snapshot = context.store.snapshot
    verdict = assess(snapshot, time.monotonic())
    views = {view.name: view for view in snapshot.processes}
    checks = {
        part.name: [_check(context, part, views.get(part.name), signed_in=signed_in)] for part in verdict.components
    }
    body = HealthBody(verdict.status, checks)
    if signed_in:
        changes = snapshot.health.history
        body.changes = [ChangeBody(context.moment(each.at_s), each.status, each.reasons) for each in changes]
        body.warnings, body.notices = snapshot.warnings, snapshot.notices
    return body


def _check(context: Context, part: Component, view: ProcessView | None, *, signed_in: bool) -> CheckBody:
    check = CheckBody(part.status, part.state)
    if signed_in:
        snapshot = context.store.snapshot
        since_s = snapshot.tailnet.since_s if part.name == TAILNET or view is None else view.since_s
        since_s = snapshot.backup.since_s if part.name == BACKUP and view is None else since_s
        check.time, check.output = context.moment(since_s), part.why or UNSET
    return check


def processes(context: Context) -> ProcessesBody:
    """Return all processes, in the order of their start."""
    return ProcessesBody([_process(context, view) for view in context.store.snapshot.processes])


def _process(context: Context, view: ProcessView) -> ProcessBody:
    now_s = time.monotonic()
    lives = view.pid is not None and view.started_s is not None
    memory_bytes, cpu_s = _usage(view.pid)
    return ProcessBody.of(
        view,
        since=context.moment(view.since_s),
        command=sanitize_text(context.log.redactor.mask_text(view.command)),
        needs_restart=_needs_restart(view, context.store.snapshot.tailnet.serve.external_url) if lives else None,
        uptime_s=round(now_s - (view.started_s or now_s), 3) if lives else None,
        next_try_in_s=None if view.next_try_s is None else round(max(0.0, view.next_try_s - now_s), 3),
        memory_bytes=memory_bytes,
        cpu_s=cpu_s,
        exits=[_exit(context, end) for end in view.exits],
        **_hold(context.store.snapshot, view),
    )


def _hold(snapshot: Snapshot, view: ProcessView) -> dict[str, Any]:
    """Return why a process is held, and the progress."""
    if not snapshot.is_held(view):
        return {"held_why": None, "held_progress": None}
    return {"held_why": snapshot.backup.holding, "held_progress": _share(snapshot.backup.progress)}


def _share(progress: float | None) -> float | None:
    return None if progress is None else round(progress, 3)


def _needs_restart(view: ProcessView, url: str | None) -> str | None:
    """Return why a process has to be restarted: it was started without its URL, or with another one."""
    if view.external_url is None or url is None or view.external_url == url:
        return None
    if not url:
        return f"it was started with {view.external_url} as its URL, which does not exist any more; restart it"
    was = (
        f"with {view.external_url} as its URL, which is now {url}"
        if view.external_url
        else f"before its URL {url} was known"
    )
    return f"it was started {was}; restart it, because passkeys and links need that URL"


def _exit(context: Context, end: ExitView) -> ExitBody:
    uptime_s, signal = round(end.uptime_s, 3), signal_name(end.signal)
    return ExitBody.of(end, at=context.moment(end.at_s), signal=signal, uptime_s=uptime_s)


def figures(context: Context) -> FiguresBody:
    """Return the resource usage of the processes."""
    views = context.store.snapshot.processes
    return FiguresBody([UsageBody(view.name, *_usage(view.pid)) for view in views])


def _usage(pid: int | None) -> tuple[int | None, float | None]:
    return (None, None) if pid is None else (procfs.memory_bytes(pid), procfs.cpu_s(pid))


def backups(context: Context, most: int | None = None) -> BackupsBody:
    """Return the state of the backups, with up to ``most`` snapshots, the newest first."""
    view = context.store.snapshot.backup
    newest = sorted(view.snapshots, key=lambda each: each.order, reverse=True)[:most]
    return BackupsBody.of(
        view,
        since=None if view.state is BackupState.OFF else context.moment(view.since_s),
        held=view.holds,
        progress=_share(view.progress),
        last_good=_moment(context, view.last_good_s),
        next=_moment(context, view.next_s),
        snapshots=[SnapshotBody.of(each, duration_s=round(each.duration_s, 3)) for each in newest],
        orders=[BackupOrderBody.of(order, at=context.moment(order.at_s)) for order in view.orders],
    )


def incident_news(context: Context) -> IncidentNewsBody:
    """Return counters that show whether the incidents have changed."""
    view = context.store.snapshot.incidents
    return IncidentNewsBody(len(view.known), view.changes, view.known[-1].id if view.known else None)


def tailnet(context: Context) -> TailnetBody:
    """Return the state of the tailnet."""
    view = context.store.snapshot.tailnet
    is_off = context.plan.settings.tailnet.mode == "off"
    return TailnetBody.of(
        view,
        mode="serve" if view.serve.mode == "serve" else "off",
        url=view.serve.urls[0] if view.serve.urls else None,
        tailscale_up=view.up,
        installed=not is_off,
        tailscale_ip=view.addresses[0] if view.addresses else None,
        since=None if is_off else context.moment(view.since_s),
        last_error_at=_moment(context, view.last_error_s),
        auth_url_pending=view.auth_url is not None,
        peers=list(map(PeerBody.of, view.peers)),
        advertised_routes=view.routes,
        serve=ServeBody.of(
            view.serve, config=decode_object(view.serve.config), unpublished=_unpublished(context.plan, view)
        ),
        exposed=list(map(ExposedBody.of, context.store.snapshot.exposed)),
        orders=[OrderBody.of(order, at=context.moment(order.at_s)) for order in view.orders],
    )


def _unpublished(plan: Plan, view: TailnetView) -> str | None:
    """Return why the app has no URL in the tailnet, and what to do; None if it has one, or the tailnet is off."""
    settings = plan.settings.tailnet
    if view.serve.urls or settings.mode == "off":
        return None
    if plan.serve_target is None and settings.serve_config is None:
        if settings.serve == "off":
            return "SUPERVISOR_SERVE is off; set it to auto and restart the container"
        return "no app runs here; set SUPERVISOR_APP_PORT to the port of the program that is to be published"
    if view.serve.why:
        return view.serve.why
    if not view.up:
        return f"the device is not in its tailnet ({view.state}); connect it first"
    return "it is being published; wait a few seconds"


def _moment(context: Context, at_s: float | None) -> str | None:
    return None if at_s is None else context.moment(at_s)


def lines(found: Iterable[Line], *, colors: bool = False) -> list[LineBody]:
    """Return lines of the log; with ``colors`` those with colours also have their original text."""
    bodies = []
    at_s, at = -1.0, ""
    for line in found:
        if line.at_s != at_s:
            # Lines that arrived together share their time, and formatting it is the expensive part.
            at_s, at = line.at_s, stamp(line.at_s)
        colored = (colors and line.colored) or UNSET
        topic = line.topic or None
        bodies.append(LineBody(line.number, at, line.process, line.stream, line.level, topic, line.message, colored))
    return bodies
