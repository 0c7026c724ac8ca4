"""Names and preferences: those requested, and those of the device."""

from __future__ import annotations

import pytest

from supervisor.config.settings import Prefs
from supervisor.tailnet import preferences, view
from supervisor.tailnet.wire import Node

PREFS = Prefs(
    hostname="moltis",
    advertise_tags=("tag:moltis",),
    advertise_routes=("10.0.0.0/8",),
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
    """A number after the name was added by control; anything else is a different name."""
    assert view.is_suffixed(dns_name, hostname) is suffixed


def test_who_has_the_name() -> None:
    """It is the device with exactly this name."""
    peers = [Node(dns_name="moltis-2.x."), Node(dns_name="moltis.x.", online=True)]
    assert view.holder("Moltis", peers) is peers[1]
    assert view.holder("other", peers) is None


def test_wishes_on_a_device_that_is_logged_in() -> None:
    """Differences are applied; tags and control server wait for the next login, and are reported."""
    wanted = preferences.wanted(PREFS)
    current = {**wanted, "Hostname": "old", "AdvertiseTags": None, "ControlURL": "https://other", "Config": {"a": 1}}
    assert preferences.differing(current, wanted) == {"Hostname": "moltis"}
    assert len(preferences.at_next_login(current, wanted)) == 2
    assert preferences.for_login(current, wanted)["Hostname"] == "moltis"
    assert "Config" not in preferences.for_login(current, wanted)


def test_an_exit_node_is_two_routes() -> None:
    """Offering one means advertising the default routes of IPv4 and IPv6."""
    wanted = preferences.wanted(PREFS._replace(advertise_exit_node=True))
    assert wanted["AdvertiseRoutes"] == ["10.0.0.0/8", "0.0.0.0/0", "::/0"]
    twice = preferences.wanted(PREFS._replace(advertise_exit_node=True, advertise_routes=("::/0", "0.0.0.0/0")))
    assert twice["AdvertiseRoutes"] == ["::/0", "0.0.0.0/0"]


def test_doors_stay_closed() -> None:
    """No shell, no control page, no remote control, no other user in command."""
    wanted = preferences.wanted(PREFS)
    assert not any(wanted[name] for name in ("RunSSH", "RunWebClient", "RemoteConfig", "OperatorUser"))


@pytest.mark.parametrize("theirs", [True, None])
def test_updates_stay_off(theirs: bool | None) -> None:  # noqa: FBT001
    """They are switched off on purpose: unset, the tailnet's default applies. Whether to look for them stays."""
    wanted = preferences.wanted(PREFS)
    current = {**wanted, "AutoUpdate": {"Check": True, "Apply": theirs}}
    assert preferences.for_login(current, wanted)["AutoUpdate"] == {"Check": True, "Apply": False}
    changes = preferences.differing(current, wanted)
    assert preferences.masked(changes) == {"AutoUpdate": {"Apply": False}, "AutoUpdateSet": {"ApplySet": True}}
    assert not preferences.differing(preferences.for_login(current, wanted), wanted)
    assert not preferences.on_purpose(current, wanted, {"hostname", "advertise-routes"}).keys() & {"AutoUpdate"}
