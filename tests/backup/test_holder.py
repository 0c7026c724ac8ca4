"""The object next to a repository: sealed, written conditionally, and correct if a server ignores conditions."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from supervisor.backup import holder as module
from supervisor.backup.holder import Lease, LostError
from supervisor.backup.objects import BucketStore, ConflictError, FolderStore, _region
from supervisor.backup.words import BackupError, Trouble
from supervisor.config.parsers import SecretSource
from supervisor.config.settings import BackupSettings
from supervisor.core.holding import LeaseRecord
from supervisor.runtime import loop_latency
from supervisor.secret import Secret
from tests.support.backups import KEY, KEY_ID, bucket
from tests.support.syncs import noted_syncs

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.backup.objects import Store, StoredObject
    from supervisor.core.holding import Seen
    from tests.support.backups import Bucket
    from tests.support.flaky import Flaky


def settings(repository: str, password: str = "a password") -> BackupSettings:  # noqa: S107 - made up
    """Return backup settings with this repository."""
    keys = [SecretSource(name, value=Secret(text)) for name, text in (("ID", KEY_ID), ("KEY", KEY))]
    return BackupSettings(
        repository, SecretSource("PASSWORD", value=Secret(password)), keys[0], keys[1], None, 300.0, {}, "auto"
    )


async def never(_seen: Seen, _trouble: Trouble | None) -> None:
    """Fail if an instance would have to wait."""
    pytest.fail("another one holds it")


def store_of(holder: Lease) -> Store:
    """Return the store of a holder's object."""
    return holder._store


async def test_taken_renewed_and_let_go(repository: str) -> None:
    """After a release, a second one takes over at once, and gets the first one's last record."""
    one, two = Lease(settings(repository)), Lease(settings(repository))
    assert await one.acquire("", never) is None
    assert one.conditional
    for _ in range(3):
        await one.renew(4, "its files")
    await one.renew(4, "its files", released=True, whole=True)
    before = await two.acquire("", never)
    assert before is not None
    assert (before.generation, before.files, before.released, before.whole) == (4, "its files", True, True)
    # Until it has its own generation, its record keeps that one for the next instance.
    assert two.record is not None
    assert two.record.generation == 4


async def test_what_is_written_into_a_folder_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and folder are synced, so that no other instance can take over after a power loss."""
    synced = noted_syncs(monkeypatch)
    await FolderStore(str(tmp_path / "repository")).put(b"{}", "")
    assert synced == [str(tmp_path / ".repository.holder.new"), str(tmp_path)]


class _Hanging:
    """A secret whose file can be read once ``answers`` is set; ``reads`` is the number of attempts."""

    name, path = "PASSWORD", "/away/password"

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.reads = 0

    def read(self) -> Secret:
        """Return it once the file can be read."""
        self.reads += 1
        assert self.answers.wait(20)
        return Secret("a password")


async def test_a_password_that_cannot_be_read_in_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread waits for the file, further attempts fail at once; they succeed once the file can be read."""
    monkeypatch.setattr(loop_latency, "READ_S", 0.2)
    secret = _Hanging()
    repository = str(tmp_path / "repository")
    one = Lease(settings(repository)._replace(password=cast("SecretSource", secret)))
    for _ in range(2):
        with pytest.raises(BackupError, match="cannot read PASSWORD from /away/password: it takes too long; it is tri"):
            await one.acquire("", never)
    assert secret.reads == 1
    late = one._password._file and one._password._file._late
    assert late
    secret.answers.set()
    await late
    await one.acquire("", never)
    assert one.holds


async def test_a_condition_is_kept(repository: str) -> None:
    """Both kinds of store refuse to overwrite a version other than the one that was read."""
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
    """Until then it may believe that it still holds it."""
    one, two = Lease(settings(repository)), Lease(settings(repository))
    await one.acquire("", never)
    await two.acquire("", never, force=True)
    with pytest.raises(LostError):
        await one.renew(1, "")
    await two.renew(2, "")


