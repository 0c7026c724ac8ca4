"""The handlers of health, metrics, sessions, processes, backups and the log."""

from __future__ import annotations

import math
import os
import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web

from supervisor.core.backup import BackUp, BackupState, Restore, StartWithout, find
from supervisor.core.health import FAIL
from supervisor.core.process import Event, EventKind
from supervisor.errors import host_port, quoted
from supervisor.logs.lines import SUPERVISOR
from supervisor.runtime.loop_latency import load_module, run_in_thread
from supervisor.system import procfs
from supervisor.web import schemas
from supervisor.web.auth import CALLER, Access, wrong_credentials
from supervisor.web.error_codes import Code, RefusedError, no_process
from supervisor.web.front import HEALTH_JSON, health_body
from supervisor.web.requests import (
    Empty,
    accepted,
    json_response,
    new_order_id,
    parse_body,
    parse_query,
    takes_gzip,
)

if TYPE_CHECKING:
    from supervisor.core.backup import BackupOrder
    from supervisor.telemetry.metrics import Exposition, ScrapeData
    from supervisor.web.context import Context


async def probe(context: Context, request: web.Request) -> web.Response:
    """Answer liveness or readiness, in the same way as without the API."""
    body, status = health_body(context, request.path)
    return web.Response(body=body, status=status, content_type=HEALTH_JSON)


async def health(context: Context, request: web.Request) -> web.Response:
    """Return the combined verdict with the state of each component; authenticated callers get the reasons too."""
    body = schemas.health(context, signed_in=request[CALLER].signed_in)
    return json_response(body, 503 if body.status == FAIL else 200, HEALTH_JSON)


# Prometheus' default timeout is ten seconds.
RELAY_S = 2.0


async def metrics(context: Context, request: web.Request) -> web.Response:
    """Return all metrics in the format that the client asks for."""
    context.metrics.lag.start()
    module = await load_module("supervisor.telemetry.metrics")
    data = await _scrape_data(context, module)
    accept = ",".join(request.headers.getall("Accept", []))
    written = await run_in_thread(_write, module, data, accept, takes_gzip(request))
    # Added up here, since scrapes may overlap.
    context.metrics.relay_errors += written.relay_failed
    headers = {"Content-Type": written.content_type, "Vary": "Accept, Accept-Encoding"}
    return web.Response(body=written.body, headers=headers | ({"Content-Encoding": "gzip"} if written.gzipped else {}))


async def _scrape_data(context: Context, module: Any) -> ScrapeData:
    """Collect what only the loop's thread may read: everything but the usage of processes."""
    log, meters = context.log, context.metrics
    # First, because it may take long, and the rest should be of one moment.
    relayed = None if context.store.snapshot.tailnet.mode == "off" else await context.channels.read_metrics(RELAY_S)
    data: ScrapeData = module.ScrapeData(
        snapshot=context.store.snapshot,
        now_s=time.monotonic(),
        usage={},
        logged=log.counted(),
        dropped=log.dropped,
        held_back=log.held_back,
        masked=log.redactor.masked,
        requests=dict(meters.requests),
        durations=dict(meters.durations),
        streams=context.streams.count,
        relayed=relayed,
        relay_errors=meters.relay_errors,
        lag=meters.lag.seen,
    )
    return data


def _write(module: Any, data: ScrapeData, accept: str, gzipped: bool) -> Exposition:  # noqa: FBT001 - a thread's
    pids = {view.name: view.pid for view in data.snapshot.processes if view.pid is not None} | {SUPERVISOR: os.getpid()}
    usage = {name: (procfs.memory_bytes(pid), procfs.cpu_s(pid)) for name, pid in pids.items()}
    written: Exposition = module.write(data._replace(usage=usage), accept, gzipped=gzipped)
    return written


class SignInRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Either the admin token, or a code from the log."""

    token: str | None = None
    code: str | None = None


async def sign_in(context: Context, request: web.Request) -> web.Response:
    """Create a session for the admin token or a code."""
    given = await parse_body(request, SignInRequest)
    if (given.token is None) == (given.code is None):
        raise RefusedError(Code.INVALID_BODY, "cannot sign in: send either a token or a code")
    keyring = context.keyring
    right = keyring.redeem_code(given.code) if given.code is not None else await keyring.is_admin(given.token or "")
    if not right:
        raise wrong_credentials(await context.throttle.failed(request[CALLER].source))
    session, ends_s = keyring.open_session()
    return json_response(schemas.SessionBody(session, context.moment(ends_s)))


async def sign_out(context: Context, request: web.Request) -> web.Response:
    """End the session of the request."""
    await parse_body(request, Empty)
    grant = request[CALLER].grant
    if grant is not None:
        context.keyring.end_session(grant)
    return web.Response(status=204)


async def new_code(context: Context, request: web.Request) -> web.Response:
    """Print a code to the log; return it too if the request came over the control socket."""
    await parse_body(request, Empty)
    if request[CALLER].access is Access.CONTROL:
        code = context.keyring.new_code()
        link, ends = context.sign_in_codes.link(code), context.moment(code.ends_s)
        return json_response(schemas.SignInCodeBody(code.secret.reveal(), link, ends))
    if context.keyring.has_token:
        raise RefusedError(Code.TOKEN_SET)
    wait_s = context.sign_in_codes.wait_s()
    if wait_s:
        raise RefusedError(Code.CODE_PRINTED_ALREADY, headers={"Retry-After": str(math.ceil(wait_s))})
    return json_response({"ok": True, "expires_at": context.moment(context.sign_in_codes.print_code())}, 202)


class ProcessOrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``without_backup`` confirms a start without a restore from the backups."""

    without_backup: bool = False


async def processes(context: Context, _request: web.Request) -> web.Response:
    """Return all processes."""
    return json_response(schemas.processes(context))


async def order(kind: EventKind, context: Context, request: web.Request) -> web.Response:
    """Start, stop or restart a process."""
    given = await parse_body(request, ProcessOrderRequest)
    name = request.match_info["name"]
    if name not in context.engine.children:
        raise no_process(name, context.engine.children)
    if context.store.snapshot.stopping:
        raise RefusedError(Code.STOPPING)
    if context.store.snapshot.backup.holds and kind is not EventKind.STOP:
        start_without(context, request[CALLER].source, agreed=given.without_backup)
        # Held or not, it may have been stopped.
        kind = EventKind.START
    context.log.record("info", "order received", child=name, order=kind.value, source=request[CALLER].source)
    context.engine.dispatch(name, Event(kind))
    return accepted()


_WAITS = frozenset({BackupState.HELD, BackupState.STARTING, BackupState.STANDBY})


class RestoreRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``confirm`` is whether the caller agrees that files are replaced."""

    confirm: bool = False


async def backups(context: Context, _request: web.Request) -> web.Response:
    """Return the state of the backups."""
    return json_response(schemas.backups(context))


async def back_up(context: Context, request: web.Request) -> web.Response:
    """Request a snapshot; if the start is held, the existing files become the newest snapshot."""
    await parse_body(request, Empty)
    source = request[CALLER].source
    order = BackUp(source, new_order_id())
    _post(context, order, "back up", source, id=order.order)
    return accepted(order=order.order)


async def restore(context: Context, request: web.Request) -> web.Response:
    """Request that the app's folders are restored from a snapshot."""
    given = await parse_body(request, RestoreRequest)
    _check(context)
    found = find(context.store.snapshot.backup.snapshots, request.match_info["id"])
    if found is None:
        raise RefusedError(Code.UNKNOWN_SNAPSHOT)
    source = request[CALLER].source
    order = Restore(found.id, source, new_order_id())
    _check_order(context, order)
    if not given.confirm:
        raise RefusedError(
            Code.CONFIRMATION_NEEDED,
            f"the app is stopped, its folders are replaced by snapshot {found.id[:8]} of {found.at}, and it is started "
            "again; the present files are saved as a snapshot first, and identity and settings stay",
        )
    _post(context, order, f"restore {found.id[:8]}", source, id=order.order)
    return accepted(order=order.order)


