"""Writes to the holder's object whose response is lost, or which arrive late; and holders with two passwords."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from supervisor.backup import holder as module
from supervisor.backup.holder import Lease, LostError
from supervisor.backup.objects import ConflictError, FolderStore, StoredObject
from supervisor.backup.words import BackupError, ChoiceNeededError, Trouble
from supervisor.core.holding import MOST_LOOK_S, SILENCE_S, Claim, LeaseRecord, LeaseWatch, Unreadable, observe
from supervisor.errors import ConfigError
from supervisor.secret import Secret
from tests.backup.test_holder import never, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.config.parsers import SecretSource
    from supervisor.core.holding import Seen

# What may become of a write: it is made; made, but not confirmed; made later, or never; refused.
FATES = ("made", "unheard", "late", "refused")
AWAY = Trouble("the server does not answer", "it is tried again")


class Memory:
    """An object, each version of which is kept in ``versions``; ``late`` are the writes that are still under way."""

    def __init__(self, *, conditional: bool = True) -> None:
        self.conditional = conditional
        self.versions: list[bytes] = []
        self.late: deque[tuple[bytes, str]] = deque()

    @property
    def tag(self) -> str:
        """Return the tag of the current version."""
        return hashlib.sha256(self.versions[-1]).hexdigest() if self.versions else ""

    def write(self, data: bytes, tag: str) -> str:
        """Write it if the condition is met, or if conditions are ignored."""
        if self.conditional and tag != self.tag:
            raise ConflictError
        self.versions.append(data)
        return self.tag

    def arrive(self) -> None:
        """Make the oldest write that is under way."""
        if self.late:
            with suppress(ConflictError):
                self.write(*self.late.popleft())


class Way:
    """One instance's way to that object, with the fate of its next writes; those after them have ``then``."""

    knows_conditions = True

    def __init__(self, memory: Memory, then: str = "made") -> None:
        self.memory, self.then = memory, then
        self.fates: deque[str] = deque()

    async def get(self) -> StoredObject:
        """Read it."""
        versions = self.memory.versions
        return StoredObject(versions[-1] if versions else None, self.memory.tag)

    async def put(self, data: bytes, tag: str) -> str:
        """Write it, or lose the request or the response."""
        fate = self.fates.popleft() if self.fates else self.then
        if fate == "late":
            self.memory.late.append((data, tag))
        elif fate == "made":
            return self.memory.write(data, tag)
        elif fate == "unheard":
            with suppress(ConflictError):
                self.memory.write(data, tag)
        raise BackupError(AWAY)


@pytest.fixture(autouse=True, scope="module")
def quickly() -> Iterator[None]:
    """Wait for nothing, and derive keys without cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SETTLE_S", 0.0)
        patch.setattr(module, "EAGER_S", 0.0)
        patch.setattr(module, "_AGAIN_S", 0.0)
        patch.setattr(module, "_derive", lambda password: hashlib.sha256(password.encode()).digest())
        yield


def lease(memory: Memory, password: str = "a password", then: str = "made") -> tuple[Lease, Way]:  # noqa: S107
    """Return an instance, and its way to the object."""
    made, way = Lease(settings("/nowhere", password)), Way(memory, then)
    made._store = cast("FolderStore", way)
    return made, way


async def seen_by(one: Lease) -> Seen:
    """Return what an instance reads in the object."""
    return await one._read(await one._store.get())


async def record_of(one: Lease) -> LeaseRecord:
    """Return the record in the object."""
    seen = await seen_by(one)
    assert isinstance(seen, LeaseRecord)
    return seen


async def renewed(one: Lease, *, released: bool = False) -> bool | None:
    """Return whether a renewal was confirmed; None if the lease was lost."""
    try:
        if released:
            await one.release(1, "files", whole=True)
        else:
            await one.renew(1, "files")
    except BackupError:
        return False
    except LostError:
        return None
    return True


@pytest.mark.parametrize("conditional", [True, False])
async def test_a_holder_whose_writes_arrive_is_not_silent_although_no_response_does(*, conditional: bool) -> None:
    """A waiting instance sees the counter move, however long that lasts."""
    memory = Memory(conditional=conditional)
    (one, way), (two, _) = lease(memory), lease(memory)
    await one.acquire("", never)
    way.then = "unheard"
    watch = LeaseWatch()
    for look in range(40):
        assert await renewed(one) is False
        watch, verdict = observe(watch, await seen_by(two), "", look * MOST_LOOK_S, fresh=False)
        assert verdict is Claim.WAIT
    way.then = "made"
    assert await renewed(one)


@pytest.mark.parametrize("conditional", [True, False])
async def test_one_takes_over_although_no_response_arrives(*, conditional: bool) -> None:
    """Its own record in the object confirms that; and the previous holder's record is still known."""
    memory = Memory(conditional=conditional)
    (one, _), (two, way) = lease(memory), lease(memory, then="unheard")
    await one.acquire("", never)
    await one.renew(4, "its files")
    await one.release(4, "its files", whole=True)
    with pytest.raises(BackupError):
        await two.acquire("", never)
    before = await two.acquire("", never)
    assert two.holds
    assert before is not None
    assert (before.generation, before.files, before.released, before.whole) == (4, "its files", True, True)
    assert two.conditional is None
    assert await renewed(one) is True  # it was released: nothing is written
    assert (await record_of(two)).instance == two.instance
    way.then = "made"
    assert await renewed(two)