async def test_one_that_came_too_late_lets_nothing_go(repository: str) -> None:
    """If another one was quicker, its lease stays, even if the one that lost is stopped at that moment."""
    one, two = Lease(settings(repository)), Lease(settings(repository))
    found = await store_of(two).get()
    await one.acquire("", never)
    assert not await two._take(found, None, "")
    # Nor is the server taken for one that ignores conditions, which would be waited for and written to again.
    assert two.conditional
    assert not await two.release(0, "", whole=False)
    await one.renew(1, "")
    seen = await one._read(await store_of(one).get())
    assert isinstance(seen, LeaseRecord)
    assert (seen.instance, seen.released) == (one.instance, False)


async def test_an_object_that_was_deleted_is_written_anew(tmp_path: Path) -> None:
    """No other instance holds it then."""
    one = Lease(settings(str(tmp_path / "repository")))
    await one.acquire("", never)
    (tmp_path / "repository.holder").unlink()
    await one.renew(1, "")
    assert (tmp_path / "repository.holder").exists()


async def test_what_was_not_sealed_with_this_password_is_nobodys_to_take(tmp_path: Path) -> None:
    """A changed byte, another password, a later version: each time the start is held until the owner decides."""
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
        """Write the object unconditionally."""
        del tag
        return await super().put(data, (await self.get()).tag)


async def test_a_store_that_ignores_conditions_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is read back after being acquired and before each renewal: one whose name is not in it has lost."""
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


async def test_one_that_was_overwritten_while_it_settled_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both writes were reported as successful; the instance whose name is in the object afterwards has the lease."""
    monkeypatch.setattr(module, "SETTLE_S", 0.01)
    repository = str(tmp_path / "repository")
    one, two = Lease(settings(repository)), Lease(settings(repository))
    two._store = Careless(repository)

    class Overtaken(Careless):
        puts = 0

        async def put(self, data: bytes, tag: str) -> str:
            tag = await super().put(data, tag)
            self.puts += 1
            if self.puts == 2:  # the last one before it settles
                await two._write(LeaseRecord(two.instance))
            return tag

    one._store = Overtaken(repository)
    assert not await one._take(await one._store.get(), None, "")
    assert not one.conditional
    assert not one.holds


class Gated(FolderStore):
    """A store without threads; if ``shut`` is set, the next write is under way until the gate opens."""

    def __init__(self, repository: str) -> None:
        super().__init__(repository)
        self.gate = anyio.Event()
        self.shut = False
        self.on_its_way = anyio.Event()

    async def get(self) -> StoredObject:
        """Read the object without a thread."""
        return self._get()

    async def put(self, data: bytes, tag: str) -> str:
        """Write the object without a thread."""
        if self.shut:
            self.shut = False
            self.on_its_way.set()
            await self.gate.wait()
        return self._put(data, tag)


async def test_a_renewal_on_its_way_does_not_undo_a_release(tmp_path: Path) -> None:
    """Writes are made in order; otherwise the next instance would wait for one that has exited."""
    repository = str(tmp_path / "repository")
    one = Lease(settings(repository))
    store = one._store = Gated(repository)
    await one.acquire("", never)
    store.shut = True
    async with anyio.create_task_group() as group:
        group.start_soon(one.renew, 1, "")
        await store.on_its_way.wait()
        group.start_soon(partial(one.release, 1, "", whole=True))
        await anyio.wait_all_tasks_blocked()
        store.gate.set()
    seen = await one._read(await store.get())
    assert isinstance(seen, LeaseRecord)
    assert (seen.released, seen.whole) == (True, True)


