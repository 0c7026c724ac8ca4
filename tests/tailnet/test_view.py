"""Descriptions of tailscaled's states for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from supervisor.core.retry import LoginRetry
from supervisor.core.snapshot import TailnetView
from supervisor.core.tailnet import Choice, Stage, TailnetMachine
from supervisor.core.tailnet_states import STATES
from supervisor.tailnet.view import Situation, down, expiry_words, key_expiry, of_status, peers_of, with_state
from supervisor.tailnet.wire import Node, Status, Tailnet, UserProfile

LOGIN = Status(backend_state="NeedsLogin")
AWAY = Status(backend_state="Running", node=Node(online=False))
UP = Status(backend_state="Running", have_node_key=True, node=Node(online=True, dns_name="moltis.tail.example."))
REFUSED = LoginRetry(b"1", error="invalid key: expired", kind="expired", rounds=1, next_try_s=60.0)


def about(now_s: float = 0.0, **machine: Any) -> Situation:
    """Return the situation of a machine with these fields."""
    return Situation(TailnetMachine(**machine), now_s)


@pytest.mark.parametrize(
    ("status", "situation", "state"),
    [
        (LOGIN, Situation(), "needs login"),
        (LOGIN, about(url=True), "needs login"),
        (LOGIN, Situation(expired=True), "key expired"),
        (LOGIN, Situation(has_network=False), "no network interface"),
        (LOGIN, about(retry=LoginRetry(b"1", begun_s=1.0)), "connecting"),
        (LOGIN, about(31.0, retry=LoginRetry(b"1", begun_s=1.0)), "control server unreachable"),
        (LOGIN, about(retry=REFUSED), "key refused"),
        (LOGIN, about(retry=REFUSED, url=True), "needs login"),
        (LOGIN, about(choice=Choice.DISCONNECTED), "disconnected by you"),
        (LOGIN, about(choice=Choice.FORGOTTEN), "disconnected by you"),
        (
            Status(backend_state="Stopped", have_node_key=True),
            about(choice=Choice.FORGOTTEN),
            "disconnected by you",
        ),
        (
            Status(
                backend_state="NeedsLogin",
                health=(
                    "You are logged out. The last login error was: fetch control key: dial tcp: connection refused",
                ),
            ),
            about(retry=LoginRetry(b"1", begun_s=1.0)),
            "control server unreachable",
        ),
        (Status(backend_state="NeedsMachineAuth"), Situation(), "waiting for approval"),
        (Status(backend_state="Starting"), Situation(), "connecting"),
        (Status(backend_state="Stopped"), Situation(), "disconnected"),
        (Status(backend_state="NoState"), Situation(), "starting"),
        (Status(backend_state="NoState"), about(11.0), "control server unreachable"),
        (Status(backend_state="NoState", health=("fetch control key: x",)), Situation(), "control server unreachable"),
        (UP, Situation(), "connected"),
        (AWAY, Situation(), "control server unreachable"),
        (AWAY, about(4.0, retry=LoginRetry(b"1", begun_s=1.0)), "connecting"),
        (AWAY, about(replaces=True, stage=Stage.RELEASING), "connecting"),
        (AWAY, about(12.0, retry=LoginRetry(b"1", begun_s=1.0)), "control server unreachable"),
        (
            Status(backend_state="NoState", health=("State store failed to initialize.",)),
            Situation(),
            "state not kept",
        ),
        (Status(backend_state="Levitating"), Situation(), "Levitating"),
    ],
)
def test_states(status: Status, situation: Situation, state: str) -> None:
    """Each has a name; each that is not well gives a reason and says what a person can do about it."""
    meaning = of_status(status, situation)
    assert meaning.state == state
    assert meaning.up == (state == "connected")
    if state in {"needs login", "key expired", "key refused", "control server unreachable", "disconnected by you"}:
        assert meaning.why
        assert meaning.what_to_do
    assert state in STATES or state == "Levitating"


def test_a_refused_key_says_when_it_is_tried_again() -> None:
    """The reason is the control server's text, after the kind of refusal."""
    meaning = of_status(LOGIN, about(retry=REFUSED._replace(next_try_s=240.0)))
    assert meaning.why == "expired: invalid key: expired"
    assert "tried again in 4 min" in meaning.what_to_do
    twice = REFUSED._replace(kind="invalid", error="invalid key: API key does not exist")
    assert of_status(LOGIN, about(retry=twice)).why == "invalid key: API key does not exist"


