"""The supervisor as chaos runs it: `python watched.py run …`, with settings only for tests.

Each time that its event loop was blocked for too long of its own, a line is added to the file ``blocked``: when that
began and ended, in seconds of the monotonic clock, how long it was, and what ran. Time in which any of its threads
waited for a processor does not count. WATCHED is a JSON object with the path of that file; ``probes`` makes probes of
health more frequent, ``hastened`` is the path of the module that HASTE then applies to (see tests/backup/hastened.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import runpy
import sys
import time
from pathlib import Path

_MOST_S = 0.1
# How long the other threads' waits are taken for those at the beginning of what runs.
_FRESH_S = 0.05
_STEADY_S, _DEADLINE_S = 0.3, 0.7


def probe_often() -> None:
    """Shorten the interval and the deadline of probes, so that a hung process shows within some seconds."""
    from supervisor.core import health

    # Before the modules that import them from there are loaded.
    health.STEADY_S, health.DEADLINE_S = _STEADY_S, _DEADLINE_S


def waits_s() -> float:
    """Return how long the threads of this process have waited for a processor so far."""
    waited_ns = 0
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError, IndexError):
            waited_ns += int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[1])
    return waited_ns / 1e9


def watch(path: str) -> None:
    """Note everything in which the event loop is blocked."""
    run = asyncio.Handle._run
    seen = 0.0, 0.0

    def run_timed(handle: asyncio.Handle) -> None:
        nonlocal seen
        begin_s = time.monotonic()
        with contextlib.suppress(OSError):
            # Reading them for each of the many short callbacks would slow it down.
            if begin_s - seen[0] > _FRESH_S:
                seen = begin_s, waits_s()
        run(handle)
        end_s = time.monotonic()
        if end_s - begin_s > _MOST_S:
            with contextlib.suppress(OSError):
                now = end_s, waits_s()
                own_s = end_s - begin_s - (now[1] - seen[1])
                seen = now
                if own_s > _MOST_S:
                    with open(path, "a", encoding="utf-8") as file:
                        file.write(f"{begin_s} {end_s} {own_s} {handle!r}\n")

    asyncio.Handle._run = run_timed  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    from supervisor.system import kernel

    kernel.set_undumpable()
    wanted = json.loads(os.environ.get("WATCHED", "{}"))
    if wanted.get("blocked"):
        watch(wanted["blocked"])
    if wanted.get("probes"):
        probe_often()
    if wanted.get("hastened"):
        runpy.run_path(wanted["hastened"])["hasten"](json.loads(os.environ.get("HASTE", "{}")))
    from supervisor.cli import main

    sys.exit(main())
