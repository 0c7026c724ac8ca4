"""The three answers for probes: each rendered from the one picture of the world."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.core.health import FAIL, ready
from supervisor.web import documents
from supervisor.web.access import CALLER
from supervisor.web.bodies import answer
from supervisor.web.front import HEALTH_JSON

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context


async def healthz(_context: Context, _request: web.Request) -> web.Response:
    """Liveness of the supervisor: this very answer shows that its loop turns, and the reaper works on that loop."""
    return answer({"status": "pass"}, 200, HEALTH_JSON)


async def readyz(context: Context, _request: web.Request) -> web.Response:
    """Whether traffic is welcome."""
    welcome, _why = ready(context.store.snapshot, time.monotonic())
    return answer({"status": "pass" if welcome else "fail"}, 200 if welcome else 503, HEALTH_JSON)


async def health(context: Context, request: web.Request) -> web.Response:
    """The combined verdict, with each component's state; whoever is signed in gets the reasons too."""
    body = documents.health(context, signed_in=request[CALLER].signed_in)
    return answer(body, 503 if body["status"] == FAIL else 200, HEALTH_JSON)
