"""The three answers for probes: each rendered from the one picture of the world."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from supervisor.core.health import FAIL, alive, document, ready

if TYPE_CHECKING:
    from supervisor.web.context import Context

HEALTH_JSON = "application/health+json"
_encode = msgspec.json.Encoder().encode


async def healthz(context: Context, _request: web.Request) -> web.Response:
    """Liveness of the supervisor: this very answer shows that its loop turns."""
    well = alive(context.board.snapshot)
    return _answer({"status": "pass" if well else "fail"}, 200 if well else 503)


async def readyz(context: Context, _request: web.Request) -> web.Response:
    """Whether traffic is welcome."""
    welcome, _why = ready(context.board.snapshot, time.monotonic())
    return _answer({"status": "pass" if welcome else "fail"}, 200 if welcome else 503)


async def health(context: Context, _request: web.Request) -> web.Response:
    """The combined verdict, with each component's state."""
    body = document(context.board.snapshot, time.monotonic())
    return _answer(body, 503 if body["status"] == FAIL else 200)


def _answer(body: dict[str, Any], status: int) -> web.Response:
    return web.Response(body=_encode(body) + b"\n", status=status, content_type=HEALTH_JSON)
