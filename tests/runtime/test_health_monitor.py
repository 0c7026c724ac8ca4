"""When health is assessed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from supervisor.core.health import assess
from supervisor.core.process import State
from supervisor.core.snapshot import ExitView, ProcessView, Snapshot
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime import health_monitor
from supervisor.runtime.health_monitor import HealthMonitor
from supervisor.runtime.store import SnapshotStore

if TYPE_CHECKING:
    import pytest

    from supervisor.core.health import Verdict


async def test_each_change_is_assessed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the health that it puts into the store nor an incident that follows from it is such a change."""
    up = ProcessView("app", State.RUNNING, ready=True, ever_ready=True, critical=True)
    store = SnapshotStore(Snapshot(processes=(up,)))
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=["app"])
    statuses = []

    def counted(snapshot: Snapshot, now_s: float) -> Verdict:
        verdict = assess(snapshot, now_s)
        statuses.append(verdict.status)
        return verdict

    monkeypatch.setattr(health_monitor, "assess", counted)
    monitor = asyncio.create_task(HealthMonitor(store, log).run())
    down = up._replace(state=State.BACKOFF, ready=False, exits=(ExitView(0.0, 1, None, 1.0, "exit code 1"),))
    for view in (up, down, up):
        store.update_process(view)
        # More turns than it takes to notice a change, and one that follows.
        for _ in range(10):
            await asyncio.sleep(0)
        incidents = store.snapshot.incidents
        store.update_incidents(incidents._replace(changes=incidents.changes + 1))
        for _ in range(10):
            await asyncio.sleep(0)
    monitor.cancel()
    await asyncio.gather(monitor, return_exceptions=True)
    assert statuses == ["pass", "fail", "pass"]
    assert store.snapshot.health.status == "pass"
