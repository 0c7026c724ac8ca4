"""The pure parts of the link: what is done next, how often a key is tried, when an outage gets help, names, wishes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.model import Prefs
from supervisor.tailnet import attempt as attempts
from supervisor.tailnet import naming, remedies, wishes
from supervisor.tailnet.attempt import Attempt
from supervisor.tailnet.course import DISCONNECTED, FORGOTTEN, UNKNOWN, Act, Facts, Key, decide
from supervisor.tailnet.remedies import Outage, Remedy, follow
from supervisor.tailnet.wire import Node

STATES = ("NoState", "InUseOtherUser", "NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting", "Running", "Later")
PREFS = Prefs(
    hostname="moltis",
    tags=("tag:moltis",),
    routes=("10.0.0.0/8",),
    accept_dns=False,
    accept_routes=False,
    advertise_exit_node=False,
    advertise_connector=False,
    exit_node="",
    exit_node_allow_lan_access=False,
    shields_up=False,
    report_posture=False,
    login_server="",
)


@pytest.mark.parametrize(
    ("facts", "act"),
    [
        (Facts("NeedsLogin", key=Key.DUE), Act.LOG_IN),
        (Facts("NeedsLogin", key=Key.WAITS), Act.NOTHING),
        (Facts("NeedsLogin", url_wanted=True), Act.ASK_URL),
        (Facts("NeedsLogin", url_wanted=True, url_asked=True), Act.NOTHING),
        (Facts("NeedsLogin", key=Key.DUE, url_asked=True), Act.LOG_IN),
        (Facts("NeedsLogin", key_given_up=True), Act.GIVE_UP),
        (Facts("NeedsLogin", "disconnected", key=Key.DUE), Act.NOTHING),
        (Facts("NeedsLogin", "disconnected", key_given_up=True), Act.SWITCH_OFF),
        (Facts("NeedsLogin", "forgotten", key=Key.DUE), Act.NOTHING),
        (Facts("NeedsLogin", "forgotten", have_node_key=True), Act.LOG_OUT),
        (Facts("Running"), Act.NOTHING),
        (Facts("Running", adjusted=False), Act.ADJUST),
        (Facts("Running", key=Key.DUE), Act.NOTHING),
        (Facts("Running", key=Key.DUE, again=True), Act.LOG_IN),
        (Facts("Running", "disconnected"), Act.SWITCH_OFF),
        (Facts("Running", "forgotten"), Act.LOG_OUT),
        (Facts("Stopped"), Act.SWITCH_ON),
        (Facts("Stopped", passive=True), Act.NOTHING),
        (Facts("Stopped", "disconnected"), Act.NOTHING),
        (Facts("Stopped", "forgotten"), Act.LOG_OUT),
        (Facts("NoState", "disconnected"), Act.NOTHING),
        (Facts("NeedsLogin", "forgotten", key_given_up=True), Act.GIVE_UP),
        (Facts("Running", have_node_key=True, logged_out=True), Act.KEEP_LOGIN),
        (Facts("NeedsLogin", have_node_key=True, logged_out=True, key=Key.DUE), Act.KEEP_LOGIN),
        (Facts("NeedsLogin", have_node_key=True, logged_out=True, key=Key.DUE, again=True), Act.LOG_IN),
        (Facts("Running", have_node_key=True, logged_out=True, again=True, trying=True), Act.NOTHING),
        (Facts("NeedsLogin", logged_out=True, key=Key.DUE), Act.LOG_IN),
        (Facts("Stopped", have_node_key=True, logged_out=True, passive=True), Act.NOTHING),
        (Facts("Running", "disconnected", have_node_key=True, logged_out=True), Act.SWITCH_OFF),
        (Facts("Later", key=Key.DUE), Act.NOTHING),
    ],
)
def test_what_is_done_next(facts: Facts, act: Act) -> None:
    """Each case by itself."""
    assert decide(facts) is act


def test_no_one_is_logged_in_against_their_will() -> None:
    """Whatever the state and the key: who chose to be away is never connected."""
    flags = itertools.product([True, False], repeat=5)
    for state, key, (one, two, three, four, five) in itertools.product(STATES, Key, flags):
        for choice in (DISCONNECTED, FORGOTTEN, UNKNOWN):
            for logged_out in (True, False):
                act = decide(Facts(state, choice, one, key, two, three, four, five, logged_out=logged_out))
                assert act in {Act.NOTHING, Act.SWITCH_OFF, Act.LOG_OUT, Act.GIVE_UP}
                assert act is Act.NOTHING or choice != UNKNOWN


def test_three_refusals_end_a_round() -> None:
    """The reason shows at the first; being told to wait is none; the next round comes after 1, 2, 4, 8, 15 minutes."""
    attempt = Attempt()
    now_s = 0.0
    waits = []
    for _ in range(6):
        assert attempt.due(b"key", now_s)
        attempt = attempts.begin(attempt, b"key", now_s)
        attempt = attempts.refused(attempt, "node registration rate limited; will retry after 3s", now_s)
        assert attempt.under_way
        attempt = attempts.refused(attempt, "authkey expired", now_s)
        assert (attempt.kind, attempt.refusals) == ("expired", 1)
        attempt = attempts.refused(attempts.refused(attempt, "authkey expired", now_s), "authkey expired", now_s)
        assert not attempt.under_way
        assert attempt.next_try_s is not None
        assert not attempt.due(b"key", attempt.next_try_s - 1)
        assert attempt.due(b"another", now_s)
        waits.append((attempt.next_try_s - now_s) / 60)
        now_s = attempt.next_try_s
    assert waits == [1, 2, 4, 8, 15, 15]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("invalid key: API key kX not valid", "invalid"),
        ("invalid authkey", "invalid"),
        ("authkey expired", "expired"),
        ("authkey already used", "used up"),
        ("requested tags [tag:x] are invalid or not permitted", "tag not permitted"),
    ],
)
def test_what_a_refusal_comes_down_to(text: str, kind: str) -> None:
    """In the words of the real service and of headscale."""
    assert attempts.kind_of(text) == kind


def test_a_login_that_does_not_last_is_not_repeated_without_end() -> None:
    """The first is repeated at once, the later ones after growing waits."""
    attempt = attempts.succeeded(attempts.begin(Attempt(), b"k", 0.0), 1.0)
    assert attempt.due(b"k", 1.0)
    attempt = attempts.succeeded(attempts.begin(attempt, b"k", 1.0), 2.0)
    assert not attempt.due(b"k", 50.0)
    assert attempt.due(b"k", 62.0)


def test_a_restart_of_tailscaled_costs_no_round() -> None:
    """What it had been given is given again at once."""
    attempt = attempts.interrupted(attempts.begin(Attempt(), b"k", 0.0))
    assert attempt.due(b"k", 0.0)


@given(st.lists(st.tuples(st.floats(0.1, 900), st.booleans()), max_size=80))
def test_an_outage_is_never_helped_too_often(steps: list[tuple[float, bool]]) -> None:
    """The first help comes after a minute, or at once to a removed device; no two in less, and one restart at most."""
    outage: Outage | None = None
    softs: list[float] = []
    now_s, begun_s, restarts = 0.0, 0.0, 0
    for step_s, removed in steps:
        now_s += step_s
        begun_s = begun_s or now_s
        outage, remedy = follow(outage, now_s, away=True, removed=removed)
        if remedy is Remedy.SOFT:
            assert softs or removed or now_s - begun_s >= remedies.SOFT_AFTER_S
            softs.append(now_s)
        if removed:
            assert softs
        restarts += remedy is Remedy.RESTART
    assert restarts <= 1
    assert all(later - sooner >= remedies.SOFT_AFTER_S for sooner, later in itertools.pairwise(softs))
    assert follow(outage, now_s, away=False) == (None, None)


def test_a_key_that_cannot_be_had_is_asked_for_less_and_less_often() -> None:
    """Whoever gives keys out is not helped by being asked."""
    attempt, waits = Attempt(), []
    for _ in range(5):
        attempt = attempts.unavailable(attempt, b"k", "not now", 0.0)
        assert attempt.next_try_s is not None
        waits.append(attempt.next_try_s)
    assert waits == sorted(set(waits))


@pytest.mark.parametrize(
    ("dns_name", "hostname", "suffixed"),
    [
        ("moltis-1.tail.example.", "moltis", True),
        ("moltis-12.tail.example.", "Moltis", True),
        ("moltis.tail.example.", "moltis", False),
        ("moltis-web.tail.example.", "moltis", False),
        ("moltis-1.tail.example.", "moltis-1", False),
        ("my-app-1.tail.example.", "my_app", True),
        ("", "moltis", False),
    ],
)
def test_names(dns_name: str, hostname: str, suffixed: bool) -> None:  # noqa: FBT001
    """A number behind the name is control's doing; anything else is another name."""
    assert naming.is_suffixed(dns_name, hostname) is suffixed


