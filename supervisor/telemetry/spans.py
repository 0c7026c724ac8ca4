"""Spans, derived from changes of the snapshot, as plain data until an exporter is attached.

OpenTelemetry is not imported here, so that the first process is traced without delaying its start.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.backup import BackupState
from supervisor.core.process import WAITS, State
from supervisor.core.tailnet_states import TailnetState
from supervisor.system.signals import signal_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from supervisor.core.backup import BackupView
    from supervisor.core.counts import Counts
    from supervisor.core.snapshot import ExitView, ProcessView, Snapshot, TailnetView
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore

SPAWN, STOP, RESTART = "process.spawn", "process.stop", "process.restart"
CONNECT, DISCONNECT, SERVE = "tailnet.connect", "tailnet.disconnect", "tailnet.serve"
SNAPSHOT, RESTORE, MAINTENANCE = "backup.snapshot", "backup.restore", "backup.maintenance"
# The result of an operation that was replaced by another, such as a stop.
BROKEN_OFF = "broken off"
_STOPPING = frozenset({State.STOPPING, State.QUITTING, State.KILLING})
_BEFORE_A_START = WAITS | {State.CLEANING, State.BACKOFF}
_RESTARTING = frozenset({State.CLEANING, State.BACKOFF, State.SPAWNING})
_UNDER_WAY = frozenset({TailnetState.STARTING, TailnetState.CONNECTING})
_HELD = frozenset({TailnetState.RESTORING, TailnetState.STANDBY, TailnetState.HELD, TailnetState.CHOOSE})
# Other states are not failures, such as a login that waits for a person.
_FAILURES = frozenset(
    {
        TailnetState.DOWN,
        TailnetState.EXPIRED,
        TailnetState.NO_NETWORK,
        TailnetState.NOT_KEPT,
        TailnetState.REFUSED,
        TailnetState.SWITCHED_OFF,
        TailnetState.UNREACHABLE,
    }
)
# Spans kept until an exporter is attached; the oldest are dropped.
MOST_KEPT = 2048
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_MIN_SECRET_LENGTH = 16
Attribute = str | int | bool | tuple[str, ...]


class Parent(NamedTuple):
    """The caller's span, as in a W3C Trace Context."""

    trace_id: int
    span_id: int
    flags: int


class Span(NamedTuple):
    """A duration between two times of the monotonic clock; ``error`` is why it failed.

    ``server`` marks the handling of a request, ``parent`` is the caller's span.
    """

    name: str
    begun_s: float
    ended_s: float
    attributes: Mapping[str, Attribute]
    error: str = ""
    children: tuple[Span, ...] = ()
    server: bool = False
    parent: Parent | None = None


