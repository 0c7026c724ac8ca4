"""Receives spans by OTLP over HTTP, like a collector, and stores them."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Got(NamedTuple):
    """One span as received."""

    name: str
    facts: dict[str, Any]
    resource: dict[str, Any]
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    kind: int
    begun_ns: int
    ended_ns: int
    failed: bool
    said: str

    @property
    def took_s(self) -> float:
        """Its duration."""
        return (self.ended_ns - self.begun_ns) / 1e9


class Receiver:
    """A collector on a loopback port; ``status`` is the status of its responses, which wait for ``free``."""

    def __init__(self) -> None:
        self.spans: list[Got] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.free = threading.Event()
        self.free.set()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def named(self, name: str, facts: Mapping[str, object] | None = None) -> list[Got]:
        """Return the spans with this name and these attributes."""
        return [each for each in self.spans if each.name == name and (facts or {}).items() <= each.facts.items()]

    def wait(self, name: str, facts: Mapping[str, object] | None = None) -> Got:
        """Wait for such a span, and return it."""
        return wait_until(lambda: self.named(name, facts), 20, f"the span {name} {facts}")[0]

    def take(self, body: bytes) -> None:
        """Decode a request."""
        request = ExportTraceServiceRequest.FromString(body)
        for of_one in request.resource_spans:
            resource = _plain(of_one.resource.attributes)
            self.spans += [_got(span, resource) for scope in of_one.scope_spans for span in scope.spans]


def _got(span: Any, resource: dict[str, Any]) -> Got:
    return Got(
        span.name,
        _plain(span.attributes),
        resource,
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        span.status.message,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    found = {}
    for pair in attributes:
        which = pair.value.WhichOneof("value")
        value = getattr(pair.value, which)
        found[pair.key] = [part.string_value for part in value.values] if which == "array_value" else value
    return found


def _handler(receiver: Receiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.headers.append({"path": self.path, **{name.lower(): text for name, text in self.headers.items()}})
            receiver.free.wait(60)
            if receiver.status == 200:
                receiver.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            # The client may have given up waiting.
            with contextlib.suppress(OSError):
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Log nothing."""

    return Handler


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a collector for the duration of a block."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.free.set()
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()
