"""Keeps the health in the store up to date, and logs when it changes and why."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from supervisor.core.counts import plus_one
from supervisor.core.health import FAIL, STARTUP_S, TAILNET_BLINK_S, WARN, assess, remembered
from supervisor.core.snapshot import HealthView
from supervisor.runtime.store import Watch

if TYPE_CHECKING:
    from supervisor.core.health import Verdict
    from supervisor.core.snapshot import Snapshot
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore

_LEVELS = {"pass": "info", "warn": "warning", "fail": "error"}
# How long after the start a bad status is not logged.
_HELD_S = {FAIL: STARTUP_S, WARN: TAILNET_BLINK_S}


class HealthMonitor:
    """Assesses each new snapshot, and again when the passing of time may have changed the verdict."""

    def __init__(self, store: SnapshotStore, log: LogPipeline) -> None:
        self._store = store
        self._log = log
        self._logged: tuple[tuple[str, str], ...] | None = None
        self._seen = store.snapshot
        self._changes = 0

    async def run(self) -> None:
        """Assess until cancelled."""
        with closing(Watch(self._store, self._changes_by)) as watch:
            while True:
                due_s = self._look()
                await watch.changed(None if due_s is None else max(0.0, due_s - time.monotonic()))

    def _changes_by(self, snapshot: Snapshot) -> int:
        """Return the number of changes so far, without those of health itself and of incidents, which it never uses."""
        before, self._seen = self._seen, snapshot
        if snapshot.health is before.health and snapshot.incidents is before.incidents:
            self._changes += 1
        return self._changes

    def _look(self) -> float | None:
        """Assess once; return when to assess again if nothing changes."""
        now_s = time.monotonic()
        snapshot = self._store.snapshot
        verdict = assess(snapshot, now_s)
        before = snapshot.health
        same = before.status == verdict.status
        since_s = before.since_s if same else now_s
        changes = before.changes if same else plus_one(before.changes, verdict.status)
        history = remembered(before.history, verdict, now_s)
        self._store.update_health(HealthView(verdict.status, since_s, verdict.reasons, changes, history))
        if snapshot.stopping:
            return None
        starting_until_s = snapshot.started_s + _HELD_S.get(verdict.status, 0.0)
        if self._logged is None and now_s < starting_until_s:
            # Startup takes time: a bad status is expected.
            return min(due for due in (verdict.until_s, starting_until_s) if due is not None)
        self._report(verdict)
        return verdict.until_s

    def _report(self, verdict: Verdict) -> None:
        """Log a verdict if its failing components differ from those logged last."""
        if verdict.wrong == self._logged:
            return
        self._logged = verdict.wrong
        self._log.record(_LEVELS[verdict.status], f"health is {verdict.status}", why="; ".join(verdict.reasons) or None)