def start_without(context: Context, source: str, *, agreed: bool) -> None:
    """Request to start held processes without a restore. Raises RefusedError unless that was agreed to."""
    # First: nobody is asked to agree to what is refused then.
    _check_order(context, StartWithout())
    if not agreed:
        why = context.store.snapshot.backup.why or "what was backed up is not there yet"
        raise RefusedError(
            Code.CONFIRMATION_NEEDED,
            f"the start is held: {why}; a start now uses the present files, and no snapshots are taken",
        )
    _post(context, StartWithout(), "start without backups", source)


def _check(context: Context) -> None:
    view = context.store.snapshot.backup
    if view.state is BackupState.OFF:
        raise RefusedError(Code.BACKUPS_OFF)
    if context.store.snapshot.stopping:
        raise RefusedError(Code.STOPPING)


def _check_order(context: Context, order: BackupOrder) -> None:
    """Raise RefusedError if the order would not be carried out in this state."""
    _check(context)
    view = context.store.snapshot.backup
    if view.state is BackupState.WITHOUT:
        raise RefusedError(Code.BACKUPS_OFF, "this run was started without backups; restart the container")
    if view.state is BackupState.REPLACED:
        raise RefusedError(Code.BACKUPS_OFF, f"{view.why}; {view.what_to_do}")
    if isinstance(order, StartWithout):
        return
    if view.state in _WAITS:
        raise RefusedError(Code.BACKUP_BUSY, f"the start is held, and continues automatically: {view.holding}")
    if view.state is BackupState.RESTORING:
        raise RefusedError(Code.BACKUP_BUSY)


def _post(context: Context, order: BackupOrder, name: str, source: str, **more: str) -> None:
    _check_order(context, order)
    context.log.record("info", "order received", part="backup", order=name, source=source, **more)
    context.channels.backups.send(order)


async def doctor(context: Context, request: web.Request) -> web.Response:
    """Return a new report of the doctor."""
    report: Any = await load_module("supervisor.doctor.report")
    came = None if request.transport is None else request.transport.get_extra_info("peername")
    peer = host_port(came[0], came[1]) if isinstance(came, tuple) else ""
    snapshot, redactor = context.store.snapshot, context.log.redactor
    body = await report.examine_run(context.plan, snapshot, redactor, context.engine, peer)
    # The panel waits for this line on its stream, to detect proxies that buffer it.
    context.log.record("info", "everything was checked", result=body.level, findings=len(body.findings))
    return json_response(body)


MOST_LINES = 1000
# Python refuses integers of several thousand digits.
_POSITION = re.compile(r"(?:([0-9a-f]{1,32})-)?([0-9]{1,18})")


class LogsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Up to ``limit`` lines ``after`` a position, or the ``last`` so many lines, which is the default."""

    after: str | None = None
    last: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] = MOST_LINES
    process: str | None = None


async def logs(context: Context, request: web.Request) -> web.Response:
    """Return a page of the history."""
    query = parse_query(request, LogsQuery)
    require_process(context, query.process)
    if query.after is not None and query.last is not None:
        raise RefusedError(Code.INVALID_QUERY, "cannot use the query: after and last exclude each other; remove one")
    begin = -(query.last or query.limit) if query.after is None else _line_at(context, query.after)
    page = context.log.history.read(begin, query.limit, query.process)
    lines = schemas.lines(page.lines)
    return json_response(schemas.LogPageBody(lines, page.lost, page.after, context.streams.boot))


def line_of(place: str, boot: str, newest: int) -> int | None:
    """Return the line number in a line's or event's id; None if it is invalid, or of another run."""
    found = _POSITION.fullmatch(place)
    if found is None or found[1] not in {None, boot} or int(found[2]) > newest:
        return None
    return int(found[2])


def _line_at(context: Context, place: str) -> int:
    """Return the number of the line to continue after; 0 for an id of another run of the supervisor."""
    if not _POSITION.fullmatch(place):
        why = f"after is {quoted(place)}, neither the number of a line nor the id of an event"
        raise RefusedError(Code.INVALID_QUERY, f"cannot use the query: {why}; see the API's page")
    return line_of(place, context.streams.boot, context.log.history.next - 1) or 0


def require_process(context: Context, name: str | None) -> None:
    """Raise RefusedError if there is neither a process of that name nor a log of it."""
    names = [SUPERVISOR, *(view.name for view in context.store.snapshot.processes)]
    if name is not None and name not in names:
        raise no_process(name, names)