async def test_a_write_that_arrives_late_is_this_instance_s_own() -> None:
    """It got no response, and arrived after the next look: the second try is refused, and the third one finds it."""
    memory = Memory()
    (one, way), (two, _) = lease(memory), lease(memory)
    way.fates.append("late")
    with pytest.raises(BackupError):
        await one.acquire("", never)
    found = await one._store.get()
    memory.arrive()
    assert not await one._take(found, None, "")
    assert await one.acquire("", never) is None
    assert one.holds
    assert one.conditional
    assert (await record_of(two)).instance == one.instance


@pytest.mark.parametrize("fate", FATES[1:])
async def test_a_release_is_tried_again(fate: str) -> None:
    """It is confirmed by what is in the object; a renewal in between does not undo it, whether it was made or not."""
    memory = Memory()
    (one, way), (two, _) = lease(memory), lease(memory)
    await one.acquire("", never)
    way.fates.append(fate)
    assert await renewed(one, released=True) is False
    assert await renewed(one)
    assert (await record_of(two)).released is (fate == "unheard")
    memory.arrive()
    assert await renewed(one, released=True)
    assert (await record_of(two)).released
    before = await two.acquire("", never)
    assert before is not None
    assert before.whole


async def test_what_was_released_unheard_and_taken_is_handed_over() -> None:
    """The next instance was quicker than the second try, which is no other holder that came unasked."""
    memory = Memory()
    (one, way), (two, _) = lease(memory), lease(memory)
    await one.acquire("", never)
    way.fates.append("unheard")
    assert await renewed(one, released=True) is False
    await two.acquire("", never)
    assert await one.release(1, "files", whole=True)
    (three, _) = lease(memory)
    await three.acquire("", never, force=True)
    assert await renewed(two, released=True) is None


async def test_one_that_was_ended_while_it_took_over_unheard_releases_that() -> None:
    """Also at the second try, as the first gets no response either."""
    memory = Memory()
    (one, way), (two, _) = lease(memory, then="unheard"), lease(memory)
    with pytest.raises(BackupError):
        await one.acquire("", never)
    assert await renewed(one, released=True) is False
    assert await one.release(1, "files", whole=False)
    assert way.memory.versions
    await two.acquire("", never)
    assert await one.release(1, "files", whole=False)


STEPS = st.lists(
    st.tuples(st.sampled_from(["one", "two", "one lets go", "arrive"]), st.sampled_from(FATES)), max_size=40
)


async def _live(steps: list[tuple[str, str]]) -> None:
    memory = Memory()
    (one, way), (two, other_way) = lease(memory), lease(memory)
    await one.acquire("", never)
    watch, now_s, lets_go = LeaseWatch(), 0.0, False
    for who, fate in steps:
        now_s += MOST_LOOK_S
        way.fates, other_way.fates = deque([fate]), deque([fate])
        was_released = (await record_of(two)).released
        if who == "arrive":
            memory.arrive()
        elif two.holds and who == "two":
            # Its predecessor writes no more over it, whatever was under way.
            assert await renewed(two) is not None
        elif who == "two":
            found = await two._store.get()
            seen = await two._read(found)
            watch, verdict = observe(watch, seen, "", now_s, fresh=False)
            if verdict is Claim.TAKE or two._wrote(seen):
                await _take(two, found, seen)
        else:
            lets_go = lets_go or who == "one lets go"
            confirmed = await renewed(one, released=who == "one lets go")
            assert lets_go or not two.holds or confirmed is not True
        record = await record_of(two)
        assert record.released or not was_released or record.instance == two.instance
    assert all(before != after for before, after in pairwise(memory.versions))


async def _take(two: Lease, found: StoredObject, seen: Seen) -> None:
    """Take it, as acquire does."""
    with suppress(BackupError):
        if await two._take(found, seen, ""):
            two._taken.set()


