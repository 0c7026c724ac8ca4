"""What is traced, before anyone knows where it goes: spans as plain data, kept until they can be sent.

Nothing of OpenTelemetry is imported here: the first process is traced from its start, and its start waits for nothing.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from supervisor.telemetry.spans_processes import Lives
from supervisor.telemetry.spans_tailnet import Tailnet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.snapshot import Snapshot
    from supervisor.logs.hub import LogHub
    from supervisor.runtime.board import Board
    from supervisor.telemetry.span import Attribute, Span

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_SPOKEN = "http/protobuf"
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_LEAST_CHARACTERS = 16
# Kept until there is someone to send them; the newest win.
MOST_KEPT = 2048


class Sender(NamedTuple):
    """Whoever sends spans on: ``send`` takes one and does not block, ``flush`` waits for at most so many seconds."""

    send: Callable[[Span], None]
    flush: Callable[[float], None]


class Recorder:
    """Derives spans from each new snapshot, takes others, and hands all to a sender as soon as there is one."""

    def __init__(self, board: Board, hub: LogHub) -> None:
        self._hub = hub
        self._kept: deque[Span] = deque(maxlen=MOST_KEPT)
        self._sender: Sender | None = None
        self._lives = Lives()
        self._tailnet = Tailnet(board.snapshot.tailnet)
        self._leave = board.watch(self._look)

    def put(self, span: Span) -> None:
        """Take one that has ended; secrets in it are masked."""
        span = self._masked(span)
        if self._sender is None:
            self._kept.append(span)
        else:
            self._sender.send(span)

    def deliver(self, sender: Sender) -> None:
        """Hand over what was kept, and everything that comes, from now on."""
        self._sender = sender
        while self._kept:
            sender.send(self._kept.popleft())

    def flush(self, timeout_s: float) -> None:
        """Have everything sent that has ended, within so many seconds."""
        if self._sender is not None:
            self._sender.flush(timeout_s)

    def _look(self, snapshot: Snapshot) -> None:
        now_s = time.monotonic()
        try:
            for span in (*self._lives.look(snapshot.processes), *self._tailnet.look(snapshot.tailnet, now_s)):
                self.put(span)
        except Exception as error:  # noqa: BLE001 - whoever changed the board is not to notice
            self._leave()
            self._hub.record("error", "spans are not made any more", why=repr(error))

    def _masked(self, span: Span) -> Span:
        mask = self._hub.redactor.mask_text
        attributes: dict[str, Attribute] = {}
        for name, value in span.attributes.items():
            if isinstance(value, str):
                attributes[name] = mask(value)
            else:
                attributes[name] = tuple(map(mask, value)) if isinstance(value, tuple) else value
        children = tuple(self._masked(child) for child in span.children)
        return span._replace(attributes=attributes, error=mask(span.error), children=children)


def begin(environ: Mapping[str, str], board: Board, hub: LogHub) -> Recorder | None:
    """Return a recorder where spans are wanted and can be sent; where they are wanted in vain, the log says why."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporters = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _SPOKEN)
    if "otlp" not in [name.strip() for name in exporters.split(",")]:
        return None
    if protocol != _SPOKEN:
        why = f"{protocol} is not spoken here"
        hub.record("warning", "spans are not sent", why=why, what_to_do=f"set {_PROTOCOLS[1]} to {_SPOKEN}")
        return None
    if not _is_installed():
        what_to_do = "install moltis-supervisor[otel], or remove the OTEL_EXPORTER_OTLP settings"
        hub.record("warning", "spans are not sent", why="OpenTelemetry is not installed", what_to_do=what_to_do)
        return None
    _learn_secrets(environ, hub)
    return Recorder(board, hub)


def _is_installed() -> bool:
    # Loaded where spans are wanted: it costs the start a moment.
    from importlib.util import find_spec

    try:
        return find_spec(_EXPORTER) is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def _learn_secrets(environ: Mapping[str, str], hub: LogHub) -> None:
    """Have the log mask what the headers say, such as a token."""
    from urllib.parse import unquote

    for name in _HEADERS:
        for pair in environ.get(name, "").split(","):
            value = unquote(pair.partition("=")[2]).strip()
            # A token may stand behind its scheme: `Bearer …`. A short value is a name, and no secret.
            if len(value) >= _LEAST_CHARACTERS:
                hub.redactor.learn(value)
                hub.redactor.learn(value.split()[-1])
