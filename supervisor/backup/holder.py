"""Acquires, renews and releases the lease on a repository."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from typing import TYPE_CHECKING

import anyio
import msgspec

from supervisor.backup.objects import HOLDER, PROBE, WISH, BucketStore, ConflictError, FolderStore
from supervisor.backup.threads import SecretReader, in_thread
from supervisor.backup.words import BackupError, ChoiceNeededError, Trouble
from supervisor.core.backup import SOME_SNAPSHOT, Head
from supervisor.core.holding import (
    RENEW_S,
    VERSION,
    Claim,
    Flaw,
    LeaseRecord,
    LeaseWatch,
    Standing,
    Unreadable,
    observe,
    stand,
)
from supervisor.json_input import decode_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor.backup.objects import Store, StoredObject
    from supervisor.config.settings import BackupSettings
    from supervisor.core.holding import Seen

    # Of a snapshot: its generation, and its number in it.
    Order = tuple[int, int]

    # Gets the last content seen, and the error that currently prevents reading it.
    Wait = Callable[[Seen, Trouble | None], Awaitable[None]]

# In a store without conditional writes, a write is read back after this time.
SETTLE_S = 5.0
# How often a waiting instance looks: people wait for a hand-over, but not for a second instance started by mistake.
EAGER_S, LOOK_S = 1.0, 5.0
PATIENT_AFTER_S = 600.0
# As slow as the repository's own key derivation, so that the object does not make guessing the password easier.
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
_UNREADABLE = (
    "check the password; if it has been changed, make sure that no other instance runs, and delete the holder's object"
)
# Only of one that is silent: two that both write would part the data.
_TAKEN_BY_CHOICE = "a choice of yours (`backup`, or `backup restore ID`) takes it over as it is"
_MOVES = "end the other instance, or run both with the same password and version; it is looked at again"
_SALT = b"moltis-supervisor holder"
# How often a write is tried that is refused though nobody else has written, and the wait before the next one.
_TRIES = 4
_AGAIN_S = 0.25
_REFUSED = Trouble(
    "the repository's server refuses to replace the holder's object, as if another instance had written it",
    "it is tried again; a proxy in front of the bucket must pass ETag and If-Match on as they are",
)
# Of a snapshot's id each, in an object of 4 KiB at most.
_MOST_WISHES = 50
# Number of the record's fields that earlier supervisors know: they seal and check these alone.
_FIRST = 6
_WRONG_TAG = '"00000000000000000000000000000000"'


class _Sealed(msgspec.Struct):
    version: int = 0
    instance: str = ""
    generation: int = 0
    counter: int = 0
    files: str = ""
    released: bool = False
    whole: bool = False
    mac: str = ""
    owner: str = ""
    last: tuple[int, int] | None = None
    seal: str = ""


class LostError(Exception):
    """Another instance holds it now."""


class Lease:
    """One instance's lease on the repository.

    ``conditional`` is true if the store supports conditional writes, and None if that could not be found out.
    ``record`` is the content last written, also if no response confirmed it. ``held_until_s`` is when another instance
    last renewed its own.
    """

    def __init__(self, settings: BackupSettings) -> None:
        self.instance = os.urandom(16).hex()
        self.conditional: bool | None = True
        self.record: LeaseRecord | None = None
        self.reachable = True
        self.held_until_s: float | None = None
        self._store = _store(settings, HOLDER)
        self._probe = _store(settings, PROBE)
        self._wish = _store(settings, WISH)
        self._password = SecretReader(settings.password)
        self._tag = ""
        # By password, the current one last.
        self._keys: dict[str, bytes] = {}
        self._taken = anyio.Event()
        # What the last attempt to acquire it overwrote.
        self._before: LeaseRecord | None = None
        self._rival: Unreadable | None = None
        self._unread = LeaseWatch()
        self._one = anyio.Lock()

    @property
    def holds(self) -> bool:
        """Whether it was acquired."""
        return self._taken.is_set()

    async def acquire(self, files: str, wait: Wait, *, fresh: bool = True, force: bool = False) -> LeaseRecord | None:
        """Acquire the lease; call ``wait`` while another instance has it. Return the previous holder's last record.

        ``force`` acquires it in any case, as the owner has chosen; ``fresh``: the repository has no snapshots.

        Raises BackupError if the object's content is not understood, and if it cannot be read or written at the
        first try; later failures are retried.
        """
        watch, seen, begin_s, waits = LeaseWatch(), None, time.monotonic(), False
        while True:
            trouble = None
            try:
                found = await self._store.get()
                seen = await self._read(found)
                if not self._wrote(seen):
                    self.held_until_s = found.written_s
                watch, verdict = observe(watch, seen, files, time.monotonic(), fresh=fresh)
                if (force or verdict is Claim.TAKE or self._wrote(seen)) and await self._take(found, seen, files):
                    self._taken.set()
                    return self._before
            except BackupError as error:
                if not waits:
                    raise
                trouble = error.trouble
            else:
                if isinstance(seen, Unreadable) and not force:
                    raise ChoiceNeededError(self._explain(seen), may_pass=True)
            waits = True
            await wait(seen, trouble)
            await anyio.sleep(EAGER_S if time.monotonic() - begin_s < PATIENT_AFTER_S else LOOK_S)

    def _explain(self, seen: Unreadable) -> Trouble:
        """Return why the owner has to choose, with the remedy for what is known of the object's writer."""
        self._unread, _ = observe(self._unread, seen, "", time.monotonic())
        why = f"cannot tell who holds the repository: {seen.flaw.value}"
        if self._unread.moves:
            return Trouble(f"{why}, and another instance keeps writing it", _MOVES)
        return Trouble(why, f"{_UNREADABLE}; {_TAKEN_BY_CHOICE}" if self._unread.is_silent else _UNREADABLE)

    def _wrote(self, seen: Seen) -> bool:
        """Return whether the record is this instance's own: a write whose response was lost."""
        return isinstance(seen, LeaseRecord) and seen.instance == self.instance

    async def probe(self) -> None:
        """Write a probe object beside it and read it back. Raises BackupError if that fails, as a take-over would."""
        try:
            await self._probe.put(self.instance.encode(), (await self._probe.get()).tag)
        except ConflictError:
            # Another waiting instance has just written it.
            return
        if (await self._probe.get()).data is None:
            raise BackupError(Trouble("an object that was written cannot be read back", "check the bucket"))

    async def was_restored(self, wish: str) -> bool:
        """Return whether this wish was noted by ``note_restored``. Raises BackupError."""
        return wish in _lines((await self._wish.get()).data)

    async def note_restored(self, wish: str) -> None:
        """Note beside the object that the wish for a snapshot was carried out: the note outlives the files here.

        Earlier ones stay noted, as an older specification may name one of them again. Raises BackupError.
        """
        try:
            found = await self._wish.get()
            noted = [*(line for line in _lines(found.data) if line != wish), wish]
            await self._wish.put("\n".join(noted[-_MOST_WISHES:]).encode(), found.tag)
        except ConflictError as error:
            raise BackupError(Trouble("another instance restores a snapshot too", "end one of the two")) from error

    async def _take(self, found: StoredObject, seen: Seen, files: str) -> bool:
        self._tag = found.tag
        if not self._wrote(seen):
            self._before = seen if isinstance(seen, LeaseRecord) else None
            before = self._before or LeaseRecord("")
            counter = max(before.counter, self.record.counter if self.record is not None else 0) + 1
            record = before._replace(instance=self.instance, counter=counter, files=files, released=False, whole=False)
            try:
                # One that is ending waits for it, to know whether there is something to release.
                with anyio.CancelScope(shield=True):
                    await self._write(record)
            except ConflictError:
                return False
        self.conditional = await self._has_conditions()
        if self.conditional:
            return True
        # Of two simultaneous writes the last one stays, and the other instance notices.
        await anyio.sleep(SETTLE_S)
        try:
            return not isinstance(await self._look(), Unreadable)
        except LostError:
            return False

    async def _has_conditions(self) -> bool | None:
        """Return whether the store supports conditions: if so, it refuses to replace a version that never existed.

        Return None if there is no response.
        """
        if self.record is None or not self._store.knows_conditions:
            return False
        try:
            self._tag = await self._store.put(await self._seal(self.record), _WRONG_TAG)
        except ConflictError:
            return True
        except BackupError:
            return None
        return False

    async def _look(self) -> Seen:
        """Return what is in the object, to be overwritten if it is not this instance's. Raises LostError."""
        found = await self._store.get()
        seen = await self._read(found)
        standing = stand(seen, self.instance, self._rival)
        if standing is Standing.LOST:
            raise LostError
        if standing is Standing.RIVAL and isinstance(seen, Unreadable):
            self._rival = seen
        self._tag = found.tag
        return seen

    async def renew(
        self, generation: int, files: str, last: Order | None = None, *, released: bool = False, whole: bool = False
    ) -> None:
        """Renew the lease; ``last`` is the order of the last snapshot that is complete.

        Raises LostError if another instance has it, BackupError if the object is unreachable.
        """
        async with self._one:
            await self._renew(Head(generation, files, last), released=released, whole=whole)

    async def _renew(self, head: Head, *, released: bool, whole: bool) -> None:
        last = self.record or LeaseRecord(self.instance)
        if last.released and not released:
            # A renewal still under way must not undo a release, nor one whose response was lost.
            return
        # Another counter each time, also after a write whose response was lost: others see that it moves.
        generation, counter = max(head.generation, last.generation), last.counter + 1
        record = last._replace(generation=generation, counter=counter, released=released, whole=whole)
        if head.instance:
            # Before the start is decided, the values taken over stay.
            record = record._replace(files=head.instance, owner=head.instance, last=head.last)
        try:
            seen = await self._look() if not self.conditional or not self.reachable else None
            if not (released and isinstance(seen, LeaseRecord) and seen.released):
                await self._write_own(record)
        except BackupError:
            self.reachable = False
            raise
        self.reachable = True

    async def _write_own(self, record: LeaseRecord) -> None:
        """Write it over this instance's last one. Raises LostError, and BackupError if it is refused all the same.

        A refused write is no proof of another instance: servers also refuse one that they cannot decide on yet (409).
        """
        for left in reversed(range(_TRIES)):
            try:
                await self._write(record)
            except ConflictError:
                await self._look()
                await anyio.sleep(_AGAIN_S if left else 0.0)
            else:
                return
        raise BackupError(_REFUSED)

    async def release(self, generation: int, files: str, last: Order | None = None, *, whole: bool) -> bool:
        """Release the lease, also one that is still being acquired; return False if there is none.

        It may be called again after a BackupError. Raises LostError if another instance has it, BackupError if the
        object is unreachable.
        """
        if self.record is None:
            return False
        tried = self.record.released
        if not self.holds:
            found = await self._store.get()
            if not self._wrote(await self._read(found)):
                return tried
            self._tag = found.tag
        try:
            await self.renew(generation, files, last, released=True, whole=whole)
        except LostError:
            # The response to an earlier attempt was lost, and the next instance has taken what that one released.
            if not tried:
                raise
        return True

    async def keep(
        self,
        tell: Callable[[], tuple[int, str, Order | None]],
        ends: Callable[[], bool],
        on_trouble: Callable[[Trouble | None], None],
    ) -> None:
        """Renew until it is about to be released (``ends``). Raises LostError if another instance has it."""
        while True:
            await self._taken.wait()
            await anyio.sleep(RENEW_S)
            if ends() and self.record is not None and self.record.released:
                return
            try:
                await self.renew(*tell())
            except BackupError as error:
                on_trouble(error.trouble)
            else:
                on_trouble(None)

    async def _write(self, record: LeaseRecord) -> None:
        data = await self._seal(record)
        # Before the response: what was written may stay without one.
        self.record = record
        self._tag = await self._store.put(data, self._tag)

    async def _read(self, found: StoredObject) -> Seen:
        if found.data is None:
            return None
        try:
            said = decode_json(found.data, _Sealed)
        except msgspec.DecodeError:
            return Unreadable(Flaw.FORGED)
        if said.version != VERSION:
            return Unreadable(Flaw.UNKNOWN, said.instance, said.counter)
        record = LeaseRecord(*(getattr(said, name) for name in LeaseRecord._fields))
        if any(_is_authentic(said, record, key) for key in await self._current_keys()):
            return record if said.seal else _completed(record)
        return Unreadable(Flaw.FORGED, said.instance, said.counter)

    async def _seal(self, record: LeaseRecord) -> bytes:
        key = (await self._current_keys())[-1]
        macs = {"mac": _mac(key, record[:_FIRST]), "seal": _mac(key, record)}
        return msgspec.json.encode({"version": VERSION, **record._asdict(), **macs})

    async def _current_keys(self) -> list[bytes]:
        """Return the key of the password as it is now, preceded by that of the password before a change.

        Others may still write with the former one, and are to be recognized. While the password's file cannot be read,
        the known keys stay: that must not cost a holder its lease. Raises BackupError if none is known.
        """
        try:
            password = await self._password.text()
        except BackupError:
            if not self._keys:
                raise
        else:
            if password not in self._keys:
                self._keys[password] = await in_thread(_derive, password)
            others = [known for known in self._keys.items() if known[0] != password]
            self._keys = dict([*others[-1:], (password, self._keys[password])])
        return list(self._keys.values())


