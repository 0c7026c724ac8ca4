"""Answers health requests without aiohttp, which takes 15 MB that a container may never need.

It handles anonymous GET and HEAD requests without a body, with the same bytes as aiohttp would send. All others are
passed to aiohttp.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from supervisor.core.health import FAIL, PASS, ready
from supervisor.web import schemas
from supervisor.web.error_codes import HEADERS, Code, RefusedError, encode_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.web.context import Context

HEALTH_JSON = "application/health+json"
_REQUEST = re.compile(rb"(GET|HEAD) (/healthz|/readyz|/health)(?:\?[\w.~!$&'()*+,;=:@/?%-]*)? HTTP/1\.([01])", re.ASCII)
_FIELD = re.compile(rb"([\w!#$%&'*+.^`|~-]+):[ \t]*([\t -~]*?)[ \t]*", re.ASCII)
_HOST = re.compile(rb"[\w.:\[\]-]+", re.ASCII)
# Headers that make it more than a plain health request: credentials, a body, or an upgrade.
_NOT_PLAIN = frozenset(
    [
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"proxy-connection",
        b"sec-websocket-key1",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ]
)
_STARTS = tuple(method + path for method in (b"GET ", b"HEAD ") for path in (b"/health", b"/readyz"))
# The app's cookies are sent to this host name too.
MOST_HEAD_BYTES = 32 * 1024
# Each takes ten times its bytes of memory once it is parsed.
MOST_FIELDS = 512
HEAD_END = b"\r\n\r\n"
_PHRASES = {200: "OK", 500: "Internal Server Error", 503: "Service Unavailable"}
_encode = msgspec.json.Encoder().encode


class HealthRequest(NamedTuple):
    """A request for one of the three health endpoints."""

    method: str
    path: str
    minor_version: int
    connection: bytes

    @property
    def keeps_open(self) -> bool:
        """Whether the connection stays open after the answer."""
        return self.connection == b"keep-alive" if self.minor_version == 0 else self.connection != b"close"


class HealthResponse(NamedTuple):
    """The bytes of a response, and whether the connection stays open after it."""

    data: bytes
    keeps_open: bool


class Front:
    """Handles requests before the API. ``when_loaded`` calls back with the API's handler factory, None on failure."""

    def __init__(self, context: Context, when_loaded: Callable[[Callable[[Any], None]], None]) -> None:
        self._context = context
        self.when_loaded = when_loaded

    def waits(self, part: bytes | bytearray) -> bool:
        """Return whether an incomplete head may still become that of a health request."""
        return len(part) <= MOST_HEAD_BYTES and any(part.startswith(start[: len(part)]) for start in _STARTS)

    def answer(self, head: bytes) -> HealthResponse | None:
        """Answer and count a health request; None if it is another request.

        ``head`` excludes its empty line.
        """
        request = parse(head) if len(head) < MOST_HEAD_BYTES - 3 else None
        return None if request is None else _answer(self._context, request)


def parse(head: bytes) -> HealthRequest | None:
    """Parse a head without its empty line; None unless it is a plain health request."""
    first, *lines = head.split(b"\r\n")
    found = _REQUEST.fullmatch(first)
    if found is None or len(lines) > MOST_FIELDS:
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        fields[field[1].lower()] = field[2]
    connection = fields.get(b"connection", b"").lower()
    is_plain = (
        len(fields) == len(lines)
        and not _NOT_PLAIN & fields.keys()
        and connection in {b"", b"close", b"keep-alive"}
        and (_HOST.fullmatch(fields[b"host"]) if b"host" in fields else found[3] == b"0")
    )
    return HealthRequest(found[1].decode(), found[2].decode(), int(found[3]), connection) if is_plain else None


def _answer(context: Context, request: HealthRequest) -> HealthResponse:
    begun_s = time.monotonic()
    body, status = health_body(context, request.path)
    context.metrics.answered(request.path, request.method, status, begun_s)
    says = b""
    if request.keeps_open != (request.minor_version == 1):
        says = b"keep-alive" if request.keeps_open else b"close"
    data = _head(request.minor_version, status, HEALTH_JSON, len(body), says)
    return HealthResponse(data if request.method == "HEAD" else data + body, request.keeps_open)


def health_body(context: Context, path: str) -> tuple[bytes, int]:
    """Return the body and status of a health endpoint for anonymous clients.

    A response of `/healthz` shows that the event loop runs, and with it the reaper.
    """
    if path == "/health":
        verdict = schemas.health(context, signed_in=False)
        return _encode(verdict) + b"\n", 503 if verdict.status == FAIL else 200
    is_well = path == "/healthz" or ready(context.store.snapshot, time.monotonic())[0]
    return _encode({"status": PASS if is_well else FAIL}) + b"\n", 200 if is_well else 503


def answer_to(request: bytes | bytearray, response: bytes) -> bytes:
    """Return the bytes of a response as this request gets them: without the body if it is a HEAD."""
    return response[: response.index(HEAD_END) + len(HEAD_END)] if request.startswith(b"HEAD ") else response


def unavailable() -> bytes:
    """Return the response for the case that the API cannot be loaded."""
    body = encode_error(RefusedError(Code.INTERNAL_ERROR)) + b"\n"
    return _head(1, Code.INTERNAL_ERROR.status, "application/json", len(body), b"close") + body


def _head(minor_version: int, status: int, content_type: str, length: int, connection: bytes) -> bytes:
    # The header has wall-clock time.
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time()))  # noqa: TID251
    fields = {"Content-Type": content_type, "Content-Length": length, "Date": date}
    fields |= {"Connection": connection.decode()} if connection else {}
    lines = [f"HTTP/1.{minor_version} {status} {_PHRASES[status]}"]
    lines += [f"{name}: {text}" for name, text in (fields | HEADERS).items()]
    return "\r\n".join([*lines, "", ""]).encode()