class ProcessSpans:
    """The spans of a process. A restart lasts from an exit until the process is ready again, or is given up."""

    def __init__(self) -> None:
        self._seen: ProcessView | None = None
        self._begun: dict[str, float] = {}
        self._stop: Span | None = None

    def update(self, view: ProcessView) -> Iterator[Span]:
        """Return the spans that end with this view."""
        seen, self._seen = self._seen, view
        before = seen.state if seen is not None else State.INACTIVE
        if view.exits and (seen is None or not seen.exits or view.exits[-1] is not seen.exits[-1]):
            yield from self._exited(view, view.exits[-1], None if seen is None else seen.pid)
        if view.state is not before:
            yield from self._changed(view, before)
        begun_s = self._begun.get(SPAWN)
        # Before the first start the view is of the previous life.
        started = begun_s is not None and view.started_s is not None and view.started_s >= begun_s
        if started and view.ever_ready and view.state is State.RUNNING:
            yield self._spawned(_process(view, view.pid), view.ready_since_s or view.since_s, view.exits)

    def _exited(self, view: ProcessView, end: ExitView, pid: int | None) -> Iterator[Span]:
        if SPAWN in self._begun:
            attributes = _process(view, pid) | _ended(end) | {"error.type": end.kind}
            error = f"it ended before it was ready: {end.reason}"
            yield self._spawned(attributes, end.at_s, view.exits[:-1], error)
        self._begun.setdefault(RESTART, self._begun.get(STOP, end.at_s))

    def _changed(self, view: ProcessView, before: State) -> Iterator[Span]:
        if view.state in _STOPPING and before not in _STOPPING:
            self._begun[STOP] = view.since_s
        elif before is State.CLEANING and STOP in self._begun:
            ended = _ended(view.exits[-1]) if view.exits else {}
            stop = Span(STOP, self._begun.pop(STOP), view.since_s, _process(view, None) | ended)
            if view.state in _RESTARTING:
                self._stop = stop
            else:
                yield stop
        if view.state is State.SPAWNING:
            self._begun[SPAWN] = view.since_s
        elif view.state not in _RESTARTING and before in _BEFORE_A_START:
            self._begun.pop(RESTART, None)
            self._stop = None

    def _spawned(
        self, attributes: dict[str, Attribute], ended_s: float, past: tuple[ExitView, ...], error: str = ""
    ) -> Span:
        """Return the span of a finished start, within that of its restart."""
        spawn = Span(SPAWN, self._begun.pop(SPAWN), ended_s, attributes, error)
        stop, self._stop = self._stop, None
        if RESTART not in self._begun:
            return spawn
        reason = {"supervisor.restart.reason": past[-1].kind} if past else {}
        children = (spawn,) if stop is None else (stop, spawn)
        return Span(RESTART, self._begun.pop(RESTART), ended_s, attributes | reason, error, children)


def _process(view: ProcessView, pid: int | None) -> dict[str, Attribute]:
    program = view.command.partition(" ")[0].rpartition("/")[2]
    found = {"supervisor.process.name": view.name, "process.pid": pid, "process.executable.name": program or None}
    return {name: value for name, value in found.items() if value is not None}


def _ended(end: ExitView) -> dict[str, Attribute]:
    found = {
        "process.exit.code": end.code,
        "supervisor.exit.signal": signal_name(end.signal),
        "supervisor.exit.kind": end.kind,
    }
    return {name: value for name, value in found.items() if value is not None}


class TailnetSpans:
    """A connect lasts from the order, or the start, until the tailnet is up, or needs a person."""

    def __init__(self, view: TailnetView) -> None:
        self._seen = view
        self._connect_s = view.since_s if view.state in _UNDER_WAY else None
        self._serve_s: float | None = None

    def update(self, view: TailnetView, now_s: float) -> Iterator[Span]:
        """Return the spans that end with this view."""
        seen, self._seen = self._seen, view
        if view is seen:
            return
        name = {"supervisor.tailnet.hostname": view.hostname} if view.hostname else {}
        attributes = {"supervisor.tailnet.state": view.state, "supervisor.tailnet.mode": view.mode, **name}
        yield from self._connected(seen, view, now_s, attributes)
        if view.disconnects.times > seen.disconnects.times:
            took_s = view.disconnects.sum_s - seen.disconnects.sum_s
            forget = view.choice == "forgotten"
            yield Span(DISCONNECT, now_s - took_s, now_s, {**attributes, "supervisor.tailnet.forget": forget})
        yield from self._served(seen, view, now_s, attributes)

    def _connected(
        self, seen: TailnetView, view: TailnetView, now_s: float, attributes: dict[str, str]
    ) -> Iterator[Span]:
        if view.state in _HELD:
            # It has not begun.
            self._connect_s = None
        if self._connect_s is None and view.state in _UNDER_WAY and not view.up:
            self._connect_s = view.since_s
        if view.connects.times > seen.connects.times:
            ordered_s = now_s - (view.connects.sum_s - seen.connects.sum_s)
            self._connect_s = ordered_s if self._connect_s is None else min(ordered_s, self._connect_s)
        if self._connect_s is not None and view.state not in _UNDER_WAY:
            failed = not view.up and view.state in _FAILURES
            kind, error = ({"error.type": view.state}, view.why or view.state) if failed else ({}, "")
            yield Span(CONNECT, self._connect_s, max(now_s, self._connect_s), attributes | kind, error)
            self._connect_s = None

    def _served(self, seen: TailnetView, view: TailnetView, now_s: float, attributes: dict[str, str]) -> Iterator[Span]:
        if not view.up or view.serve.urls:
            if self._serve_s is not None and view.serve.urls:
                yield Span(SERVE, self._serve_s, now_s, {**attributes, "supervisor.serve.urls": view.serve.urls})
            self._serve_s = None
            return
        if self._serve_s is None:
            self._serve_s = now_s
        if view.serve.why and view.serve.why != seen.serve.why:
            yield Span(SERVE, self._serve_s, now_s, attributes | {"error.type": "not published"}, view.serve.why)
            self._serve_s = now_s