async def test_one_that_is_ended_while_it_takes_over_lets_go_what_it_took(tmp_path: Path) -> None:
    """The write under way is waited for: it may succeed although nobody receives its response."""
    repository = str(tmp_path / "repository")
    one, two = Lease(settings(repository)), Lease(settings(repository))
    store = one._store = Gated(repository)
    store.shut = True
    async with anyio.create_task_group() as group:
        group.start_soon(partial(one.acquire, "", never))
        await store.on_its_way.wait()
        group.cancel_scope.cancel()
        store.gate.set()
    assert await one.release(0, "", whole=False)
    await two.acquire("", never)


class Lossy(FolderStore):
    """A store whose next response is lost although the write succeeds."""

    loses = True

    async def put(self, data: bytes, tag: str) -> str:
        """Write the object, and lose the response once."""
        tag = await super().put(data, tag)
        if self.loses:
            self.loses = False
            raise BackupError(Trouble("no answer"))
        return tag


async def test_one_s_own_word_is_nobody_else_s(tmp_path: Path) -> None:
    """If the response to its write is lost, that is reported; the next try finds its own record, and does not wait."""
    one = Lease(settings(str(tmp_path / "repository")))
    one._store = Lossy(str(tmp_path / "repository"))
    with pytest.raises(BackupError, match="no answer"):
        await one.acquire("", never)
    await one.acquire("", never)
    assert one.holds


async def test_an_end_in_standby_asks_the_store_nothing(tmp_path: Path) -> None:
    """It has written nothing, so there is nothing to release or to wait for."""

    class Away(FolderStore):
        async def get(self) -> StoredObject:
            raise BackupError(Trouble("away"))

    one = Lease(settings(str(tmp_path / "repository")))
    one._store = Away(str(tmp_path / "repository"))
    assert not await one.release(0, "", whole=False)


async def test_what_was_let_go_stays_let_go(repository: str) -> None:
    """A renewal that was still under way does not undo a release."""
    one, two = Lease(settings(repository)), Lease(settings(repository))
    await one.acquire("", never)
    await one.renew(3, "its files", released=True, whole=True)
    await one.renew(3, "its files")
    before = await two.acquire("", never)
    assert before is not None
    assert before.released


async def test_a_later_version_is_told_as_such(tmp_path: Path) -> None:
    """It is distinguished from a damaged one, which its holder would overwrite."""
    repository = str(tmp_path / "repository")
    await Lease(settings(repository)).acquire("", never)
    path = tmp_path / "repository.holder"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
    with pytest.raises(BackupError, match="of a version that is not known here"):
        await Lease(settings(repository)).acquire("", never)


async def test_generations_never_go_back(tmp_path: Path) -> None:
    """Until a start is decided, the values taken over from the previous holder stay in the object."""
    one = Lease(settings(str(tmp_path / "repository")))
    await one.acquire("", never)
    await one.renew(7, "files")
    await one.renew(0, "")
    assert one.record is not None
    assert (one.record.generation, one.record.files) == (7, "files")


def test_the_region_is_read_off_the_host() -> None:
    """Signatures contain it; servers outside a cloud accept any."""
    assert _region("nyc3.digitaloceanspaces.com") == "nyc3"
    assert _region("s3.eu-central-1.amazonaws.com") == "eu-central-1"
    assert _region("s3.amazonaws.com") == "us-east-1"
    assert _region("127.0.0.1") == "us-east-1"


async def test_wrong_keys_are_told_as_such(tmp_path: Path) -> None:
    """The error is distinguished from a missing object."""
    with bucket(tmp_path / "s3") as server:
        wrong = SecretSource("KEY", value=Secret("another secret"))
        store = BucketStore(server.repository, SecretSource("ID", value=Secret(KEY_ID)), wrong)
        with pytest.raises(BackupError, match="secret access key is wrong"):
            await store.get()
        # A failed write is not taken for a successful one.
        with pytest.raises(BackupError, match="secret access key is wrong"):
            await store.put(b"1", "")


