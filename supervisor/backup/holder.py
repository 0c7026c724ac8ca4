"""Takes hold of a repository, keeps it, and lets it go."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import to_thread

from supervisor.backup.objects import HOLDER, PROBE, BucketStore, ConflictError, FolderStore
from supervisor.backup.words import BackupError, Trouble
from supervisor.core.holding import (
    RENEW_S,
    VERSION,
    Claim,
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

    # Gets what was seen last, and what keeps it from being seen just now.
    Wait = Callable[[Seen, Trouble | None], Awaitable[None]]

# A server that ignores conditions: what was written is looked at again after so long.
SETTLE_S = 5.0
# How often a waiting instance looks: a hand-over is waited for by people, two instances by mistake by nobody.
EAGER_S, LOOK_S = 1.0, 5.0
PATIENT_AFTER_S = 600.0
# Slow enough that the object is no shorter way to the password than the repository's own key.
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
_UNREADABLE = (
    "check the password; where it has been changed, see that nothing else runs, and delete the holder's object"
)
_SALT = b"moltis-supervisor holder"
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


class LostError(Exception):
    """Another instance holds it now."""


class Lease:
    """One instance's hand on the object.

    ``conditional`` says whether the server can compare, ``held_until_s`` when another instance last wrote that it
    holds.
    """

    def __init__(self, settings: BackupSettings) -> None:
        self.instance = os.urandom(16).hex()
        self.conditional = True
        self.record: LeaseRecord | None = None
        self.reachable = True
        self.held_until_s: float | None = None
        self._settings = settings
        self._store = _store(settings)
        self._tag = ""
        self._key = b""
        self._taken = anyio.Event()
        self._one = anyio.Lock()

    @property
    def holds(self) -> bool:
        """Whether it was taken."""
        return self._taken.is_set()

    async def acquire(self, files: str, wait: Wait, *, fresh: bool = True, force: bool = False) -> LeaseRecord | None:
        """Take hold; call ``wait`` while another has it. Return what the one before said last.

        ``force`` takes it whatever it says: a person has chosen. ``fresh`` says that the repository has no snapshots.

        Raises BackupError where the object says nothing that is understood, and where it cannot be read or written
        at the first try: whoever waits goes on to wait.
        """
        watch, seen, begin_s, waits = LeaseWatch(), None, time.monotonic(), False
        while True:
            trouble = None
            try:
                found = await self._store.get()
                seen = await self._read(found)
                self.held_until_s = found.written_s
                watch, verdict = observe(watch, seen, files, time.monotonic(), fresh=fresh)
                if (force or verdict is Claim.TAKE or self._wrote(seen)) and await self._take(found, seen, files):
                    self._taken.set()
                    return seen if isinstance(seen, LeaseRecord) else None
            except BackupError as error:
                if not waits:
                    raise
                trouble = error.trouble
            else:
                if verdict is Claim.ASK:
                    why = seen.value if isinstance(seen, Unreadable) else ""
                    raise BackupError(Trouble(f"it cannot be told who holds the repository: {why}", _UNREADABLE))
            waits = True
            await wait(seen, trouble)
            await anyio.sleep(EAGER_S if time.monotonic() - begin_s < PATIENT_AFTER_S else LOOK_S)

    def _wrote(self, seen: Seen) -> bool:
        """Tell whether it is this one's own: a write whose answer was lost."""
        return isinstance(seen, LeaseRecord) and seen.instance == self.instance

    async def probe(self) -> None:
        """Write an object beside it and read it back. Raises BackupError where a take-over would fail at that."""
        store = _store(self._settings, PROBE)
        try:
            await store.put(self.instance.encode(), (await store.get()).tag)
        except ConflictError:
            # Another one that waits has just written it.
            return
        if (await store.get()).data is None:
            raise BackupError(Trouble("an object that was written cannot be read back", "check the bucket"))

    async def _take(self, found: StoredObject, seen: Seen, files: str) -> bool:
        before = seen if isinstance(seen, LeaseRecord) else LeaseRecord("")
        record = LeaseRecord(self.instance, before.generation, before.counter + 1, files)
        self._tag = found.tag
        try:
            await self._write(record)
        except ConflictError:
            return False
        self.conditional = await self._has_conditions()
        if self.conditional:
            return True
        # Two that wrote at once: the last one's stands, and the other one sees it.
        await anyio.sleep(SETTLE_S)
        return await self._is_mine()

    async def _has_conditions(self) -> bool:
        """Tell whether the server heeds conditions: one that does refuses to write over a version that never was."""
        if self.record is None:
            return False
        try:
            self._tag = await self._store.put(await self._seal(self.record), _WRONG_TAG)
        except ConflictError:
            return True
        return False

    async def _is_mine(self) -> bool:
        found = await self._store.get()
        standing = stand(await self._read(found), self.instance)
        if standing is Standing.LOST:
            return False
        self._tag = found.tag
        return True

    async def renew(self, generation: int, files: str, *, released: bool = False, whole: bool = False) -> None:
        """Write it anew. Raises LostError where another one has it, BackupError where it cannot be reached."""
        async with self._one:
            await self._renew(generation, files, released=released, whole=whole)

    async def _renew(self, generation: int, files: str, *, released: bool, whole: bool) -> None:
        if self.record is not None and self.record.released:
            # It was let go: nothing that was still on its way takes that back.
            return
        last = self.record or LeaseRecord(self.instance)
        # Before it is decided what a start does there is neither: what was taken over stays until then.
        generation, files = max(generation, last.generation), files or last.files
        record = LeaseRecord(self.instance, generation, last.counter + 1, files, released, whole)
        try:
            if (not self.conditional or not self.reachable) and not await self._is_mine():
                raise LostError
            try:
                await self._write(record)
            except ConflictError:
                if not await self._is_mine():
                    raise LostError from None
                await self._write(record)
        except ConflictError:
            raise LostError from None
        except BackupError:
            self.reachable = False
            raise
        self.reachable = True

    async def keep(
        self,
        tell: Callable[[], tuple[int, str]],
        ends: Callable[[], bool],
        on_trouble: Callable[[Trouble | None], None],
    ) -> None:
        """Renew until it is about to be let go (``ends``). Raises LostError where another one has it."""
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
        self._tag = await self._store.put(await self._seal(record), self._tag)
        self.record = record

    async def _read(self, found: StoredObject) -> Seen:
        if found.data is None:
            return None
        try:
            said = decode_json(found.data, _Sealed)
        except msgspec.DecodeError:
            return Unreadable.FORGED
        if said.version != VERSION:
            return Unreadable.UNKNOWN
        record = LeaseRecord(said.instance, said.generation, said.counter, said.files, said.released, said.whole)
        good = hmac.compare_digest(said.mac.encode(), (await self._mac(record)).encode())
        return record if good else Unreadable.FORGED

    async def _seal(self, record: LeaseRecord) -> bytes:
        return msgspec.json.encode({"version": VERSION, **record._asdict(), "mac": await self._mac(record)})

    async def _mac(self, record: LeaseRecord) -> str:
        if not self._key:
            self._key = await to_thread.run_sync(self._derive)
        return hmac.new(self._key, msgspec.json.encode([VERSION, *record]), hashlib.sha256).hexdigest()

    def _derive(self) -> bytes:
        password = self._settings.password
        text = password.read().reveal() if password is not None else ""
        return hashlib.scrypt(text.encode(), salt=_SALT, dklen=32, **_SCRYPT)


def _store(settings: BackupSettings, name: str = HOLDER) -> Store:
    if settings.in_folder or settings.access_key_id is None or settings.secret_access_key is None:
        return FolderStore(settings.repository, name)
    return BucketStore(settings.repository, settings.access_key_id, settings.secret_access_key, name)