def test_no_answer_is_starting_first_and_down_later() -> None:
    """A daemon that was started a moment ago is still starting."""
    assert (down("x", begun=True).state, down("x", begun=False).state) == ("starting", "tailscaled down")


def test_since_when() -> None:
    """A state's time counts from its start, the time away from when it was last up."""
    up, off = of_status(UP, Situation()), down("x", begun=False)
    first = with_state(TailnetView("embedded", "starting", 0.0, away_since_s=0.0), off, None, 10.0)
    assert (first.since_s, first.away_since_s) == (10.0, 0.0)
    assert with_state(first, off, None, 20.0).since_s == 10.0
    again = with_state(first, up, UP, 30.0)
    assert (again.up, again.away_since_s, again.since_s) == (True, None, 30.0)
    assert with_state(again, off, None, 40.0).away_since_s == 40.0


def test_what_is_known_of_the_device() -> None:
    """Name, tailnet and owner are shown while the device is in a tailnet, and cleared when it is logged out."""
    status = msgspec.structs.replace(
        UP,
        version="1.102.5-t0",
        ips=("100.64.0.1",),
        tailnet=Tailnet("example.org"),
        node=Node(online=True, dns_name="moltis.tail.example.", user_id=7, tags=("tag:moltis",)),
        users={"7": UserProfile("you@example.org")},
    )
    told = with_state(TailnetView("embedded"), of_status(status, Situation()), status, 1.0)
    assert (told.hostname, told.tailnet, told.login_name) == ("moltis.tail.example", "example.org", "you@example.org")
    assert (told.version, told.addresses, told.tags) == ("1.102.5", ("100.64.0.1",), ("tag:moltis",))
    after = with_state(told, of_status(LOGIN, Situation()), LOGIN, 2.0)
    assert (after.hostname, after.addresses, after.tailnet) == ("", (), "")


def test_peers_come_online_first() -> None:
    """One that is offline shows when it was last online; Go's zero time is omitted."""
    status = Status(
        peers={
            "a": Node(dns_name="b.x.", last_seen="2026-11-01T00:00:00Z"),
            "b": Node(host_name="a", last_seen="0001-01-01T00:00:00Z"),
            "c": Node(dns_name="z.x.", online=True, ips=("100.64.0.3",), direct="192.0.2.1:5"),
        }
    )
    assert [(peer.name, peer.last_seen) for peer in peers_of(status)] == [
        ("z.x", ""),
        ("a", ""),
        ("b.x", "2026-11-01T00:00:00Z"),
    ]


@pytest.mark.parametrize(("days", "says"), [(40, False), (20, True), (3, True), (-1, False)])
def test_a_key_that_will_expire(days: int, says: bool) -> None:  # noqa: FBT001
    """It is reported weeks ahead, but not months ahead, and no more once it has expired."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    at = (now + timedelta(days=days)).isoformat().replace("+00:00", "Z")
    assert bool(expiry_words(key_expiry(Status(node=Node(key_expiry=at))), now)) == says


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-12-01T01:30:00+02:00", "in 6 days, at 2026-11-30 23:30 UTC"),
        ("2026-11-30T23:30:00.123456789Z", "in 6 days, at 2026-11-30 23:30 UTC"),
        ("9999-12-31T23:59:59-14:00", ""),
        ("next week", ""),
    ],
)
def test_the_end_of_a_key_is_told_in_utc(text: str, shown: str) -> None:
    """A control server may send it in another time zone, as Go does with a local time."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    told = expiry_words(key_expiry(Status(node=Node(key_expiry=text))), now)
    assert shown in told
    assert bool(shown) == bool(told)


def test_fields_of_a_later_version_are_ignored() -> None:
    """Unknown fields are accepted; missing ones have their defaults."""
    status = msgspec.json.decode(b'{"BackendState":"Running","New":{"a":1},"Self":{"Online":true,"X":2}}', type=Status)
    assert status.node is not None
    assert status.node.online