class BackupSpans:
    """Spans of backups. A snapshot taken for a restore is a child span of it."""

    def __init__(self, view: BackupView) -> None:
        self._seen = view
        self._begun: dict[str, float] = {}
        self._before: tuple[Span, ...] = ()

    def update(self, view: BackupView, now_s: float) -> Iterator[Span]:
        """Return the spans that end with this view."""
        seen, self._seen = self._seen, view
        anew = view.state is not seen.state or view.since_s != seen.since_s
        taken, restored = _grown(seen.taken, view.taken), _grown(seen.restores, view.restores)
        if SNAPSHOT in self._begun and (taken or anew):
            snapshot = self._ended(SNAPSHOT, view, now_s, taken or BROKEN_OFF)
            if RESTORE in self._begun:
                self._before = (snapshot,)
            else:
                yield snapshot
        if RESTORE in self._begun and (restored or view.state not in {BackupState.RESTORING, BackupState.SNAPSHOT}):
            restore = self._ended(RESTORE, view, now_s, restored or BROKEN_OFF)
            yield restore._replace(children=self._before)
            self._before = ()
        if MAINTENANCE in self._begun and anew:
            over = "ok" if view.state is BackupState.IDLE else BROKEN_OFF
            yield self._ended(MAINTENANCE, view, now_s, "failed" if view.why else over)
        name = _OF_STATE.get(view.state)
        if anew and name is not None:
            self._begun.setdefault(name, now_s)

    def _ended(self, name: str, view: BackupView, now_s: float, result: str) -> Span:
        attributes: dict[str, Attribute] = {"supervisor.backup.result": result}
        newest = max(view.snapshots, key=lambda each: each.order, default=None)
        if name == SNAPSHOT and result in {"ok", "partial"} and newest is not None:
            attributes |= {
                "supervisor.backup.snapshot": newest.id,
                "supervisor.backup.reason": newest.reason,
                "supervisor.backup.added_bytes": newest.added_bytes,
            }
        error = (view.why or result) if result in {"failed", BROKEN_OFF} else ""
        kind = {"error.type": result} if error else {}
        return Span(name, self._begun.pop(name), now_s, attributes | kind, error)


_OF_STATE = {
    BackupState.SNAPSHOT: SNAPSHOT,
    BackupState.RESTORING: RESTORE,
    BackupState.MAINTENANCE: MAINTENANCE,
}


def _grown(before: Counts, now: Counts) -> str:
    """Return the kind that was counted since; empty if none was."""
    return next((kind for kind, count in now if count > dict(before).get(kind, 0)), "")


class Sender(NamedTuple):
    """An exporter: ``send`` takes a span without blocking, ``flush`` waits up to the given number of seconds."""

    send: Callable[[Span], None]
    flush: Callable[[float], None]


