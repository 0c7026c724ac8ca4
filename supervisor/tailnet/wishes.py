"""The preferences that the settings ask for, in tailscaled's words (ipn.Prefs). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from supervisor.settings.model import Prefs
    from supervisor.tailnet.wire import Json

DEFAULT_CONTROL = "https://controlplane.tailscale.com"
EXIT_ROUTES = ("0.0.0.0/0", "::/0")
# Changed only by a login: control decides about them then.
_AT_LOGIN = frozenset({"ControlURL", "AdvertiseTags", "WantRunning", "LoggedOut"})
# Who set none of these on purpose does not want a sidecar's own changed.
_SETTING_OF = {"Hostname": "TS_HOSTNAME", "AdvertiseRoutes": "TS_ROUTES", "CorpDNS": "TS_ACCEPT_DNS"}
_FLAGS = "TS_EXTRA_ARGS"


def wanted(prefs: Prefs) -> dict[str, Any]:
    """Return every preference that is ours to say.

    The last four are closed doors: a shell, a control page, and remote control past the panel's sign-in.
    """
    routes = [*prefs.routes, *(EXIT_ROUTES if prefs.advertise_exit_node else ())]
    return {
        "ControlURL": prefs.login_server or DEFAULT_CONTROL,
        "WantRunning": True,
        "LoggedOut": False,
        "Hostname": prefs.hostname,
        "AdvertiseTags": list(prefs.tags) or None,
        "AdvertiseRoutes": routes or None,
        "CorpDNS": prefs.accept_dns,
        "RouteAll": prefs.accept_routes,
        "ExitNodeIP": prefs.exit_node,
        "ExitNodeID": "",
        "ExitNodeAllowLANAccess": prefs.exit_node_allow_lan_access,
        "ShieldsUp": prefs.shields_up,
        "PostureChecking": prefs.report_posture,
        "AppConnector": {"Advertise": prefs.advertise_connector},
        "RunSSH": False,
        "RunWebClient": False,
        "RemoteConfig": False,
        "OperatorUser": "",
    }


def for_login(current: Json, wishes: Mapping[str, Any]) -> Json:
    """Return the whole preferences to start with: those in force, with ours in them."""
    whole = {name: value for name, value in current.items() if name != "Config"}
    return whole | dict(wishes)


def differing(current: Json, wishes: Mapping[str, Any], given: Collection[str] | None) -> dict[str, Any]:
    """Return what is to be changed on a device that is logged in.

    ``given`` are the settings that were set on purpose, where the daemon is somebody else's; None where it is ours.
    """
    changes = {}
    for name, value in wishes.items():
        if name in _AT_LOGIN or (given is not None and _SETTING_OF.get(name, _FLAGS) not in given):
            continue
        # An exit node by address comes back as one by id.
        if name in {"ExitNodeIP", "ExitNodeID"} and wishes["ExitNodeIP"] and current.get("ExitNodeID"):
            continue
        if not _same(current.get(name), value):
            changes[name] = value
    return changes


def at_next_login(current: Json, wishes: Mapping[str, Any]) -> list[str]:
    """Return, for people, which settings differ from what the device was logged in with."""
    said = []
    if _control(current.get("ControlURL")) != _control(wishes["ControlURL"]):
        said.append(
            f"the device is logged in at {_control(current.get('ControlURL'))}, not at {wishes['ControlURL']}; "
            "forget it and connect to log in there"
        )
    if sorted(current.get("AdvertiseTags") or ()) != sorted(wishes["AdvertiseTags"] or ()):
        said.append("TS_TAGS differ from those the device logged in with; forget it and connect to change them")
    return said


def _control(url: object) -> str:
    return str(url or DEFAULT_CONTROL).rstrip("/")


def _same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(name), value) for name, value in other.items())
    if isinstance(one, list) and isinstance(other, list):
        return sorted(map(str, one)) == sorted(map(str, other))
    return one == other or (not one and not other)
