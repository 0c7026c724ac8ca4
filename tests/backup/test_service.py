"""What the backup service still does once the stop has begun."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from supervisor.backup.service import Backups
from supervisor.core.backup import BackupState, BackupView
from supervisor.runtime.store import Channels

if TYPE_CHECKING:
    from supervisor.backup.work import Work


def service(done: list[str], view: BackupView) -> Backups:
    """Return a service whose work records its calls in ``done``."""

    async def snapshot(reason: str) -> None:
        done.append(f"snapshot: {reason}")

    async def release(_generation: int, _files: str, *, whole: bool) -> bool:
        done.append(f"released: {whole}")
        return False

    backups = Backups.__new__(Backups)
    backups._one, backups._lost, backups._life = anyio.Lock(), anyio.Event(), anyio.CancelScope()
    backups._rests, backups._current, backups._ending = anyio.Event(), None, False
    backups._last_is_whole, backups._channels = False, Channels()
    backups._rests.set()
    work = SimpleNamespace(
        view=view,
        snapshot=snapshot,
        holder=SimpleNamespace(release=release),
        kept=SimpleNamespace(generation=1, instance=""),
        rest=lambda: None,
        abandon_orders=lambda _why: None,
    )
    backups._work = cast("Work", work)
    return backups


@pytest.mark.parametrize(
    ("view", "snapshots"),
    [
        (BackupView(BackupState.IDLE), ["snapshot: stop"]),
        # Such a run may have no files at all.
        (BackupView(BackupState.WITHOUT), []),
        (BackupView(BackupState.CHOOSE, holds=True), []),
        (BackupView(BackupState.STANDBY, holds=True), []),
    ],
)
async def test_what_a_stop_keeps(view: BackupView, snapshots: list[str]) -> None:
    """A last snapshot is taken, except if the files do not count; such a run then no longer takes over."""
    done: list[str] = []
    backups = service(done, view)
    await backups.keep(anyio.current_time() + 60.0)
    assert done == [*snapshots, f"released: {bool(snapshots)}"]
    assert backups._life.cancel_called is not bool(snapshots)


async def test_a_last_snapshot_with_something_missing_is_not_told_as_whole() -> None:
    """The next instance must know whether the last snapshot is complete."""
    done: list[str] = []
    await service(done, BackupView(BackupState.IDLE, warning="a folder is missing")).keep(anyio.current_time() + 60.0)
    assert done == ["snapshot: stop", "released: False"]


async def test_nothing_is_taken_after_the_last_one() -> None:
    """An order that arrives at that moment could meet a repository that another instance has taken over."""
    done: list[str] = []
    backups = service(done, BackupView(BackupState.IDLE))
    backups._ending = True
    await backups._careful(lambda: backups._work.snapshot("asked"))
    assert not done


@pytest.mark.parametrize("reason", ["ending", "lost"])
async def test_a_service_that_is_started_anew_decides_nothing_at_the_end(reason: str) -> None:
    """It makes no decision during a stop, or after another instance has taken over."""
    backups = service([], BackupView(BackupState.IDLE))
    backups._ending = reason == "ending"
    if reason == "lost":
        backups._lost.set()
    # A start would raise here: the fake work lacks what it needs.
    await backups._live()
