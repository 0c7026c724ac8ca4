"""Sends spans by OTLP, with OpenTelemetry's own SDK: loaded when everything runs, and only where it is wanted."""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
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
from supervisor.telemetry.spans import Recorder, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from supervisor.logs.hub import LogHub
    from supervisor.telemetry.span import Parent, Span

NAME = "moltis-supervisor"
_LIBRARY = logging.getLogger("opentelemetry")


class Exporter:
    """Lets a recorder's spans out; batches are sent from the SDK's own thread."""

    def __init__(self, recorder: Recorder, hub: LogHub, wall_offset_s: float) -> None:
        self._recorder = recorder
        self._hub = hub
        self._wall_offset_s = wall_offset_s

    async def run(self) -> None:
        """Begin; return at once."""
        import asyncio

        loop = asyncio.get_running_loop()

        def tell(level: str, event: str, why: str | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(partial(self._hub.record, level, event, why=why))

        provider = await to_thread.run_sync(_provider, tell)
        tracer = provider.get_tracer(NAME, __version__)

        def flush(timeout_s: float) -> None:
            thread = threading.Thread(target=provider.force_flush, name="span-flush", daemon=True)
            thread.start()
            thread.join(timeout_s)

        self._recorder.deliver(Sender(partial(self._send, tracer), flush))

    def _send(self, tracer: Tracer, span: Span, context: Context | None = None) -> None:
        made = tracer.start_span(
            span.name,
            _context_of(span.parent) if context is None else context,
            SpanKind.SERVER if span.answers else SpanKind.INTERNAL,
            dict(span.attributes),
            start_time=self._wall_ns(span.begun_s),
        )
        if span.error:
            made.set_status(Status(StatusCode.ERROR, span.error))
        for child in span.children:
            self._send(tracer, child, set_span_in_context(made, Context()))
        made.end(self._wall_ns(span.ended_s))

    def _wall_ns(self, at_s: float) -> int:
        return int((at_s + self._wall_offset_s) * 1e9)


class _Told(SpanExporter):
    """Sends, and says once in the log that it does not work, and once that it does again."""

    def __init__(self, exporter: SpanExporter, tell: Callable[[str, str, str | None], None]) -> None:
        self._exporter = exporter
        self._tell = tell
        self._works = True
        self._last = _LastWords()
        # What the library says comes with each batch; ours comes once.
        _LIBRARY.handlers = [self._last]
        _LIBRARY.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = self._exporter.export(spans)
        works = result is SpanExportResult.SUCCESS
        if works is not self._works:
            self._works = works
            if works:
                self._tell("info", "spans are sent again", None)
            else:
                self._tell("warning", "spans are not taken", self._last.text)
        return result

    def shutdown(self) -> None:
        """End it."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what is left."""
        return self._exporter.force_flush(timeout_millis)


class _LastWords(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = "no reason was given"

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text."""
        self.text = record.getMessage()


def _provider(tell: Callable[[str, str, str | None], None]) -> TracerProvider:
    resource = Resource.create({SERVICE_VERSION: __version__})
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named:
        resource = resource.merge(Resource({SERVICE_NAME: NAME}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Told(OTLPSpanExporter(), tell)))
    return provider


def _context_of(parent: Parent | None) -> Context:
    if parent is None:
        return Context()
    remote = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags))
    return set_span_in_context(NonRecordingSpan(remote), Context())
