"""What a start with backups looks at last, before anything works on the files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from supervisor.backup.beginning import Beginning
from supervisor.backup.holder import LostError
from supervisor.backup.marker import Kept
from supervisor.backup.words import BackupError, Trouble
from supervisor.backup.work import Work
from supervisor.core.backup import BackupView, SnapshotView
from supervisor.core.holding import LeaseRecord
from supervisor.core.snapshot import Snapshot
from supervisor.runtime.store import SnapshotStore

if TYPE_CHECKING:
    from supervisor.backup.holder import Lease
    from supervisor.core.backup import BackupOrder


async def no_order(_until_s: float | None) -> BackupOrder | None:
    """Nobody orders anything."""
    return None


def beginning(done: list[str], failure: Exception | None) -> Beginning:
    """Return a start whose look at its object fails like that; what it does is noted in ``done``."""

    async def look_at_hold() -> None:
        done.append("looks")
        if failure is not None:
            raise failure

    def note(name: str) -> object:
        return lambda *_, **__: done.append(name)

    engine = SimpleNamespace(release=note("starts"))
    work = SimpleNamespace(look_at_hold=look_at_hold, show=note("shows"), tell=note("tells"), engine=engine)
    work.log, work.places = SimpleNamespace(record=note("logs")), SimpleNamespace(forget_swap=note("forgets the swap"))
    work.go_without = note("goes without")
    return Beginning(cast("Work", work), no_order, lambda _orders: None)


async def test_one_that_was_replaced_during_its_restore_starts_nothing() -> None:
    """A restore may take long, and all may have stood still meanwhile: it looks once more before it starts."""
    done: list[str] = []
    with pytest.raises(LostError):
        await beginning(done, LostError())._release()
    assert done == ["looks"]


async def test_one_that_cannot_look_starts_and_tells() -> None:
    """A bucket that is away ends nobody's service."""
    done: list[str] = []
    await beginning(done, BackupError(Trouble("the bucket is away")))._release()
    assert done == ["looks", "tells", "shows", "starts"]


async def test_a_start_without_backups_keeps_what_it_writes() -> None:
    """A restore that was broken off before is not gone on with at the next start."""
    done: list[str] = []
    beginning(done, None)._start_without()
    assert done.index("forgets the swap") < done.index("starts")


def test_a_new_generation_is_newer_than_the_last_holder_s() -> None:
    """Also where that one has taken no snapshot yet: one of its own that still arrives is older."""
    work = Work.__new__(Work)
    record = LeaseRecord("last", generation=7)
    work.holder = cast("Lease", SimpleNamespace(record=record))
    work._store = SnapshotStore(Snapshot(backup=BackupView(snapshots=(SnapshotView("a", generation=3),))))
    work.kept = Kept()
    work.take_generation("repository")
    assert (work.kept.generation, work.counts) == (8, (8, work.kept.instance))
