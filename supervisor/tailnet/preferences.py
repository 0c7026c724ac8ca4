"""The preferences that the settings ask for, in tailscaled's terms (ipn.Prefs). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.characters import printable
from supervisor.config.parsers import EXIT_ROUTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from supervisor.config.settings import Prefs
    from supervisor.tailnet.wire import Json

DEFAULT_CONTROL = "https://controlplane.tailscale.com"
# Changed only by a login, because control evaluates them then.
_AT_LOGIN = frozenset({"ControlURL", "AdvertiseTags", "WantRunning", "LoggedOut"})
# The flags or settings that set a preference. A preference without any is never changed in a sidecar.
_FLAGS_OF = {
    "ControlURL": ("login-server",),
    "Hostname": ("hostname",),
    "AdvertiseTags": ("advertise-tags",),
    "AdvertiseRoutes": ("advertise-routes", "advertise-exit-node"),
    "CorpDNS": ("accept-dns",),
    "RouteAll": ("accept-routes",),
    "ExitNodeIP": ("exit-node",),
    "ExitNodeID": ("exit-node",),
    "ExitNodeAllowLANAccess": ("exit-node-allow-lan-access",),
    "ShieldsUp": ("shields-up",),
    "PostureChecking": ("report-posture",),
    "AppConnector": ("advertise-connector",),
}


def wanted(prefs: Prefs) -> dict[str, Any]:
    """Return all preferences that the supervisor sets.

    The last five stay off: SSH, a web client, and remote control that would bypass the panel's sign-in, and updates of
    a program that belongs to an image.
    """
    routes = [*prefs.advertise_routes, *(EXIT_ROUTES if prefs.advertise_exit_node else ())]
    return {
        "ControlURL": prefs.login_server or DEFAULT_CONTROL,
        "WantRunning": True,
        "LoggedOut": False,
        "Hostname": prefs.hostname,
        "AdvertiseTags": list(prefs.advertise_tags) or None,
        "AdvertiseRoutes": list(dict.fromkeys(routes)) or None,
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
        "AutoUpdate": {"Apply": False},
    }


def for_login(current: Json, wishes: Mapping[str, Any]) -> Json:
    """Return the full preferences for a start (ipn.Options): the current ones with ours applied."""
    whole = {name: value for name, value in current.items() if name != "Config"}
    return whole | {name: _merged(whole.get(name), value) for name, value in wishes.items()}


def on_purpose(current: Json, wishes: Mapping[str, Any], given: AbstractSet[str]) -> dict[str, Any]:
    """Return the preferences that the flags ``given`` set explicitly; a sidecar keeps its other ones."""
    chosen = {name: value for name, value in wishes.items() if not given.isdisjoint(_FLAGS_OF.get(name, ()))}
    if "AdvertiseRoutes" in chosen:
        # Two flags share it: the part of the flag that is not given keeps its value.
        ours = chosen["AdvertiseRoutes"] or ()
        own = [route for route in current.get("AdvertiseRoutes") or () if route not in ours]
        chosen["AdvertiseRoutes"] = [*ours, *(route for route in own if _flag_of(route) not in given)] or None
    return chosen


def of_sidecar(
    current: Json, before_logout: Json, wishes: Mapping[str, Any], given: AbstractSet[str]
) -> dict[str, Any]:
    """Return the preferences for logging a sidecar in: explicit ones, else its own.

    Our logout has cleared its own (``before_logout``). A sidecar that was never logged in gets our defaults.
    """
    base = before_logout if current.get("Config") or before_logout else wishes
    unset = {name: base[name] for name in wishes if name in base and not current.get(name)}
    return {**unset, **on_purpose({**current, **unset}, wishes, given), "WantRunning": True, "LoggedOut": False}


def differing(current: Json, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preferences to change on a device that is logged in."""
    changes = {}
    for name, value in wishes.items():
        if name in _AT_LOGIN:
            continue
        # An exit node set by address is returned by id.
        if name in {"ExitNodeIP", "ExitNodeID"} and wishes["ExitNodeIP"] and current.get("ExitNodeID"):
            continue
        # Unset is not off: the tailnet's default for updates applies then.
        unset = name == "AutoUpdate" and (current.get(name) or {}).get("Apply") is None
        if unset or not _same(current.get(name), value):
            changes[name] = value
    return changes


def masked(changes: Mapping[str, Any]) -> Json:
    """Return changes in the form that tailscaled takes (ipn.MaskedPrefs): each with a mark that it is to be set."""
    marks: Json = {f"{name}Set": True for name in changes}
    if "AutoUpdate" in changes:
        # Its fields are marked one by one.
        marks["AutoUpdateSet"] = {f"{field}Set": True for field in changes["AutoUpdate"]}
    return {**changes, **marks}


def at_next_login(current: Json, wishes: Mapping[str, Any]) -> list[str]:
    """Return a text about settings that differ from those of the device's last login."""
    said = []
    if "ControlURL" in wishes and _control(current.get("ControlURL")) != _control(wishes["ControlURL"]):
        said.append(
            f"the device is logged in at {_control(current.get('ControlURL'))}, not at {wishes['ControlURL']}; "
            "forget it and connect to log in there"
        )
    tags = wishes.get("AdvertiseTags", current.get("AdvertiseTags"))
    if sorted(current.get("AdvertiseTags") or ()) != sorted(tags or ()):
        said.append("TS_TAGS differ from those the device logged in with; forget it and connect to change them")
    return said


def _flag_of(route: str) -> str:
    return "advertise-exit-node" if route in EXIT_ROUTES else "advertise-routes"


def _control(url: object) -> str:
    return printable(str(url or DEFAULT_CONTROL)).rstrip("/")


def _merged(current: object, wish: object) -> object:
    return current | wish if isinstance(current, dict) and isinstance(wish, dict) else wish


def _same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(name), value) for name, value in other.items())
    if isinstance(one, list) and isinstance(other, list):
        return sorted(map(str, one)) == sorted(map(str, other))
    return one == other or (not one and not other)
