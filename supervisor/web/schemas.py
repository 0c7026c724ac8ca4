"""What there is to know, as the API tells it: each a rendering of the one snapshot. Nothing to say is null."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.core.backup import COMPONENT as BACKUP
from supervisor.core.backup import BackupState
from supervisor.core.health import TAILNET, assess
from supervisor.logs.format import stamp
from supervisor.logs.sanitize import sanitize_text
from supervisor.runtime.child import signal_name
from supervisor.system import procfs as kernel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.core.backup import SnapshotView
    from supervisor.core.health import Component
    from supervisor.core.orders import OrderView
    from supervisor.core.snapshot import ExitView, HealthChange, ListenerView, PeerView, ProcessView
    from supervisor.logs.history import Line
    from supervisor.web.context import Context

Document = dict[str, Any]


def health(context: Context, *, signed_in: bool) -> Document:
    """Return the combined verdict. Anyone gets each component's name and state.

    Why, since when, how it came to this, and what is to be said of the settings is for others.
    """
    snapshot = context.store.snapshot
    verdict = assess(snapshot, time.monotonic())
    checks = {part.name: [_check(context, part, signed_in=signed_in)] for part in verdict.components}
    document: Document = {"status": verdict.status, "checks": checks}
    if signed_in:
        document["changes"] = [_change(context, change) for change in snapshot.health.history]
        document |= {"warnings": snapshot.warnings, "notices": snapshot.notices}
    return document


def _change(context: Context, change: HealthChange) -> Document:
    return {"at": context.moment(change.at_s), "status": change.status, "reasons": change.reasons}


def _check(context: Context, part: Component, *, signed_in: bool) -> Document:
    check: Document = {"status": part.status, "observedValue": part.state}
    if signed_in:
        snapshot = context.store.snapshot
        view = snapshot.process(part.name)
        since_s = snapshot.tailnet.since_s if part.name == TAILNET or view is None else view.since_s
        since_s = snapshot.backup.since_s if part.name == BACKUP and view is None else since_s
        check |= {"time": context.moment(since_s)} | ({"output": part.why} if part.why else {})
    return check


def processes(context: Context) -> Document:
    """Return every process, in the order of their start."""
    return {"processes": [_process(context, view) for view in context.store.snapshot.processes]}


def _process(context: Context, view: ProcessView) -> Document:
    now_s = time.monotonic()
    lives = view.pid is not None and view.started_s is not None
    return {
        "name": view.name,
        "state": view.state.value,
        "since": context.moment(view.since_s),
        "pid": view.pid,
        "critical": view.critical,
        "ready": view.ready,
        "ready_why": view.ready_why or None,
        "command": sanitize_text(context.log.redactor.mask_text(view.command)),
        "uptime_s": round(now_s - (view.started_s or now_s), 3) if lives else None,
        "restarts": view.restarts,
        "failures": view.failures,
        "next_try_in_s": None if view.next_try_s is None else round(max(0.0, view.next_try_s - now_s), 3),
        **_used(view),
        "exits": [_exit(context, end) for end in view.exits],
    }


def figures(context: Context) -> Document:
    """Return what changes of the processes without anything happening."""
    views = context.store.snapshot.processes
    return {"processes": [{"name": view.name, **_used(view)} for view in views]}


def _used(view: ProcessView) -> Document:
    pid = view.pid
    return {
        "memory_bytes": None if pid is None else kernel.memory_bytes(pid),
        "cpu_s": None if pid is None else kernel.cpu_s(pid),
    }


def _exit(context: Context, end: ExitView) -> Document:
    return {
        "at": context.moment(end.at_s),
        "code": end.code,
        "signal": signal_name(end.signal),
        "uptime_s": round(end.uptime_s, 3),
        "reason": end.reason,
        "expected": end.expected,
        "last_lines": end.last_lines,
    }


def backups(context: Context, most: int | None = None) -> Document:
    """Return what is known of the backups, the newest snapshot first, and at most so many."""
    view = context.store.snapshot.backup
    newest = sorted(view.snapshots, key=lambda each: each.order, reverse=True)[:most]
    return {
        "state": view.state.value,
        "since": None if view.state is BackupState.OFF else context.moment(view.since_s),
        "why": view.why or None,
        "what_to_do": view.what_to_do or None,
        "warning": view.warning or None,
        "held": view.holds,
        "repository": view.repository or None,
        "generation": view.generation,
        "progress": None if view.progress is None else round(view.progress, 3),
        "last_good": None if view.last_good_s is None else context.moment(view.last_good_s),
        "next": None if view.next_s is None else context.moment(view.next_s),
        "snapshots": [_snapshot(each) for each in newest],
    }


def _snapshot(view: SnapshotView) -> Document:
    return {
        "id": view.id,
        "at": view.at,
        "generation": view.generation,
        "sequence": view.sequence,
        "whole": view.whole,
        "reason": view.reason or None,
        "size_bytes": view.size_bytes,
        "added_bytes": view.added_bytes,
        "files": view.files,
        "duration_s": round(view.duration_s, 3),
    }


def tailnet(context: Context) -> Document:
    """Return what is known of the tailnet; the first nine names are those of Moltis' own endpoint."""
    view = context.store.snapshot.tailnet
    is_off = context.plan.settings.tailnet.mode == "off"
    return {
        "mode": "serve" if view.serve.mode == "serve" else "off",
        "hostname": view.hostname or None,
        "url": view.serve.urls[0] if view.serve.urls else None,
        "tailscale_up": view.up,
        "installed": not is_off,
        "tailnet": view.tailnet or None,
        "version": view.version or None,
        "login_name": view.login_name or None,
        "tailscale_ip": view.addresses[0] if view.addresses else None,
        "addresses": view.addresses,
        "state": view.state,
        "since": None if is_off else context.moment(view.since_s),
        "why": view.why or None,
        "what_to_do": view.what_to_do or None,
        "last_error": view.last_error or None,
        "last_error_at": None if view.last_error_s is None else context.moment(view.last_error_s),
        "choice": view.choice,
        "auth_url_pending": view.auth_url is not None,
        "peers": [_peer(peer) for peer in view.peers],
        "advertised_routes": view.routes,
        "tags": view.tags,
        "key_expiry": view.key_expiry or None,
        "health": view.health,
        "warnings": view.warnings,
        "notes": view.notes,
        "before_disconnect": view.before_disconnect or None,
        "serve": {"urls": view.serve.urls, "why": view.serve.why or None, "config": _json(view.serve.config)},
        "exposed": [_exposed(listener) for listener in context.store.snapshot.exposed],
        "orders": [_order(context, order) for order in view.orders],
    }


