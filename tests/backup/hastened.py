"""The supervisor with shorter waits of the backups: `python hastened.py run …`, with a setting only for tests.

HASTE is a JSON object that replaces `silence_s`, `renew_s`, `settle_s`, `long_s` (of standby), `again_s` (after a
failed start or rehearsal), `look_s` (at folders whose disk hangs), `patience_s` (with a restic that gets no answer) and
`interval_s`, `ready_s` (how long one counts as ready after a take-over). If `crash` is given, the backup service fails
in each turn of its work while a file with that path exists.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def hasten(haste: dict[str, Any]) -> None:
    """Replace the times with the given ones."""
    from supervisor.core import holding

    # Before the modules that import them from there are loaded.
    silence_s = haste.get("silence_s", holding.SILENCE_S)
    # One look alone must not add up to the silence.
    holding.MOST_LOOK_S *= silence_s / holding.SILENCE_S
    holding.SILENCE_S = silence_s
    holding.RENEW_S = haste.get("renew_s", holding.RENEW_S)
    from supervisor.backup import beginning, holder, listener, standby, threads, work

    holder.SETTLE_S = haste.get("settle_s", holder.SETTLE_S)
    work.READY_S = haste.get("ready_s", work.READY_S)
    standby.READY_S = work.READY_S  # type: ignore[attr-defined]
    standby.LONG_S = haste.get("long_s", standby.LONG_S)
    standby.AGAIN_S = haste.get("again_s", standby.AGAIN_S)
    beginning._AGAIN_S = haste.get("again_s", beginning._AGAIN_S)
    threads.LOOK_S = haste.get("look_s", threads.LOOK_S)
    listener.PATIENCE_S = haste.get("patience_s", listener.PATIENCE_S)
    interval_s = haste.get("interval_s")
    if interval_s is not None:
        rest = work.Work.rest

        def rest_shortly(self: work.Work) -> None:
            self.settings = self.settings._replace(interval_s=interval_s)
            rest(self)

        work.Work.rest = rest_shortly  # type: ignore[method-assign]
    if haste.get("crash") is not None:
        _let_crash(haste["crash"])


def _let_crash(path: str) -> None:
    from supervisor.backup import service

    go_on, next_order = service.Backups._go_on, service.Backups._next_order

    async def go_on_or_crash(self: service.Backups) -> None:
        _crash_where(path)
        await go_on(self)

    async def next_or_crash(self: service.Backups, until_s: float | None) -> object:
        order = await next_order(self, until_s)
        _crash_where(path)
        return order

    service.Backups._go_on = go_on_or_crash  # type: ignore[method-assign]
    service.Backups._next_order = next_or_crash  # type: ignore[method-assign,assignment]


def _crash_where(path: str) -> None:
    if os.path.exists(path):
        raise RuntimeError("a defect of the tests' making")


if __name__ == "__main__":
    from supervisor.system import kernel

    kernel.set_undumpable()
    hasten(json.loads(os.environ.get("HASTE", "{}")))
    from supervisor.cli import main

    sys.exit(main())
