"""Sessions, codes and the admin token, with a clock that is set by the test."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from supervisor.config.parsers import SecretSource
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime import loop_latency
from supervisor.secret import Secret
from supervisor.web.acceptor import DescriptorShortage
from supervisor.web.sessions import CODE_S, SESSION_S, Grant, Keyring
from supervisor.web.throttle import Throttle, source_of
from tests.logs.rig import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Clock


@pytest.fixture
def log() -> LogPipeline:
    """Provide a log that was not started, so that it keeps its records."""
    return LogPipeline(format="json", color=False, redactor=Redactor(), history_lines=10, names=[])


def events(log: LogPipeline) -> list[str]:
    """Return the recorded events."""
    return [record.event for record in log._waiting_records]


async def test_a_session_lasts_twelve_hours(clock: Clock, log: LogPipeline) -> None:
    """It expires exactly then; it can be ended earlier, and other sessions continue."""
    keyring = Keyring(None, log)
    first, second = keyring.open_session()[0], keyring.open_session()[0]
    assert first != second
    grant = await keyring.grant_of(first)
    assert grant is not None
    keyring.end_session(grant)
    assert (await keyring.grant_of(first)) is None
    assert not keyring.is_valid(grant)
    clock.now_s += SESSION_S - 1
    assert (await keyring.grant_of(second)) is not None
    clock.now_s += 1
    assert (await keyring.grant_of(second)) is None
    assert SESSION_S == 12 * 3600


def test_a_session_is_kept_as_a_digest(clock: Clock, log: LogPipeline) -> None:
    """Nothing in the keyring can be used as a token."""
    keyring = Keyring(None, log)
    session, ends_s = keyring.open_session()
    assert ends_s == clock.now_s + SESSION_S
    assert session not in repr(vars(keyring))
    assert len(session) >= 40


async def test_only_so_many_sessions_are_kept(log: LogPipeline) -> None:
    """The oldest one is dropped, so that memory is bounded."""
    keyring = Keyring(None, log)
    sessions = [keyring.open_session()[0] for _ in range(101)]
    assert (await keyring.grant_of(sessions[0])) is None
    assert (await keyring.grant_of(sessions[1])) is not None


async def test_without_a_token_nothing_is_the_admin(log: LogPipeline) -> None:
    """Neither an empty text nor any other is accepted."""
    keyring = Keyring(None, log)
    assert not keyring.has_token
    assert not await keyring.is_admin("")
    assert (await keyring.grant_of("")) is None


def test_a_code_is_good_once_and_for_a_while(clock: Clock, log: LogPipeline) -> None:
    """Case, spaces and hyphens are ignored; a newer code does not invalidate it."""
    keyring = Keyring(None, log)
    code = keyring.new_code()
    text = code.secret.reveal()
    assert len(text) == 20
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert code.ends_s == clock.now_s + CODE_S
    assert CODE_S == 15 * 60
    other = keyring.new_code().secret.reveal()
    assert other != text
    assert not keyring.redeem_code("")
    assert not keyring.redeem_code(text[:-1])
    assert keyring.redeem_code(f" {text[:5].lower()}-{text[5:10]} {text[10:]}\n")
    assert not keyring.redeem_code(text)
    clock.now_s += CODE_S
    assert not keyring.redeem_code(other)


async def test_the_admin_token_is_read_anew(log: LogPipeline, tmp_path: Path) -> None:
    """A new one is valid at once and masked in the log; the old one and the sessions opened with it are invalid."""
    path = tmp_path / "token"
    path.write_text("the-first-token-there-was\n")
    keyring = Keyring(SecretSource("SUPERVISOR_TOKEN", path=str(path)), log)
    first = await keyring.grant_of("the-first-token-there-was")
    assert first is not None
    assert keyring.is_valid(first)
    session = keyring.open_session()[0]
    grant = await keyring.grant_of(session)
    assert grant is not None
    path.write_text("the-second-token\n")
    await keyring.refresh()
    assert not keyring.is_valid(first)
    assert not keyring.is_valid(grant)
    assert (await keyring.grant_of(session)) is None
    assert not await keyring.is_admin("the-first-token-there-was")
    assert await keyring.grant_of("the-second-token") == Grant(None, 1)
    assert b"the-second-token" not in log.redactor.mask(b"said the-second-token")
    assert events(log) == ["the admin token has changed"]


async def test_a_token_that_cannot_be_read(log: LogPipeline, tmp_path: Path) -> None:
    """Nothing is accepted, which is logged once, and no session ends; once it is readable, it is accepted again."""
    path = tmp_path / "token"
    path.write_text("the-token-in-a-file")
    keyring = Keyring(SecretSource("SUPERVISOR_TOKEN", path=str(path)), log)
    assert await keyring.is_admin("the-token-in-a-file")
    session = keyring.open_session()[0]
    path.unlink()
    for _ in range(3):
        assert not await keyring.is_admin("the-token-in-a-file")
        assert not await keyring.is_admin("")
    assert (await keyring.grant_of(session)) is not None
    path.write_text("the-token-in-a-file")
    assert await keyring.is_admin("the-token-in-a-file")
    assert events(log) == ["cannot check the admin token"]


async def test_a_token_file_that_hangs(log: LogPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an unreachable network disk: sessions continue, one thread waits, and its late result is outdated."""
    path = tmp_path / "token"
    path.write_text("the-first-token-there-was")
    source = SecretSource("SUPERVISOR_TOKEN", path=str(path))
    keyring = Keyring(source, log)
    assert await keyring.is_admin("the-first-token-there-was")
    session = keyring.open_session()[0]
    hangs, goes_on, reads = threading.Event(), threading.Event(), []
    read = SecretSource.read

    def hang(source: SecretSource) -> Secret:
        reads.append(source)
        found = read(source)
        if not hangs.is_set():
            hangs.set()
            assert goes_on.wait(60)
        return found

    assert keyring._reader is not None
    monkeypatch.setattr(keyring._reader, "_read", lambda: hang(source))
    monkeypatch.setattr(loop_latency, "READ_S", 0.05)
    for _ in range(3):
        assert await asyncio.wait_for(keyring.grant_of(session), 10) is not None
        assert not await asyncio.wait_for(keyring.is_admin("the-first-token-there-was"), 10)
    # It may begin after it was given up.
    await until(hangs.is_set)
    assert len(reads) == 1
    path.write_text("the-second-token")
    late = keyring._reader._late
    assert late is not None
    goes_on.set()
    monkeypatch.setattr(loop_latency, "READ_S", 30.0)
    await late
    assert not await keyring.is_admin("the-first-token-there-was")
    assert await keyring.is_admin("the-second-token")
    assert events(log) == ["cannot check the admin token", "the admin token has changed"]


