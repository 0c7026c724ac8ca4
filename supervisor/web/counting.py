"""Counts what is asked over HTTP: by route, not by path, so that no client can make up new counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web

from supervisor.core.counts import METHODS, OTHER, Durations

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

ENDPOINT = web.RequestKey("endpoint", str)
_BEGUN_S = web.RequestKey("begun_s", float)


class Counting:
    """Counters by endpoint, method and status, and how long it took until an answer began."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}
        self.durations: dict[tuple[str, str], Durations] = {}

    def begun(self, request: BaseRequest) -> None:
        """Note that a request is here."""
        request[_BEGUN_S] = time.monotonic()

    def answered(self, request: BaseRequest, status: int) -> None:
        """Count it: its answer is about to begin."""
        begun_s = request.get(_BEGUN_S)
        if begun_s is None:
            return
        endpoint = request.get(ENDPOINT, OTHER)
        method = request.method if request.method in METHODS else OTHER
        key = (endpoint, method, str(status))
        self.counts[key] = self.counts.get(key, 0) + 1
        before = self.durations.get((endpoint, method), Durations())
        self.durations[endpoint, method] = before.plus(time.monotonic() - begun_s)
