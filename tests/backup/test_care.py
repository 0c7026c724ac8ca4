"""A repository's maintenance, end to end: old snapshots are forgotten, and a check finds damage."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from supervisor.backup.holder import Lease
from supervisor.backup.maintenance import DAY_S, NOT_BEFORE_S, WEEK_S, Maintenance, first_due_s
from supervisor.backup.words import BackupError, Trouble
from supervisor.core.backup import SnapshotView
from tests.backup.test_holder import never, settings
from tests.backup.world import APP, World, back_up, health_of, listed, wait_for_state
from tests.client.calling import call
from tests.process.running import Run
from tests.support.backups import PASSWORD, Bucket, restic
from tests.support.flaky import flaky
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A day takes four seconds, a week eight, the first minutes three, and an hour one or HOUR_S.
SHORT = """
import os, runpy
from supervisor.config import parsers
if "ANY_INTERVAL" in os.environ:
    parsers.BACKUP_INTERVAL = parsers.DURATION
from supervisor.backup import maintenance as module
module.DAY_S, module.WEEK_S, module.NOT_BEFORE_S, module._HOUR_S = 4.0, 8.0, 3.0, float(os.environ.pop("HOUR_S", "1"))
runpy.run_module("supervisor", run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def hurried(world: World, **env: str) -> Iterator[Run]:
    """Run a supervisor with short days for the length of a block."""
    run = Run(env=world.env(**env), program=(sys.executable, "-I", "-c", SHORT, "run", "--", *APP))
    try:
        yield run
    finally:
        run.close()


def size_of(world: World) -> int:
    """Return how much data the repository contains."""
    return sum(path.stat().st_size for path in Path(world.repository, "data").rglob("*") if path.is_file())


def at_s(record: dict[str, str]) -> float:
    """Return when a record was written."""
    return datetime.fromisoformat(record["timestamp"]).timestamp()


def test_each_is_due_at_a_random_minute_and_never_at_once() -> None:
    """The time is evenly distributed over the first day or week, except for a run's first ten minutes."""
    for period_s in (DAY_S, WEEK_S):
        assert first_due_s(7.0, period_s, 0.0) == 7.0 + NOT_BEFORE_S == 607.0
        assert first_due_s(7.0, period_s, 0.5) == 7.0 + (period_s + NOT_BEFORE_S) / 2
        assert first_due_s(7.0, period_s, 1.0) == 7.0 + period_s
    assert (DAY_S, WEEK_S) == (24 * 3600, 7 * 24 * 3600)


def test_old_snapshots_go_with_their_data_and_the_rest_is_checked() -> None:
    """This happens once a day and once a week, but not in a run's first minutes; what is kept is fully readable."""
    world = World()
    with hurried(world, SUPERVISOR_BACKUP_KEEP="last=2") as run:
        begun = run.wait_for("started")
        wait_for_state(run, "idle")
        for _ in range(4):
            (world.data / "much").write_bytes(os.urandom(2_000_000))
            back_up(run)
        wait_until(lambda: sum(each["count"] for each in run.all("old snapshots forgotten")) == 2, what="two fewer")
        run.wait_count(3, "old snapshots forgotten")
        checked = run.wait_for("backup repository checked", result="no errors")
        for each in (run.all("old snapshots forgotten")[0], checked):
            assert at_s(each) - at_s(begun) >= 3.0
        assert len(listed(run)["snapshots"]) == 2
        assert size_of(world) < 3 * 2_000_000
        assert back_up(run)["whole"]
        restic(world.repository, "check", "--read-data")


def test_damage_is_told_until_a_check_finds_none() -> None:
    """A snapshot that succeeds meanwhile does not hide it."""
    world = World()
    with hurried(world) as run:
        wait_for_state(run, "idle")
        (world.data / "much").write_bytes(os.urandom(2_000_000))
        back_up(run)
        run.wait_for("backup repository checked")
        pack = max(Path(world.repository, "data").rglob("*"), key=lambda path: path.stat().st_size)
        pack.rename(world.folder / "pack")
        wait_until(lambda: "the repository is damaged" in (listed(run)["why"] or ""), what="words")
        assert "does not exist" in listed(run)["why"]
        taken = len(run.all("snapshot taken"))
        call(run.run_dir, "backup")
        run.wait_count(taken + 1, "snapshot taken")
        wait_for_state(run, "idle")
        assert health_of(run)["status"] == "warn"
        (world.folder / "pack").rename(pack)
        wait_until(lambda: health_of(run)["status"] == "pass", what="a check that finds nothing")


@pytest.mark.parametrize("mode", ["keeping", "keeping_all"])
def test_a_key_that_may_not_delete(server: Bucket, mode: str) -> None:
    """Snapshots and the hand-over work; it is reported that old snapshots stay, and none of them loses its data."""
    with flaky(server.port) as way:
        world = World(server.repository.replace(str(server.port), str(way.port)))
        way.mode = mode
        with hurried(world, SUPERVISOR_BACKUP_KEEP="last=1", HOUR_S="5") as run:
            wait_for_state(run, "idle")
            for number in range(4):
                (world.data / "note").write_text(f"{number}" * 2000)
                call(run.run_dir, "backup")
                run.wait_count(number + 1, "snapshot taken")
            words = "the bucket refuses the access key"
            run.wait_for("backups: trouble", why=f"old snapshots cannot be removed: {words}")
            # It is shown although snapshots succeed.
            wait_until(lambda: words in (listed(run)["why"] or ""), what="words")
            assert "delete" in listed(run)["what_to_do"]
            assert health_of(run)["status"] == "warn"
            assert listed(run)["snapshots"][0]["whole"]
            assert run.stop() == 0
            run.wait_for("handed over", whole=True)
        way.mode = "pass"
        assert len(restic(server.repository, "snapshots", "--no-lock")) >= 5
        restic(server.repository, "check", "--read-data", "--no-lock")


def test_maintenance_puts_off_no_snapshot() -> None:
    """If the interval of snapshots is that of the maintenance, or longer, each one is taken when it is due."""
    world = World()
    with hurried(world, ANY_INTERVAL="1", SUPERVISOR_BACKUP_INTERVAL="6s") as run:
        run.wait_count(2, "snapshot taken", order="interval")
        assert run.all("old snapshots forgotten")


async def test_one_that_was_replaced_removes_nothing() -> None:
    """The lease is checked first: this instance does not know which snapshots another one needs."""
    world = World()
    with hurried(world, SUPERVISOR_BACKUP_KEEP="last=1") as run:
        wait_for_state(run, "idle")
        for _ in range(3):
            back_up(run)
        await Lease(settings(world.repository, PASSWORD)).acquire("", never, force=True)
        forgotten = len(run.all("old snapshots forgotten"))
        run.wait_for("another instance has taken over")
        assert len(run.all("old snapshots forgotten")) == forgotten


@pytest.mark.parametrize("due", ["_forget_s", "_check_s"])
async def test_what_cannot_be_begun_is_not_tried_again_at_once(due: str) -> None:
    """With a bucket that refuses connections, a task that stayed due would be tried without a pause."""

    async def look() -> None:
        raise BackupError(Trouble("connection refused"))

    work = SimpleNamespace(show=lambda **_changes: None, look_at_hold=look)
    maintenance = Maintenance(cast("Any", work), 0.0)
    setattr(maintenance, due, time.monotonic())
    with pytest.raises(BackupError):
        await maintenance.run()
    assert maintenance.due_s > time.monotonic() + 60


class Repository:
    """A repository whose snapshots the maintenance removes; the first prune fails."""

    def __init__(self, count: int) -> None:
        self.left = [SnapshotView(f"{number:064x}", generation=1, sequence=number) for number in range(count)]
        self.removed: list[int] = []
        self.prunes = 0

    async def refresh(self) -> tuple[SnapshotView, ...]:
        """Return the remaining snapshots."""
        return tuple(self.left)

    async def forget(self, ids: Sequence[str]) -> Trouble:
        """Remove these snapshots."""
        self.removed.append(len(ids))
        self.left = [each for each in self.left if each.id not in set(ids)]
        return Trouble("")

    async def prune(self) -> None:
        """Fail the first time."""
        self.prunes += 1
        if self.prunes == 1:
            raise BackupError(Trouble("the bucket was away"))


@pytest.mark.parametrize(("count", "removed"), [(6000, [5000, 999]), (3, [2])])
async def test_many_are_removed_in_parts_and_a_prune_that_failed_is_done_later(count: int, removed: list[int]) -> None:
    """A command line takes a limited number of ids; unneeded data is removed even if no snapshot has to be."""
    repository = Repository(count)
    log = SimpleNamespace(record=lambda *_words, **_fields: None)
    kept = SimpleNamespace(keep={"last": 1})

    async def nothing() -> None:
        """Find the lease unchanged."""

    work = SimpleNamespace(refresh=repository.refresh, restic=repository, settings=kept, log=log)
    work.look_at_hold = nothing
    maintenance = Maintenance(cast("Any", work), 0.0)
    with pytest.raises(BackupError):
        await maintenance._forget()
    for _ in range(2):
        await maintenance._forget()
    assert (repository.removed, repository.prunes) == (removed, 2)