@examples(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_is_lost_or_late_one_holds(steps: list[tuple[str, str]]) -> None:
    """Each write moves the object, a release lasts, and a holder gets no confirmation after it was replaced."""
    anyio.run(_live, steps)


@pytest.mark.parametrize("conditional", [True, False])
async def test_of_two_passwords_the_one_that_was_taken_from_gives_way(*, conditional: bool) -> None:
    """The owner has chosen the new one. Each finds what it cannot read, and the old one finds the second of that."""
    memory = Memory(conditional=conditional)
    (old, _), (new, _) = lease(memory), lease(memory, "another password")
    await old.acquire("", never)
    await renewed(old)
    with pytest.raises(ChoiceNeededError):
        await new.acquire("", never)
    await new.acquire("", never, force=True)
    results = [await renewed(each) for each in (old, old, new, new, old, new, new)]
    assert results == [True, True, True, True, None, True, True]


async def _part(conditional: bool, steps: list[tuple[str, str]]) -> None:  # noqa: FBT001 - a case
    memory = Memory(conditional=conditional)
    both = (lease(memory), lease(memory, "another password"))
    await both[0][0].acquire("", never)
    await both[1][0].acquire("", never, force=True)
    lost: set[str] = set()
    for who, fate in [*steps, *[("old", "made"), ("new", "made")] * 4]:
        one, way = both[who == "new"]
        way.fates = deque([fate])
        if who == "arrive":
            memory.arrive()
        elif who not in lost and await renewed(one) is None:
            lost.add(who)
    assert lost
    if conditional:
        assert len(lost) == 1


@pytest.mark.parametrize("conditional", [True, False])
@examples(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["old", "new", "arrive"]), st.sampled_from(FATES)), max_size=30))
def test_two_passwords_never_both_go_on(conditional: bool, steps: list[tuple[str, str]]) -> None:  # noqa: FBT001
    """However their renewals fall; where writes are conditional, exactly one goes on."""
    anyio.run(partial(_part, conditional, steps))


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("times", [1, 5])
async def test_what_somebody_without_the_password_puts_there_stops_nobody(*, conditional: bool, times: int) -> None:
    """Once, or the same again and again; nor do contents that name nobody, or this instance, as a captive portal's."""
    memory = Memory(conditional=conditional)
    (one, _), (forger, _) = lease(memory), lease(Memory(), "another password")
    await one.acquire("", never)
    forged = [await forger._seal(LeaseRecord(forger.instance, 9, 9))] * times
    forged += [b"<html>1</html>", b"<html>2</html>", b'{"version":1,"counter":1}', b'{"version":1,"counter":2}']
    forged += [await forger._seal(LeaseRecord(one.instance, 9, counter)) for counter in range(2)]
    for data in forged:
        memory.versions.append(data)
        assert await renewed(one)
        assert (await record_of(one)).instance == one.instance


async def test_who_has_to_choose_is_told_whether_the_other_one_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice is recommended only once the object has not changed for the time of silence."""
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    memory = Memory()
    (old, _), (new, _) = lease(memory), lease(memory, "another password")
    await old.acquire("", never)
    told: list[Trouble] = []
    for renews in [False, True, True, *[False] * 7]:
        if renews:
            await renewed(old)
        with pytest.raises(ChoiceNeededError) as held:
            await new.acquire("", never)
        told.append(held.value.trouble)
        now_s += MOST_LOOK_S
    moving = ["keeps writing" in each.why for each in told]
    assert moving == [False, *[True] * (1 + int(SILENCE_S / MOST_LOOK_S)), *[False] * 2]
    assert ["a choice of yours" in each.what_to_do for each in told] == [False] * 8 + [True] * 2
    assert all("end the other instance" in each.what_to_do for each, moves in zip(told, moving, strict=True) if moves)


class _File:
    """A secret in a file, whose text changes; None if it cannot be read."""

    name, path = "PASSWORD", "/a/file"

    def __init__(self, text: str) -> None:
        self.text: str | None = text

    def read(self) -> object:
        """Return its text."""
        if self.text is None:
            raise ConfigError([f"cannot read {self.path}"])
        return Secret(self.text)


def with_file(memory: Memory, file: _File) -> Lease:
    """Return an instance whose password is in that file."""
    made = Lease(settings("/nowhere")._replace(password=cast("SecretSource", file)))
    made._store = cast("FolderStore", Way(memory))
    return made


@pytest.mark.parametrize("conditional", [True, False])
async def test_a_password_that_was_changed_seals_the_next_renewal(*, conditional: bool) -> None:
    """Its file is read anew at each use; one that cannot be read changes nothing."""
    memory, file = Memory(conditional=conditional), _File("a password")
    one = with_file(memory, file)
    former, later = lease(memory)[0], lease(memory, "another password")[0]
    await one.acquire("", never)
    assert isinstance(await seen_by(former), LeaseRecord)
    file.text = "another password"
    assert isinstance(await seen_by(later), Unreadable)
    assert isinstance(await seen_by(one), LeaseRecord)
    assert await renewed(one)
    assert (await record_of(later)).instance == one.instance
    file.text = None
    assert await renewed(one)
    assert (await record_of(later)).instance == one.instance
    file.text = "a password"
    assert await renewed(one)
    assert (await record_of(former)).instance == one.instance


@pytest.mark.parametrize("conditional", [True, False])
async def test_one_with_the_former_password_that_took_over_is_recognized(*, conditional: bool) -> None:
    """The password's file was changed for a frozen holder only: thawed, it does not write over its successor."""
    memory, file = Memory(conditional=conditional), _File("a password")
    one, (two, _) = with_file(memory, file), lease(memory)
    await one.acquire("", never)
    await two.acquire("", never, force=True)
    file.text = "another password"
    assert await renewed(one) is None
    assert (await record_of(two)).instance == two.instance
