"""A repository in a folder on a file system without locks: it is used as a bucket without conditional writes is."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from supervisor.backup import holder
from supervisor.backup.holder import Lease, LostError
from supervisor.backup.objects import FolderStore
from supervisor.backup.words import BackupError
from tests.backup.test_holder import never, settings
from tests.backup.world import World, back_up, listed, wait_for_state
from tests.support.refusing import refusing

if TYPE_CHECKING:
    from pathlib import Path


def _refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
async def test_the_object_is_read_back_after_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One whose name is not in it has lost, also before it renews."""
    monkeypatch.setattr(holder, "SETTLE_S", 0.01)
    _refuse(monkeypatch, number)
    one, two = (Lease(settings(str(tmp_path / "repository"))) for _ in range(2))
    await one.acquire("", never)
    assert not one.conditional
    await one.probe()
    await one.note_restored("12345678")
    assert await one.was_restored("12345678")
    await one.renew(1, "")
    await two.acquire("", never, force=True)
    with pytest.raises(LostError):
        await one.renew(1, "")


async def test_a_lock_that_fails_for_another_reason_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the file system has locks, and nothing is written without one."""
    _refuse(monkeypatch, errno.EIO)
    store = FolderStore(str(tmp_path / "repository"))
    with pytest.raises(BackupError, match="Input/output error"):
        await store.put(b"1", "")
    assert store.knows_conditions
    assert not (tmp_path / "repository.holder").exists()


async def test_locks_that_are_missing_for_a_moment_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server had them before, and another instance may hold one: nothing is written without."""
    store = FolderStore(str(tmp_path / "repository"))
    tag = await store.put(b"1", "")
    with monkeypatch.context() as patch:
        _refuse(patch, errno.ENOLCK)
        with pytest.raises(BackupError, match="No locks available"):
            await store.put(b"2", tag)
    assert store.knows_conditions
    await store.put(b"3", tag)


def test_a_start_is_not_held_by_missing_locks() -> None:
    """Before, nothing was started; it is logged once, and the next run finds the object as usual."""
    world = World(prefix=refusing("flock=ENOLCK"))
    for _ in range(2):
        with world.running() as run:
            wait_for_state(run, "idle")
            (world.data / "note").write_text("kept")
            assert back_up(run)["whole"]
            assert len(run.all("the repository's folder has no locks")) == 1
            assert not run.find("the bucket heeds no conditions")
            assert run.stop() == 0
            assert run.find("handed over")
    world.prefix = ()
    with world.running() as run:
        wait_for_state(run, "idle")
        assert len(listed(run)["snapshots"]) >= 2
        assert not run.find("the repository's folder has no locks")
