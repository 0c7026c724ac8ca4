"""What the backup service still does once the stop has begun."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from supervisor.backup import service as module
from supervisor.backup.holder import LostError
from supervisor.backup.service import Backups
from supervisor.backup.words import BackupError, Trouble
from supervisor.core.backup import BackupState, BackupView, Head
from supervisor.runtime.store import Channels

if TYPE_CHECKING:
    from supervisor.backup.work import Work


def service(done: list[str], view: BackupView) -> Backups:
    """Return a service whose work records its calls in ``done``."""

    async def snapshot(reason: str) -> None:
        done.append(f"snapshot: {reason}")

    async def release(*_head: object, whole: bool) -> bool:
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
        own_head=Head(1),
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


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([], ["handed over"]),
        ([BackupError(Trouble("too fast", "it is tried again"))] * 2, ["handed over"]),
        # Trying again helps with neither.
        ([BackupError(Trouble("not allowed", "allow it"))], ["cannot hand over: not allowed; allow it"]),
        ([LostError()], ["cannot hand over: another instance has taken over"]),
        # As long as the stop has time.
        ([BackupError(Trouble("away", "it is tried again"))] * 99, ["cannot hand over: away; it is tried again"]),
    ],
)
@pytest.mark.parametrize("view", [BackupView(BackupState.IDLE), BackupView(BackupState.CHOOSE, holds=True)])
async def test_a_release_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, view: BackupView, failures: list[Exception], told: list[str]
) -> None:
    """One refusal that passes must not cost the next instance a minute."""
    monkeypatch.setattr(module, "LAST_AGAIN_S", 0.01)
    left, said = list(failures), list[str]()

    async def release(*_head: object, whole: bool) -> bool:
        del whole
        if left:
            raise left.pop()
        return True

    def record(_level: str, text: str, *, why: str = "", **_more: object) -> None:
        said.append(": ".join(filter(None, [text, why])))

    backups = service([], view)
    cast("Any", backups._work).holder = SimpleNamespace(release=release)
    cast("Any", backups._work).log = SimpleNamespace(record=record)
    await backups.keep(time.monotonic() + (0.3 if len(failures) > 9 else 60.0))
    assert said == told


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