class Recorder:
    """Derives spans from each snapshot, accepts others, and passes all to an exporter once one is attached."""

    def __init__(self, store: SnapshotStore, log: LogPipeline) -> None:
        self._log = log
        self._kept: deque[Span] = deque(maxlen=MOST_KEPT)
        self._sender: Sender | None = None
        self._processes: dict[str, ProcessSpans] = {}
        self._tailnet = TailnetSpans(store.snapshot.tailnet)
        self._backup = BackupSpans(store.snapshot.backup)
        self._unwatch = store.watch(self._update)

    def put(self, span: Span) -> None:
        """Add a finished span; secrets in it are masked."""
        span = self._masked(span)
        if self._sender is None:
            self._kept.append(span)
        else:
            self._sender.send(span)

    def deliver(self, sender: Sender) -> None:
        """Pass the kept spans, and all later ones, to an exporter."""
        self._sender = sender
        while self._kept:
            sender.send(self._kept.popleft())

    def flush(self, timeout_s: float) -> None:
        """Export all finished spans within ``timeout_s``."""
        if self._sender is not None:
            self._sender.flush(timeout_s)

    def _update(self, snapshot: Snapshot) -> None:
        try:
            for view in snapshot.processes:
                for span in self._processes.setdefault(view.name, ProcessSpans()).update(view):
                    self.put(span)
            now_s = time.monotonic()
            for span in (*self._tailnet.update(snapshot.tailnet, now_s), *self._backup.update(snapshot.backup, now_s)):
                self.put(span)
        except Exception as error:  # noqa: BLE001 - must not affect the code that changed the store
            self._unwatch()
            self._log.record("error", "spans are not made any more", why=repr(error))

    def _masked(self, span: Span) -> Span:
        mask = self._log.redactor.mask_text

        def masked(value: Attribute) -> Attribute:
            if isinstance(value, str):
                return mask(value)
            return tuple(map(mask, value)) if isinstance(value, tuple) else value

        attributes = {name: masked(value) for name, value in span.attributes.items()}
        children = tuple(map(self._masked, span.children))
        return span._replace(attributes=attributes, error=mask(span.error), children=children)


def begin(environ: Mapping[str, str], store: SnapshotStore, log: LogPipeline) -> Recorder | None:
    """Return a recorder if spans are enabled and can be exported; otherwise log why they cannot."""
    exporters = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or "otlp" not in [name.strip() for name in exporters.split(",")]:
        return None
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _PROTOCOL)
    why, what_to_do = "", ""
    if protocol != _PROTOCOL:
        why, what_to_do = f"{protocol} is not supported", f"set {_PROTOCOLS[1]} to {_PROTOCOL}"
    elif not _is_installed():
        why = "OpenTelemetry is not installed"
        what_to_do = "install moltis-supervisor[otel], or remove the OTEL_EXPORTER_OTLP settings"
    if why:
        log.record("warning", "spans are not sent", why=why, what_to_do=what_to_do)
        return None
    _learn_secrets(environ, log)
    return Recorder(store, log)


def _is_installed() -> bool:
    # Imported only if spans are enabled, to keep the start fast.
    from importlib.util import find_spec

    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None and bool(find_spec("opentelemetry.sdk"))
    except ModuleNotFoundError:
        return False


def _learn_secrets(environ: Mapping[str, str], log: LogPipeline) -> None:
    """Mask secrets in the headers, such as a token, and in the endpoints, which an error may name, in the log."""
    # Imported if spans are enabled.
    import re
    from urllib.parse import parse_qsl, unquote

    for url in filter(None, map(environ.get, _ENDPOINTS)):
        # A URL without its scheme is one of these errors.
        account = re.match(r"(?:[a-z+.-]+://)?([^/?#@]*)@", url)
        words = account[1].split(":") if account else []
        values = [value for _, value in parse_qsl(url.partition("?")[2].partition("#")[0])]
        for value in (*words[1:], *(each for each in (*words, *values) if len(each) >= _MIN_SECRET_LENGTH)):
            log.redactor.learn(unquote(value))
    pairs = [pair for name in _HEADERS for pair in environ.get(name, "").split(",")]
    for value in (unquote(pair.partition("=")[2]).strip() for pair in pairs):
        # A token may follow a scheme: `Bearer …`. A short value is a name rather than a secret.
        if len(value) >= _MIN_SECRET_LENGTH:
            log.redactor.learn(value)
            log.redactor.learn(value.split()[-1])