def _mac(key: bytes, fields: tuple[object, ...]) -> str:
    return hmac.new(key, msgspec.json.encode([VERSION, *fields]), hashlib.sha256).hexdigest()


def _is_authentic(said: _Sealed, record: LeaseRecord, key: bytes) -> bool:
    """Return whether an object was written with a key, also by an earlier supervisor, which seals the first fields."""
    good = hmac.compare_digest(said.mac.encode(), _mac(key, record[:_FIRST]).encode())
    return good and (not said.seal or hmac.compare_digest(said.seal.encode(), _mac(key, record).encode()))


def _completed(record: LeaseRecord) -> LeaseRecord:
    """Return a record of an earlier supervisor with what it does not say: only that there was a snapshot is known."""
    last = SOME_SNAPSHOT if record.released and record.whole else None
    return record._replace(owner=record.files, last=last)


def _lines(data: bytes | None) -> list[str]:
    return (data or b"").decode(errors="replace").splitlines()


def _derive(password: str) -> bytes:
    return hashlib.scrypt(password.encode(), salt=_SALT, dklen=32, **_SCRYPT)


def _store(settings: BackupSettings, name: str) -> Store:
    if settings.in_folder or settings.access_key_id is None or settings.secret_access_key is None:
        return FolderStore(settings.repository, name)
    return BucketStore(settings.repository, settings.access_key_id, settings.secret_access_key, name)