@pytest.mark.parametrize("candidate", ["\ud800", "☃", "a" * 100_000, "\0"])
async def test_what_is_no_text_is_just_wrong(log: LogPipeline, candidate: str) -> None:
    """Bytes that are not UTF-8 arrive as text that cannot be encoded."""
    keyring = Keyring(SecretSource("SUPERVISOR_TOKEN", Secret("an-admin-token-\udcfe")), log)
    assert (await keyring.grant_of(candidate)) is None
    assert not keyring.redeem_code(candidate)
    assert await keyring.is_admin("an-admin-token-\udcfe")


async def test_wrong_credentials_are_counted_by_source(clock: Clock, log: LogPipeline) -> None:
    """Ten are allowed at once, then one every 30 s; another address is not affected."""
    throttle = Throttle(log)
    assert [throttle.count("192.0.2.1") for _ in range(11)] == [0.0] * 10 + [30.0]
    assert throttle.count("192.0.2.2") == 0.0
    clock.now_s += 20
    assert throttle.count("192.0.2.1") == pytest.approx(10.0)
    clock.now_s += 10
    assert throttle.count("192.0.2.1") == 0.0
    assert throttle.count("192.0.2.1") == pytest.approx(30.0)


async def test_wrong_credentials_are_counted_in_total(clock: Clock, log: LogPipeline) -> None:
    """Many addresses with a few each are slowed down together; the memory for them is bounded."""
    throttle = Throttle(log)
    waits = [throttle.count(f"192.0.2.{number}") for number in range(61)]
    assert waits == [0.0] * 60 + [1.0]
    clock.now_s += 1
    assert throttle.count("198.51.100.1") == 0.0
    for number in range(2000):
        throttle.count(f"2001:db8:{number:x}::1")
    assert len(throttle._sources) == 1000
    assert events(log) == ["wrong credentials"]


