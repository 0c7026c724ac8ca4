"""The supervisor as chaos runs it: `python watched.py run …`, with settings only for tests.

WATCHED is a JSON object: ``probes`` makes probes of health more frequent, ``hastened`` is the path of the module that
HASTE then applies to (see tests/backup/hastened.py).
"""

from __future__ import annotations

import json
import os
import runpy
import sys

_STEADY_S, _DEADLINE_S = 0.3, 0.7


def probe_often() -> None:
    """Shorten the interval and the deadline of probes, so that a hung process shows within some seconds."""
    from supervisor.core import health

    # Before the modules that import them from there are loaded.
    health.STEADY_S, health.DEADLINE_S = _STEADY_S, _DEADLINE_S


if __name__ == "__main__":
    from supervisor.system import kernel

    kernel.set_undumpable()
    wanted = json.loads(os.environ.get("WATCHED", "{}"))
    if wanted.get("probes"):
        probe_often()
    if wanted.get("hastened"):
        runpy.run_path(wanted["hastened"])["hasten"](json.loads(os.environ.get("HASTE", "{}")))
    from supervisor.cli import main

    sys.exit(main())
