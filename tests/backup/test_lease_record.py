"""What the object beside a repository contains: sealed, carried over, and read by earlier supervisors."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING

import pytest

from supervisor.backup import holder as module
from supervisor.backup.holder import Lease
from supervisor.backup.words import BackupError
from supervisor.core.backup import SOME_SNAPSHOT
from tests.backup.test_holder import never, settings

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_the_last_holder_left_is_carried_over_until_there_is_more(repository: str) -> None:
    """One that takes over, and ends before it has decided or taken a snapshot, leaves it to the next one."""
    one = Lease(settings(repository))
    await one.acquire("its files", never)
    await one.renew(4, "its files", (4, 7))
    await one.renew(4, "its files", (4, 7), released=True, whole=True)
    for _ in range(2):
        undecided = Lease(settings(repository))
        before = await undecided.acquire("other files", never)
        assert before is not None
        assert (before.generation, before.owner, before.last) == (4, "its files", (4, 7))
        await undecided.renew(0, "")
        assert await undecided.release(0, "", whole=False)
    last = Lease(settings(repository))
    before = await last.acquire("", never)
    assert before is not None
    assert (before.files, before.owner, before.last, before.whole) == ("other files", "its files", (4, 7), False)
    await last.renew(5, "new files", (4, 7))
    assert last.record is not None
    assert last.record[-2:] == ("new files", (4, 7))


EARLIER = ("version", "instance", "generation", "counter", "files", "released", "whole", "mac")


@pytest.mark.parametrize(("whole", "last"), [(True, SOME_SNAPSHOT), (False, None)])
async def test_an_earlier_supervisor_reads_it_and_is_read(
    tmp_path: Path, *, whole: bool, last: tuple[int, int] | None
) -> None:
    """Its seal is on the fields that it knows; after a hand-over it is known that there is some snapshot."""
    repository, path = str(tmp_path / "repository"), tmp_path / "repository.holder"
    one = Lease(settings(repository))
    await one.acquire("", never)
    await one.renew(4, "its files", (4, 7), released=True, whole=whole)
    told = json.loads(path.read_text())
    key = module._derive("a password")
    sealed = json.dumps([told[name] for name in EARLIER[:-1]], separators=(",", ":")).encode()
    assert told["mac"] == hmac.new(key, sealed, hashlib.sha256).hexdigest()
    path.write_text(json.dumps({name: told[name] for name in EARLIER}))
    before = await Lease(settings(repository)).acquire("", never)
    assert before is not None
    assert (before.generation, before.owner, before.last) == (4, "its files", last)


@pytest.mark.parametrize(
    "changed",
    [
        {"instance": "x"},
        {"generation": 9},
        {"counter": 9},
        {"files": "x"},
        {"released": True},
        {"whole": True},
        {"owner": "x"},
        {"last": [9, 9]},
    ],
)
async def test_the_seal_is_on_all_of_it(tmp_path: Path, changed: dict[str, object]) -> None:
    """A writer to the bucket who lacks the password cannot release another instance's lease."""
    repository = str(tmp_path / "repository")
    await Lease(settings(repository)).acquire("", never)
    path = tmp_path / "repository.holder"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(BackupError, match="not written with this password"):
        await Lease(settings(repository)).acquire("", never)


async def test_each_snapshot_that_was_asked_for_is_noted_once(repository: str) -> None:
    """A platform's rollback may name an earlier one again; the list does not outgrow what is read of an object."""
    one = Lease(settings(repository))
    for wish in ("a" * 64, "b" * 8, "a" * 64):
        await one.note_restored(wish)
    assert await one.was_restored("a" * 64)
    assert await one.was_restored("b" * 8)
    assert not await one.was_restored("a" * 8)
    for number in range(50):
        await one.note_restored(f"{number:064}")
    assert await Lease(settings(repository)).was_restored(f"{0:064}")
    assert not await one.was_restored("b" * 8)


async def test_a_note_of_an_earlier_supervisor_is_read(tmp_path: Path) -> None:
    """It has one id only."""
    (tmp_path / "repository.restored").write_text("12345678")
    one = Lease(settings(str(tmp_path / "repository")))
    assert await one.was_restored("12345678")
    await one.note_restored("87654321")
    assert await one.was_restored("12345678")