def test_who_has_the_name() -> None:
    """The device that is called just that."""
    peers = [Node(dns_name="moltis-2.x."), Node(dns_name="moltis.x.", online=True)]
    assert naming.holder("Moltis", peers) is peers[1]
    assert naming.holder("other", peers) is None


def test_wishes_on_a_device_that_is_logged_in() -> None:
    """What differs is changed; tags and control server wait for the next login, and are told."""
    wanted = wishes.wanted(PREFS)
    current = {**wanted, "Hostname": "old", "AdvertiseTags": None, "ControlURL": "https://other", "Config": {"a": 1}}
    assert wishes.differing(current, wanted) == {"Hostname": "moltis"}
    assert len(wishes.at_next_login(current, wanted)) == 2
    assert wishes.for_login(current, wanted)["Hostname"] == "moltis"
    assert "Config" not in wishes.for_login(current, wanted)


def test_an_exit_node_is_two_routes() -> None:
    """Offering one is offering all there is."""
    wanted = wishes.wanted(PREFS._replace(advertise_exit_node=True))
    assert wanted["AdvertiseRoutes"] == ["10.0.0.0/8", "0.0.0.0/0", "::/0"]


def test_doors_stay_closed() -> None:
    """No shell, no control page, no remote control, no other user in command."""
    wanted = wishes.wanted(PREFS)
    assert not any(wanted[name] for name in ("RunSSH", "RunWebClient", "RemoteConfig", "OperatorUser"))