def _order(context: Context, order: OrderView) -> Document:
    return {
        "id": order.id,
        "kind": order.kind,
        "at": context.moment(order.at_s),
        "state": order.state,
        "why": order.why or None,
    }


def _exposed(listener: ListenerView) -> Document:
    return {**listener._asdict(), "process": listener.process or None}


def _peer(peer: PeerView) -> Document:
    return {
        "name": peer.name,
        "address": peer.address or None,
        "online": peer.online,
        "direct": peer.direct or None,
        "relay": peer.relay or None,
        "last_seen": peer.last_seen or None,
        "tags": peer.tags,
    }


def _json(text: str) -> object:
    """Return JSON's meaning; null where there is none."""
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return None


def lines(found: Iterable[Line], *, colors: bool = False) -> list[Document]:
    """Return lines of the log; with ``colors`` those that came with colours are there in both forms."""
    documents = []
    at_s, at = -1.0, ""
    for line in found:
        if line.at_s != at_s:
            # Lines that came together share their time, and putting it into words is what costs here.
            at_s, at = line.at_s, stamp(line.at_s)
        documents.append(
            {
                "id": line.number,
                "at": at,
                "process": line.process,
                "stream": line.stream,
                "level": line.level,
                "topic": line.topic or None,
                "message": line.message,
                **({"colored": line.colored} if colors and line.colored else {}),
            }
        )
    return documents
