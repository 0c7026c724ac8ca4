"""`GET /metrics`: a scrape. What it takes is loaded by the first one, in a thread, and everything is written in one."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web
from anyio import to_thread

from supervisor import __version__
from supervisor.logs.history import SUPERVISOR
from supervisor.runtime.lag import Lag
from supervisor.runtime.turns import load
from supervisor.system import processes
from supervisor.web.counting import Counting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.snapshot import Snapshot
    from supervisor.telemetry.exposition import Exposition
    from supervisor.telemetry.facts import Facts, Usage
    from supervisor.web.context import Context

# Prometheus itself waits for ten seconds unless it is told otherwise.
RELAY_S = 2.0


class Meters:
    """What is counted for metrics alone."""

    def __init__(self) -> None:
        self.counting = Counting()
        self.lag = Lag()
        self.relay_errors = 0


async def metrics(context: Context, request: web.Request) -> web.Response:
    """Give everything in the format that the client asks for."""
    context.meters.lag.start()
    exposition = await load("supervisor.telemetry.exposition")
    facts = await _facts(context)
    accept = ",".join(request.headers.getall("Accept", []))
    accept_encoding = ",".join(request.headers.getall("Accept-Encoding", []))
    written = await to_thread.run_sync(partial(_write, exposition, facts, accept, accept_encoding))
    context.meters.relay_errors = written.errors
    headers = {"Content-Type": written.content_type, "Vary": "Accept, Accept-Encoding"}
    return web.Response(body=written.body, headers=headers | ({"Content-Encoding": "gzip"} if written.gzipped else {}))


async def _facts(context: Context) -> Facts:
    """Collect what the loop's thread knows; all but the uses of processes."""
    from supervisor.telemetry.facts import Facts, Logged, Relayed, Requests

    hub, meters = context.hub, context.meters
    # First: it may take its time, and the rest is to be of one moment.
    told = None if context.board.snapshot.tailnet.mode == "off" else await context.desk.read_metrics(RELAY_S)
    counting = meters.counting
    return Facts(
        snapshot=context.board.snapshot,
        now_s=time.monotonic(),
        version=__version__,
        python=sys.version.partition(" ")[0],
        usage={},
        logged=Logged(hub.counted(), hub.dropped, hub.held_back, hub.redactor.masked),
        requests=Requests(dict(counting.counts), dict(counting.durations), context.streams.count),
        relayed=Relayed(told, meters.relay_errors),
        lag=meters.lag.seen,
    )


def _write(exposition: Any, facts: Facts, accept: str, accept_encoding: str) -> Exposition:
    written: Exposition = exposition.write(facts._replace(usage=_usage(facts.snapshot)), accept, accept_encoding)
    return written


def _usage(snapshot: Snapshot) -> Mapping[str, Usage]:
    from supervisor.telemetry.facts import Usage

    pids = {view.name: view.pid for view in snapshot.processes if view.pid is not None} | {SUPERVISOR: os.getpid()}
    return {name: Usage(processes.memory_bytes(pid), processes.cpu_s(pid)) for name, pid in pids.items()}
