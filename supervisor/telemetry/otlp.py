"""Exports spans by OTLP with OpenTelemetry's SDK, which is imported after the start and only if spans are enabled."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from supervisor import __version__
from supervisor.runtime.loop_latency import run_in_thread
from supervisor.telemetry.spans import Recorder, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore
    from supervisor.telemetry.spans import Span

NAME = "moltis-supervisor"
_UNNAMED = "unknown_service"


class Exporter:
    """Exports the spans of a recorder; batches are sent on the SDK's own thread."""

    def __init__(self, recorder: Recorder, log: LogPipeline, store: SnapshotStore) -> None:
        self._recorder = recorder
        self._log = log
        self._store = store

    async def run(self) -> None:
        """Start; returns at once."""
        loop = asyncio.get_running_loop()

        def tell(level: str, event: str, why: str | None = None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(partial(self._log.record, level, event, why=why))

        provider = await run_in_thread(_provider, tell)

        def flush(timeout_s: float) -> None:
            thread = threading.Thread(target=provider.force_flush, name="span-flush", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                why = "no thread can be started: the container is at its limit of processes; raise it"
                self._log.record("warning", "the last spans are not sent", why=why)
                return
            thread.join(timeout_s)

        self._recorder.deliver(Sender(partial(self._send, provider.get_tracer(NAME, __version__)), flush))

    def _send(self, tracer: Tracer, span: Span, context: Context | None = None) -> None:
        kind = SpanKind.SERVER if span.server else SpanKind.INTERNAL
        offset_s = self._store.snapshot.wall_offset_s
        begun_ns, ended_ns = (int((at_s + offset_s) * 1e9) for at_s in (span.begun_s, span.ended_s))
        sent = tracer.start_span(span.name, context or _caller(span), kind, dict(span.attributes), start_time=begun_ns)
        if span.error:
            sent.set_status(Status(StatusCode.ERROR, span.error))
        for child in span.children:
            self._send(tracer, child, set_span_in_context(sent, Context()))
        sent.end(ended_ns)


def _caller(span: Span) -> Context:
    if span.parent is None:
        return Context()
    trace_id, span_id, flags = span.parent
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(remote), Context())


class _LoggedExporter(OTLPSpanExporter):
    """Logs once that spans are not accepted, and once that they are again."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self._tell = tell
        self._works = True
        self._last = _LastMessage(logging.WARNING)
        # The library logs every failed batch; this logs the first one.
        library = logging.getLogger("opentelemetry")
        library.handlers = [self._last]
        library.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = super().export(spans)
        works = result is SpanExportResult.SUCCESS
        if works is not self._works:
            self._works = works
            self._tell(
                *("info", "spans are sent again") if works else ("warning", "spans are not taken", self._last.text)
            )
        return result


class _LastMessage(logging.Handler):
    text = "no reason was given"

    def emit(self, record: logging.LogRecord) -> None:
        """Store the text."""
        self.text = record.getMessage()


def _provider(tell: Callable[..., None]) -> TracerProvider:
    resource = Resource.create({SERVICE_VERSION: __version__})
    # The SDK's own name for a service without one: it alone reads the variables as it does.
    if str(resource.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: NAME}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_LoggedExporter(tell)))
    return provider
