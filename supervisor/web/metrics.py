"""`GET /metrics`: a scrape. What it takes is loaded by the first one, in a thread, and everything is written in one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from supervisor.logs.history import SUPERVISOR
from supervisor.runtime.loop_latency import load_module, run_in_thread
from supervisor.system import procfs

if TYPE_CHECKING:
    from supervisor.telemetry.metrics import Exposition, ScrapeData
    from supervisor.web.context import Context

# Prometheus itself waits for ten seconds unless it is told otherwise.
RELAY_S = 2.0


async def metrics(context: Context, request: web.Request) -> web.Response:
    """Give everything in the format that the client asks for."""
    context.meters.lag.start()
    module = await load_module("supervisor.telemetry.metrics")
    data = await _scrape_data(context, module)
    accept = ",".join(request.headers.getall("Accept", []))
    accept_encoding = ",".join(request.headers.getall("Accept-Encoding", []))
    written = await run_in_thread(_write, module, data, accept, accept_encoding)
    context.meters.relay_errors = written.relay_errors
    headers = {"Content-Type": written.content_type, "Vary": "Accept, Accept-Encoding"}
    return web.Response(body=written.body, headers=headers | ({"Content-Encoding": "gzip"} if written.gzipped else {}))


async def _scrape_data(context: Context, module: Any) -> ScrapeData:
    """Collect what the loop's thread knows; all but the uses of processes."""
    log, meters = context.log, context.meters
    # First: it may take its time, and the rest is to be of one moment.
    relayed = None if context.store.snapshot.tailnet.mode == "off" else await context.channels.read_metrics(RELAY_S)
    data: ScrapeData = module.ScrapeData(
        snapshot=context.store.snapshot,
        now_s=time.monotonic(),
        usage={},
        logged=log.counted(),
        dropped=log.dropped,
        held_back=log.held_back,
        masked=log.redactor.masked,
        requests=dict(meters.requests),
        durations=dict(meters.durations),
        streams=context.streams.count,
        relayed=relayed,
        relay_errors=meters.relay_errors,
        lag=meters.lag.seen,
    )
    return data


def _write(module: Any, data: ScrapeData, accept: str, accept_encoding: str) -> Exposition:
    pids = {view.name: view.pid for view in data.snapshot.processes if view.pid is not None} | {SUPERVISOR: os.getpid()}
    usage = {name: (procfs.memory_bytes(pid), procfs.cpu_s(pid)) for name, pid in pids.items()}
    written: Exposition = module.write(data._replace(usage=usage), accept, accept_encoding)
    return written
