"""Disks may be slow: what backups do on one is never done on the loop's thread, which serves health and signals."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from supervisor.backup import threads
from supervisor.backup.beginning import Beginning
from supervisor.backup.by_hand import _replace
from supervisor.backup.listener import Answer
from supervisor.backup.marker import Kept
from supervisor.backup.messages import Message
from supervisor.backup.places import Places, Swap
from supervisor.backup.take import Taker
from supervisor.backup.words import BackupError
from supervisor.config.plan import BackupPlan, BackupSource
from supervisor.core.backup import BackupState, BackupView, SnapshotView
from supervisor.core.process import ExitStatus
from tests.backup.test_beginning import no_order

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.backup.work import Work


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    """A plan with one folder, whose files are this user's."""
    (tmp_path / "data").mkdir()
    source = BackupSource("data", str(tmp_path / "data"), None)
    return BackupPlan(program="restic", folder=str(tmp_path / "work"), sources=(source,), identity=None, holds=True)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether a file or folder was opened on the loop's thread, by its path."""
    found: dict[str, bool] = {}
    really = os.open

    def note(path: str, *words: Any, **more: Any) -> int:
        is_main = threading.current_thread() is threading.main_thread()
        found[os.path.basename(path)] = is_main or found.get(os.path.basename(path), False)
        return really(path, *words, **more)

    monkeypatch.setattr(os, "open", note)
    return found


def ignore(*_: object, **__: object) -> None:
    """Take no note."""


async def place() -> None:
    """Put nothing in its place."""


def work_on(plan: BackupPlan) -> Work:
    """Return the work on these folders, with a restore of nothing."""
    engine = SimpleNamespace(children={}, hold=ignore, release=ignore, all_down=lambda _names: True)
    engine.store = SimpleNamespace(watch=lambda _look: ignore, snapshot=None)
    work = SimpleNamespace(plan=plan, sources=plan.sources, places=Places(plan, pytest.fail), engine=engine, app="app")
    work.kept, work.last_generation, work.show = Kept("repository", 1), 1, ignore
    work.log, work.view = SimpleNamespace(record=ignore), BackupView(BackupState.IDLE)

    async def snapshot(_reason: str) -> None:
        """Take none."""

    work.snapshot = snapshot
    return cast("Work", work)


async def test_a_restore_by_hand(plan: BackupPlan, opened: dict[str, bool]) -> None:
    """It writes and removes its record, and writes the folders' marker."""
    work = work_on(plan)
    await work.places.make()
    await _replace(work, cast("Any", SimpleNamespace(id="1" * 64, place=place)))
    assert {name for name, is_main in opened.items() if is_main} == set()
    assert {"swapping", ".swapping.new", "..moltis-supervisor.json.new"} <= set(opened)


async def test_a_restore_by_hand_whose_record_cannot_be_looked_for(
    plan: BackupPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was replaced yet: it fails, and the app is started again."""
    monkeypatch.setattr(threads, "LOOK_S", 0.1)
    work = work_on(plan)
    await work.places.make()
    released: list[bool] = []
    monkeypatch.setattr(work.engine, "release", lambda: released.append(True))
    # To open it waits for a writer, as a file on a disk that hangs does for the disk.
    record = os.path.join(plan.folder, "swapping")
    os.mkfifo(record)
    try:
        with pytest.raises(BackupError, match="a disk has not answered"):
            await _replace(work, cast("Any", SimpleNamespace(id="1" * 64, place=place)))
    finally:
        os.close(os.open(record, os.O_WRONLY | os.O_NONBLOCK))
    assert released == [True]


async def test_a_start(plan: BackupPlan, opened: dict[str, bool]) -> None:
    """It removes the record of a restore that was over, and writes and removes a marker."""
    work = work_on(plan)
    await work.places.make()
    start = Beginning(work, no_order, ignore)
    start._repository = "repository"
    work.kept = Kept("repository", 1, swap="mark")
    await start._write()
    work.places._write(Swap("1" * 64, whole=False, generation=1, mark="mark"))
    opened.clear()
    assert await start._halfway() is None
    await start._unmark()
    assert {name for name, is_main in opened.items() if is_main} == set()
    assert {"swapping", ".moltis-supervisor.json", "work", "data"} <= set(opened)
    assert os.listdir(plan.sources[0].path) == []


async def test_a_snapshot(plan: BackupPlan, opened: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes its manifest, and opens the folders for restic, which are closed at its end."""

    async def back_up(_words: list[str], fds: tuple[int, ...]) -> Answer:
        assert [os.readlink(f"/proc/self/fd/{fd}") for fd in fds] == [plan.sources[0].path]
        return Answer(ExitStatus(0), (), Message(snapshot_id="1" * 64), (), "")

    async def copy(_sources: list[BackupSource]) -> tuple[list[str], list[str]]:
        return [], []

    whole = SimpleNamespace(backup=plan, processes=(), settings=SimpleNamespace(app=SimpleNamespace(name="app")))
    restic = SimpleNamespace(back_up=back_up)
    taker = Taker(cast("Any", whole), cast("Any", None), cast("Any", restic), Places(plan, pytest.fail), {})
    monkeypatch.setattr(taker, "_copy_databases", copy)
    before = os.listdir("/proc/self/fd")
    taken = await taker.take(SnapshotView("", generation=1, sequence=1), [])
    assert (taken.view.id, taken.missing) == ("1" * 64, "")
    assert {name for name, is_main in opened.items() if is_main} == set()
    assert {"snapshot", ".manifest.json.new", "data"} <= set(opened)
    assert os.listdir("/proc/self/fd") == before
