"""The object beside a repository: sealed, written on conditions, and right where a server ignores them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from supervisor.backup import holder as module
from supervisor.backup.holder import Lease, LostError
from supervisor.backup.objects import BucketStore, ConflictError, FolderStore, _region
from supervisor.backup.words import BackupError
from supervisor.config.parsers import SecretSource
from supervisor.config.settings import BackupSettings
from supervisor.secret import Secret
from tests.support.backups import KEY, KEY_ID, bucket

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.backup.objects import Store, StoredObject
    from supervisor.backup.words import Trouble
    from supervisor.core.holding import Seen


def settings(repository: str, password: str = "a password") -> BackupSettings:  # noqa: S107 - made up
    """Return settings of a repository."""
    keys = [SecretSource(name, value=Secret(text)) for name, text in (("ID", KEY_ID), ("KEY", KEY))]
    return BackupSettings(
        repository, SecretSource("PASSWORD", value=Secret(password)), keys[0], keys[1], None, 300.0, {}, "auto"
    )


async def never(_seen: Seen, _trouble: Trouble | None) -> None:
    """Fail where somebody would have to wait."""
    pytest.fail("another one holds it")


def store_of(holder: Lease) -> Store:
    """Return where a holder's object lies."""
    return holder._store


async def test_taken_renewed_and_let_go(repository: str) -> None:
    """A second one takes over at once when it was let go, and finds what the first one said last."""
    one, two = Lease(settings(repository)), Lease(settings(repository))
    assert await one.acquire("", never) is None
    assert one.conditional
    for _ in range(3):
        await one.renew(4, "its files")
    await one.renew(4, "its files", released=True, whole=True)
    before = await two.acquire("", never)
    assert before is not None
    assert (before.generation, before.files, before.released, before.whole) == (4, "its files", True, True)


async def test_what_is_written_into_a_folder_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power loss it is not another instance's turn: file and folder are synced."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    await FolderStore(str(tmp_path / "repository")).put(b"{}", "")
    assert synced == [str(tmp_path / ".repository.holder.new"), str(tmp_path)]


async def test_a_condition_is_kept(repository: str) -> None:
    """Whoever writes over another version than it has read is refused, by both kinds of store."""
    store = store_of(Lease(settings(repository)))
    tag = await store.put(b"1", "")
    with pytest.raises(ConflictError):
        await store.put(b"2", "")
    newer = await store.put(b"3", tag)
    with pytest.raises(ConflictError):
        await store.put(b"4", tag)
    assert (await store.get()).data == b"3"
    assert (await store.get()).tag == newer


async def test_a_replaced_holder_notices_at_its_next_renewal(repository: str) -> None:
    """Whatever it believed."""
    one, two = Lease(settings(repository)), Lease(settings(repository))
    await one.acquire("", never)
    await two.acquire("", never, force=True)
    with pytest.raises(LostError):
        await one.renew(1, "")
    await two.renew(2, "")


async def test_an_object_that_was_deleted_is_written_anew(tmp_path: Path) -> None:
    """Nobody else has it then."""
    one = Lease(settings(str(tmp_path / "repository")))
    await one.acquire("", never)
    (tmp_path / "repository.holder").unlink()
    await one.renew(1, "")
    assert (tmp_path / "repository.holder").exists()


async def test_what_was_not_sealed_with_this_password_is_nobodys_to_take(tmp_path: Path) -> None:
    """A changed byte, another password, a later version: each is held, until a person says otherwise."""
    path = tmp_path / "repository.holder"
    repository = str(tmp_path / "repository")
    await Lease(settings(repository, "another")).acquire("", never)
    forged = [path.read_text(), "rubbish", json.dumps({"version": 1}), json.dumps({"version": 2})]
    for text in forged:
        path.write_text(text)
        with pytest.raises(BackupError):
            await Lease(settings(repository)).acquire("", never)
    await Lease(settings(repository)).acquire("", never, force=True)


class Careless(FolderStore):
    """A store that ignores conditions, as some servers do."""

    async def put(self, data: bytes, tag: str) -> str:
        """Write it, whatever is there."""
        del tag
        return await super().put(data, (await self.get()).tag)


async def test_a_store_that_ignores_conditions_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is read back after taking hold, and before each renewal: the one whose name is not in it has lost."""
    monkeypatch.setattr(module, "SETTLE_S", 0.01)
    repository = str(tmp_path / "repository")
    one, two = Lease(settings(repository)), Lease(settings(repository))
    for each in (one, two):
        each._store = Careless(repository)
    await one.acquire("", never)
    assert not one.conditional
    await one.renew(1, "")
    await two.acquire("", never, force=True)
    with pytest.raises(LostError):
        await one.renew(1, "")


async def test_what_was_let_go_stays_let_go(repository: str) -> None:
    """A renewal that was still on its way takes nothing back."""
    one, two = Lease(settings(repository)), Lease(settings(repository))
    await one.acquire("", never)
    await one.renew(3, "its files", released=True, whole=True)
    await one.renew(3, "its files")
    before = await two.acquire("", never)
    assert before is not None
    assert before.released


async def test_a_later_version_is_told_as_such(tmp_path: Path) -> None:
    """Not as a damaged one, which its holder would write over."""
    repository = str(tmp_path / "repository")
    await Lease(settings(repository)).acquire("", never)
    path = tmp_path / "repository.holder"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
    with pytest.raises(BackupError, match="of a version that is not known here"):
        await Lease(settings(repository)).acquire("", never)


async def test_generations_never_go_back(tmp_path: Path) -> None:
    """Before it is decided what a start does, what was taken over stays in the object."""
    one = Lease(settings(str(tmp_path / "repository")))
    await one.acquire("", never)
    await one.renew(7, "files")
    await one.renew(0, "")
    assert one.record is not None
    assert (one.record.generation, one.record.files) == (7, "files")


def test_the_region_is_read_off_the_host() -> None:
    """Signatures name it; stores that are no cloud's take any."""
    assert _region("nyc3.digitaloceanspaces.com") == "nyc3"
    assert _region("s3.eu-central-1.amazonaws.com") == "eu-central-1"
    assert _region("s3.amazonaws.com") == "us-east-1"
    assert _region("127.0.0.1") == "us-east-1"


async def test_wrong_keys_are_told_as_such(tmp_path: Path) -> None:
    """Not as an object that is not there."""
    with bucket(tmp_path / "s3") as server:
        wrong = SecretSource("KEY", value=Secret("another secret"))
        store = BucketStore(server.repository, SecretSource("ID", value=Secret(KEY_ID)), wrong)
        with pytest.raises(BackupError, match="secret access key is wrong"):
            await store.get()


async def test_an_object_that_is_not_there_is_nobodys(repository: str) -> None:
    """The first one finds nothing."""
    found: StoredObject = await store_of(Lease(settings(repository))).get()
    assert (found.data, found.tag) == (None, "")
