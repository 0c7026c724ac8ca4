"""Sessions, codes and the admin token, with a clock that is set by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.logs.hub import LogHub
from supervisor.logs.redact import Redactor
from supervisor.secret import Secret
from supervisor.settings.secrets import SecretSource
from supervisor.web.keyring import CODE_S, SESSION_S, Grant, Keyring
from supervisor.web.throttle import Throttle, source_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Clock


@pytest.fixture
def hub() -> LogHub:
    """A log that was not started: it keeps its records."""
    return LogHub(format="json", color=False, redactor=Redactor(), history_lines=10, names=[])


def events(hub: LogHub) -> list[str]:
    """Return what was recorded."""
    return [record.event for record in hub._waiting_records]


def test_a_session_lasts_twelve_hours(clock: Clock, hub: LogHub) -> None:
    """And not a moment longer; it can be ended before, and others go on."""
    keyring = Keyring(None, hub)
    first, second = keyring.open_session()[0], keyring.open_session()[0]
    assert first != second
    grant = keyring.grant_of(first)
    assert grant is not None
    keyring.end_session(grant)
    assert keyring.grant_of(first) is None
    assert not keyring.holds(grant)
    clock.now_s += SESSION_S - 1
    assert keyring.grant_of(second) is not None
    clock.now_s += 1
    assert keyring.grant_of(second) is None
    assert SESSION_S == 12 * 3600


def test_a_session_is_kept_as_a_digest(clock: Clock, hub: LogHub) -> None:
    """Nothing in the keyring is a token that opens."""
    keyring = Keyring(None, hub)
    session, ends_s = keyring.open_session()
    assert ends_s == clock.now_s + SESSION_S
    assert session not in repr(vars(keyring))
    assert len(session) >= 40


def test_only_so_many_sessions_are_kept(hub: LogHub) -> None:
    """The oldest one goes, so that memory is bounded."""
    keyring = Keyring(None, hub)
    sessions = [keyring.open_session()[0] for _ in range(101)]
    assert keyring.grant_of(sessions[0]) is None
    assert keyring.grant_of(sessions[1]) is not None


def test_without_a_token_nothing_is_the_admin(hub: LogHub) -> None:
    """Neither nothing nor any text."""
    keyring = Keyring(None, hub)
    assert not keyring.has_token
    assert not keyring.is_admin("")
    assert keyring.grant_of("") is None


def test_a_code_is_good_once_and_for_a_while(clock: Clock, hub: LogHub) -> None:
    """Spelled as people do; a newer one does not spoil it."""
    keyring = Keyring(None, hub)
    code = keyring.new_code()
    text = code.secret.reveal()
    assert len(text) == 20
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert code.ends_s == clock.now_s + CODE_S
    assert CODE_S == 15 * 60
    other = keyring.new_code().secret.reveal()
    assert other != text
    assert not keyring.take_code("")
    assert not keyring.take_code(text[:-1])
    assert keyring.take_code(f" {text[:5].lower()}-{text[5:10]} {text[10:]}\n")
    assert not keyring.take_code(text)
    clock.now_s += CODE_S
    assert not keyring.take_code(other)


def test_the_admin_token_is_read_anew(hub: LogHub, tmp_path: Path) -> None:
    """A new one is good at once and masked in the log; the old one is not, nor are the sessions that it gave."""
    path = tmp_path / "token"
    path.write_text("the-first-token-there-was\n")
    keyring = Keyring(SecretSource("SUPERVISOR_TOKEN", path=str(path)), hub)
    first = keyring.grant_of("the-first-token-there-was")
    assert first is not None
    assert keyring.holds(first)
    session = keyring.open_session()[0]
    grant = keyring.grant_of(session)
    assert grant is not None
    path.write_text("the-second-token\n")
    assert not keyring.holds(first)
    assert not keyring.holds(grant)
    assert keyring.grant_of(session) is None
    assert not keyring.is_admin("the-first-token-there-was")
    assert keyring.grant_of("the-second-token") == Grant(None, 1)
    assert b"the-second-token" not in hub.redactor.mask(b"said the-second-token")
    assert events(hub) == ["the admin token has changed"]


def test_a_token_that_cannot_be_read(hub: LogHub, tmp_path: Path) -> None:
    """Opens nothing, is told in the log once, and ends no session; when it is back, it opens again."""
    path = tmp_path / "token"
    path.write_text("the-token-in-a-file")
    keyring = Keyring(SecretSource("SUPERVISOR_TOKEN", path=str(path)), hub)
    assert keyring.is_admin("the-token-in-a-file")
    session = keyring.open_session()[0]
    path.unlink()
    for _ in range(3):
        assert not keyring.is_admin("the-token-in-a-file")
        assert not keyring.is_admin("")
    assert keyring.grant_of(session) is not None
    path.write_text("the-token-in-a-file")
    assert keyring.is_admin("the-token-in-a-file")
    assert events(hub) == ["cannot check the admin token"]


@pytest.mark.parametrize("candidate", ["\ud800", "☃", "a" * 100_000, "\0"])
def test_what_is_no_text_is_just_wrong(hub: LogHub, candidate: str) -> None:
    """Bytes that are not UTF-8 arrive as what cannot be encoded."""
    keyring = Keyring(SecretSource("SUPERVISOR_TOKEN", Secret("an-admin-token-\udcfe")), hub)
    assert keyring.grant_of(candidate) is None
    assert not keyring.take_code(candidate)
    assert keyring.is_admin("an-admin-token-\udcfe")


def test_wrong_credentials_are_counted_by_source(clock: Clock, hub: LogHub) -> None:
    """Ten at once, then one each half minute; another address is not held back by that."""
    throttle = Throttle(hub)
    assert [throttle.failed("192.0.2.1") for _ in range(11)] == [0.0] * 10 + [30.0]
    assert throttle.failed("192.0.2.2") == 0.0
    clock.now_s += 20
    assert throttle.failed("192.0.2.1") == pytest.approx(10.0)
    clock.now_s += 10
    assert throttle.failed("192.0.2.1") == 0.0
    assert throttle.failed("192.0.2.1") == pytest.approx(30.0)


def test_wrong_credentials_are_counted_in_total(clock: Clock, hub: LogHub) -> None:
    """Many addresses with a few each are slowed down together; what is kept of them is bounded."""
    throttle = Throttle(hub)
    waits = [throttle.failed(f"192.0.2.{number}") for number in range(61)]
    assert waits == [0.0] * 60 + [1.0]
    clock.now_s += 1
    assert throttle.failed("198.51.100.1") == 0.0
    for number in range(2000):
        throttle.failed(f"2001:db8:{number:x}::1")
    assert len(throttle._sources) == 1000
    assert events(hub) == ["wrong credentials"]
    clock.now_s += 60
    throttle.failed("192.0.2.1")
    assert hub._waiting_records[-1].fields == {"source": "192.0.2.1", "count": 2062}


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
    """In IPv6 that is a network."""
    assert source_of(address) == source
