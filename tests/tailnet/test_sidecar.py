"""The pure functions for a sidecar: which preferences apply, and what is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core.tailnet import Action, TailnetMachine
from supervisor.tailnet import preferences
from supervisor.tailnet.localapi import ForbiddenError, life_of
from supervisor.tailnet.view import MAY_NOT, WHERE_IT_IS, Situation, down, of_status
from supervisor.tailnet.wire import Node, Status
from tests.config.machine import plan
from tests.tailnet.test_preferences import PREFS

if TYPE_CHECKING:
    from pathlib import Path

WANTED = preferences.wanted(PREFS)
THEIRS: dict[str, Any] = {
    "ControlURL": "https://headscale.example.com",
    "Hostname": "",
    "CorpDNS": True,
    "RouteAll": True,
    "RunSSH": True,
    "OperatorUser": "app",
    "AdvertiseTags": ["tag:theirs"],
    "AdvertiseRoutes": ["192.0.2.0/24", "0.0.0.0/0", "::/0"],
    "Config": {"NodeID": "n1"},
}
FRESH: dict[str, Any] = {"ControlURL": "", "Hostname": "", "CorpDNS": True, "RunSSH": False, "Config": None}


def settings(**environ: str) -> frozenset[str]:
    """Return the flags that these settings correspond to."""
    return plan({"SUPERVISOR_TAILSCALE": "attach", "TS_SOCKET": "/s", **environ}).settings.tailnet.prefs.given


@pytest.mark.parametrize(
    ("environ", "flags"),
    [
        ({}, set()),
        ({"TS_HOSTNAME": "", "SUPERVISOR_APP_NAME": "web"}, set()),
        ({"TS_HOSTNAME": "web", "TS_ACCEPT_DNS": "false"}, {"hostname", "accept-dns"}),
        ({"TS_EXTRA_ARGS": "--login-server=https://x.example.com"}, {"login-server"}),
        ({"TS_EXTRA_ARGS": "--advertise-tags= --accept-routes=false"}, {"advertise-tags", "accept-routes"}),
    ],
)
def test_what_is_set_on_purpose(environ: dict[str, str], flags: set[str]) -> None:
    """A flag or a setting with a value is explicit, even if it switches something off."""
    assert settings(**environ) == flags


def test_a_reset_speaks_of_everything() -> None:
    """As with `tailscale up`, all flags are set then."""
    assert {"hostname", "shields-up", "login-server"} < settings(TS_EXTRA_ARGS="--reset")


@pytest.mark.parametrize(
    ("given_flags", "changes"),
    [
        (set(), {}),
        ({"login-server", "advertise-tags"}, {}),
        ({"hostname"}, {"Hostname": "moltis"}),
        ({"accept-routes"}, {"RouteAll": False}),
        ({"advertise-routes"}, {"AdvertiseRoutes": ["10.0.0.0/8", "0.0.0.0/0", "::/0"]}),
    ],
)
def test_a_sidecars_own_preferences_stay(given_flags: set[str], changes: dict[str, Any]) -> None:
    """On a device that is logged in, only explicit settings are changed."""
    assert preferences.differing(THEIRS, preferences.on_purpose(THEIRS, WANTED, given_flags)) == changes


def test_an_exit_node_beside_a_sidecars_own_routes() -> None:
    """Each of the two flags leaves the routes of the other one alone."""
    wanted = preferences.wanted(PREFS._replace(advertise_routes=(), advertise_exit_node=False))
    chosen = preferences.on_purpose(THEIRS, wanted, {"advertise-exit-node"})
    assert chosen == {"AdvertiseRoutes": ["192.0.2.0/24"]}


def test_what_a_sidecar_logs_in_with() -> None:
    """A later login: its own. The first login: ours where it has none. After our logout: those it had before."""
    again = preferences.of_sidecar(THEIRS, {}, WANTED, set())
    assert again == {"WantRunning": True, "LoggedOut": False}
    first = preferences.of_sidecar(FRESH, {}, WANTED, set())
    assert (first["Hostname"], first["ControlURL"], first["AdvertiseTags"]) == (
        "moltis",
        preferences.DEFAULT_CONTROL,
        ["tag:moltis"],
    )
    assert "CorpDNS" not in first
    after = preferences.of_sidecar(FRESH, THEIRS, WANTED, {"advertise-tags"})
    assert (after["ControlURL"], after["Hostname"], after["RunSSH"]) == (THEIRS["ControlURL"], "", True)
    assert after["AdvertiseTags"] == ["tag:moltis"]


def test_what_differs_from_the_login_is_told_where_it_was_asked_for() -> None:
    """Other tags and another control server need a new login."""
    assert preferences.at_next_login(THEIRS, preferences.on_purpose(THEIRS, WANTED, set())) == []
    chosen = preferences.on_purpose(THEIRS, WANTED, {"login-server", "advertise-tags"})
    assert len(preferences.at_next_login(THEIRS, chosen)) == 2


@pytest.mark.parametrize(
    ("status", "about", "said"),
    [
        (Status(backend_state="NeedsLogin"), Situation(), True),
        (Status(backend_state="NeedsLogin"), Situation(TailnetMachine(url=True)), False),
        (Status(backend_state="Stopped"), Situation(), True),
        (Status(backend_state="Running", node=Node(online=True)), Situation(), False),
        (Status(backend_state="Running", node=Node(online=False)), Situation(), False),
        (Status(backend_state="NeedsMachineAuth"), Situation(), False),
    ],
)
def test_what_may_not_be_done_is_said(status: Status, about: Situation, said: bool) -> None:  # noqa: FBT001
    """It is given as the reason for the state, if an order of ours would end that state."""
    forbidden = str(ForbiddenError("no"))
    machine = about.machine._replace(due=Action.SWITCH_ON, forbidden=((Action.SWITCH_ON, forbidden),))
    meaning = of_status(status, about._replace(machine=machine))
    assert ((meaning.why, meaning.what_to_do) == (forbidden, MAY_NOT)) is said
    assert meaning.state == of_status(status, about).state


def test_a_sidecar_that_is_not_there() -> None:
    """Its output is not in this log, so people are sent elsewhere."""
    assert down("x", begun=False, attached=True).what_to_do == WHERE_IT_IS


def test_onelife_of_a_sidecar(tmp_path: Path) -> None:
    """Another socket at the same path counts as another tailscaled; without a socket there is none."""
    path = tmp_path / "socket"
    assert life_of(str(path)) is None
    path.touch()
    first = life_of(str(path))
    assert first == life_of(str(path))
    path.rename(tmp_path / "aside")
    path.touch()
    assert life_of(str(path)) not in {None, first}