async def test_a_bucket_that_is_not_there_is_told_as_such(server: Bucket) -> None:
    """The error is distinguished from a missing object, and from a write by another instance."""
    store = store_of(Lease(settings(server.repository.replace("/bucket/", "/another/"))))
    with pytest.raises(BackupError, match="bucket"):
        await store.get()
    for tag in ("", '"tag"'):
        with pytest.raises(BackupError, match="bucket"):
            await store.put(b"1", tag)


async def test_a_write_over_what_is_gone_is_refused(repository: str) -> None:
    """It is not the version that the writer has read."""
    with pytest.raises(ConflictError):
        await store_of(Lease(settings(repository))).put(b"1", '"tag"')


async def test_a_write_beside_another_one_is_refused(way: Flaky) -> None:
    """Servers that cannot decide yet which of two writes wins answer 409."""
    way.mode = "busy"
    with pytest.raises(ConflictError):
        await store_of(Lease(settings(f"s3:http://127.0.0.1:{way.port}/bucket/snapshots"))).put(b"1", "")


class Undecided(FolderStore):
    """A store that refuses the next ``refusals`` writes as if another one were under way, as S3 does with 409."""

    refusals = 0

    async def put(self, data: bytes, tag: str) -> str:
        """Refuse the write, or make it."""
        if self.refusals:
            self.refusals -= 1
            raise ConflictError
        return await super().put(data, tag)


async def test_a_refused_write_is_no_other_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody else has written, it is retried; a lasting refusal is reported, but the lease is not lost."""
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    one = Lease(settings(str(tmp_path / "repository")))
    store = one._store = Undecided(str(tmp_path / "repository"))
    await one.acquire("", never)
    store.refusals = 3
    await one.renew(1, "")
    store.refusals = 100
    with pytest.raises(BackupError, match="as if another instance had written it") as told:
        await one.renew(1, "")
    assert told.value.trouble.may_pass
    store.refusals = 1
    await one.renew(1, "")
    assert one.reachable


def test_of_writes_at_once_into_a_folder_one_stands(tmp_path: Path) -> None:
    """The check and the write are one atomic step for all processes of a machine."""
    count = 8
    together = threading.Barrier(count)

    def wins(number: int) -> bool:
        store = FolderStore(str(tmp_path / "repository"))
        together.wait()
        try:
            store._put(str(number).encode(), "")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(count) as pool:
        for _ in range(10):
            assert list(pool.map(wins, range(count))).count(True) == 1
            (tmp_path / "repository.holder").unlink()


class Overtaking(FolderStore):
    """A store in which another instance writes between each read and the write that follows."""

    async def get(self) -> StoredObject:
        """Read the object, which another instance then writes."""
        found = await super().get()
        await super().put(b"of another one", found.tag)
        return found


class Forgetful(FolderStore):
    """A store that accepts every write, and stores none."""

    async def put(self, data: bytes, tag: str) -> str:
        """Report success."""
        del data, tag
        return "tag"


async def test_a_rehearsal_writes_and_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several that rehearse at once are all ready; none is if the store does not keep what is written."""
    monkeypatch.setattr(module, "_store", lambda given, name: Overtaking(given.repository, name))
    await Lease(settings(str(tmp_path / "repository"))).probe()
    monkeypatch.setattr(module, "_store", lambda given, name: Forgetful(f"{given.repository}2", name))
    with pytest.raises(BackupError, match="cannot be read back"):
        await Lease(settings(str(tmp_path / "repository"))).probe()


async def test_of_two_wishes_at_once_one_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one gets an error: otherwise it would believe that its note is stored."""
    monkeypatch.setattr(module, "_store", lambda given, name: Overtaking(given.repository, name))
    one = Lease(settings(str(tmp_path / "repository")))
    with pytest.raises(BackupError, match="another instance restores a snapshot too"):
        await one.note_restored("a wish")


async def test_an_object_that_is_not_there_is_nobodys(repository: str) -> None:
    """The first instance gets neither data nor a tag."""
    found: StoredObject = await store_of(Lease(settings(repository))).get()
    assert (found.data, found.tag) == (None, "")