async def test_what_was_counted_is_told_also_where_silence_follows(
    log: LogPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is logged at once, the others by a timer, and a later one at once again."""
    monkeypatch.setattr("supervisor.web.throttle.SAY_EVERY_S", 0.2)
    throttle = Throttle(log)
    for _ in range(3000):
        throttle.count("192.0.2.1")
    assert [record.fields["count"] for record in log._waiting_records] == [1]
    await until(lambda: len(events(log)) > 1)
    assert log._waiting_records[-1].fields == {"source": "192.0.2.1", "count": 2999}
    await until(lambda: throttle._repeated._pause is None)
    throttle.count("192.0.2.2")
    assert log._waiting_records[-1].fields == {"source": "192.0.2.2", "count": 1}
    assert set(events(log)) == {"wrong credentials"}


async def test_what_was_counted_is_told_at_the_end(log: LogPipeline) -> None:
    """Nothing is counted for a timer that will not fire any more."""
    throttle, shortage = Throttle(log), DescriptorShortage(log, [])
    for _ in range(4):
        throttle.count("192.0.2.1")
        shortage.make_room()
    for _ in range(2):
        throttle.close()
        shortage.close()
    counts = [record.fields.get("count") or record.fields["times"] for record in log._waiting_records]
    assert counts == [1, 1, 3, 3]


async def test_the_token_is_read_in_a_thread_and_once_for_many(log: LogPipeline, tmp_path: Path) -> None:
    """Whoever accepts an older value causes no read, and many who need the current one share a read."""
    source = counting_source(tmp_path)
    keyring = Keyring(source, log)
    assert await keyring.is_admin("the-token-in-a-file")
    for _ in range(100):
        await keyring.refresh(60.0)
    assert (source.reads, source.threads & {threading.get_ident()}) == (1, set())
    assert all(await asyncio.gather(*(keyring.is_admin("the-token-in-a-file") for _ in range(20))))
    assert source.reads < 5


async def test_an_older_value_is_used_without_waiting_for_a_read_that_hangs(log: LogPipeline, tmp_path: Path) -> None:
    """An event stream accepts a value of a second ago, and waited for another's read all the same."""
    source = counting_source(tmp_path)
    keyring = Keyring(source, log)
    assert await keyring.is_admin("the-token-in-a-file")
    source.goes_on.clear()
    try:
        asking = asyncio.create_task(keyring.is_admin("the-token-in-a-file"))
        await until(lambda: source.reads == 2)
        await keyring.refresh(60.0)
        assert not asking.done()
    finally:
        source.goes_on.set()
    assert await asking


def counting_source(folder: Path) -> CountingSource:
    """Return the source of an admin token in a file."""
    path = folder / "token"
    path.write_text("the-token-in-a-file")
    return CountingSource("SUPERVISOR_TOKEN", path=str(path))


class CountingSource(SecretSource):
    """Counts its reads, and records their threads; a read hangs while ``goes_on`` is not set."""

    reads = 0
    threads: set[int]
    goes_on = threading.Event()
    goes_on.set()

    def read(self) -> Secret:
        """Count, and read."""
        self.reads += 1
        self.threads = {*getattr(self, "threads", ()), threading.get_ident()}
        self.goes_on.wait()
        return super().read()


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2:3:4:5", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("control socket", "control socket"),
    ],
)
def test_one_source_is_one_client(address: str, source: str) -> None:
    """In IPv6, a source is a network."""
    assert source_of(address) == source
