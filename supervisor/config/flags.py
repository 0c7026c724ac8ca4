"""The flags in TS_EXTRA_ARGS (`tailscale up`) and TS_TAILSCALED_EXTRA_ARGS (`tailscaled`), read as Go reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config import parsers
from supervisor.config.diagnostics import Report, nearest, shown
from supervisor.config.parsers import UnfitError
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.config.parsers import Kind

UP = "TS_EXTRA_ARGS"
DAEMON = "TS_TAILSCALED_EXTRA_ARGS"

_IP = parsers.Kind("IP address", lambda text: _ip(text), "the IP address of the exit node")  # noqa: PLW0108 - below

UP_FLAGS: dict[str, Kind] = {
    "accept-dns": parsers.BOOLEAN,
    "accept-routes": parsers.BOOLEAN,
    "advertise-connector": parsers.BOOLEAN,
    "advertise-exit-node": parsers.BOOLEAN,
    "advertise-routes": parsers.ROUTES,
    "advertise-tags": parsers.TAGS,
    "exit-node": _IP,
    "exit-node-allow-lan-access": parsers.BOOLEAN,
    "hostname": parsers.HOST_NAME,
    "login-server": parsers.URL,
    "report-posture": parsers.BOOLEAN,
    "reset": parsers.BOOLEAN,
    "shields-up": parsers.BOOLEAN,
}
_KEYS = "a key on a command line can be read by every process"
_KERNEL = "it is about kernel networking, and here tailscaled runs in user space"
_ONE_CALL = "it is about one call of the tailscale program, which is not used here"
UP_REFUSED: dict[str, tuple[str, str]] = {
    "auth-key": (_KEYS, "use TS_AUTHKEY or TS_AUTHKEY_FILE"),
    "authkey": (_KEYS, "use TS_AUTHKEY or TS_AUTHKEY_FILE"),
    "client-id": ("it has a setting of its own", "use TS_CLIENT_ID"),
    "client-secret": (_KEYS, "use TS_CLIENT_SECRET or TS_CLIENT_SECRET_FILE"),
    "id-token": ("workload identity is not supported", "use TS_AUTHKEY, or TS_CLIENT_SECRET with TS_TAGS"),
    "audience": ("workload identity is not supported", "use TS_AUTHKEY, or TS_CLIENT_SECRET with TS_TAGS"),
    "ssh": (
        "Tailscale SSH would open a shell in the container past every guard",
        "remove it; use the panel, or the platform's console",
    ),
    "webclient": ("it would let peers change this node past the panel's sign-in", "remove it; use the panel"),
    "operator": ("it would let another user command tailscaled", "remove it; use the panel or the API"),
    "remote-config": ("it would hand the node to the tailnet's administrator", "remove it"),
    "auto-update": ("programs in an image are not updated in place", "remove it; use a newer image"),
    "update-check": ("programs in an image are not updated in place", "remove it; use a newer image"),
    "force-reauth": ("it would log in at every start", "remove it; use Forget and Connect in the panel"),
    "accept-risk": (_ONE_CALL, "remove it"),
    "json": (_ONE_CALL, "remove it"),
    "qr": (_ONE_CALL, "remove it; the panel shows the code"),
    "qr-format": (_ONE_CALL, "remove it; the panel shows the code"),
    "timeout": (_ONE_CALL, "remove it; SUPERVISOR_TAILNET_GRACE says when health fails"),
    "host-routes": (_KERNEL, "remove it"),
    "linux-bypass-mark": (_KERNEL, "remove it"),
    "linux-fwmark-mask": (_KERNEL, "remove it"),
    "linux-subnet-route-mark": (_KERNEL, "remove it"),
    "netfilter-mode": (_KERNEL, "remove it"),
    "snat-subnet-routes": (_KERNEL, "remove it"),
    "stateful-filtering": (_KERNEL, "remove it"),
    "unattended": ("it is for Windows", "remove it"),
}

_VALUED = frozenset(
    [
        "auth-key",
        "authkey",
        "client-id",
        "client-secret",
        "id-token",
        "audience",
        "operator",
        "accept-risk",
        "qr-format",
        "timeout",
        "linux-bypass-mark",
        "linux-fwmark-mask",
        "linux-subnet-route-mark",
        "netfilter-mode",
    ]
)

DAEMON_SWITCHES = frozenset({"cleanup", "encrypt-state", "hardware-attestation", "no-logs-no-support", "version"})
DAEMON_FLAGS = DAEMON_SWITCHES | {
    "bird-socket",
    "outbound-http-proxy-listen",
    "socks5-server",
    "syspolicy-file",
    "verbose",
}
_PROXIES = frozenset({"outbound-http-proxy-listen", "socks5-server"})
# Networking in user space leads every peer to the same port of 127.0.0.1.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "0.0.0.0", "::", ""})
_PLAN = "the plan sets it"
DAEMON_REFUSED: dict[str, tuple[str, str]] = {
    "tun": (_PLAN + ": networking is always in user space", "remove it"),
    "socket": (_PLAN, "use TS_SOCKET"),
    "state": (_PLAN, "use TS_STATE_DIR, which also takes mem:"),
    "statedir": (_PLAN, "use TS_STATE_DIR"),
    "port": (_PLAN, "remove it"),
    "debug": ("its debug server would be open to every tailnet peer", "remove it; use /metrics"),
    "config": (
        "a configuration file would lock the settings that the supervisor makes",
        "use TS_HOSTNAME, TS_TAGS, TS_ROUTES and TS_EXTRA_ARGS",
    ),
    "cleanup": ("tailscaled would end at once with it", "remove it"),
    "version": ("tailscaled would end at once with it", "remove it"),
    "ssh": ("it is no flag of tailscaled, and Tailscale SSH is not offered", "remove it"),
    "webclient": ("it is no flag of tailscaled, and its web client is not offered", "remove it; use the panel"),
}


class Flag(NamedTuple):
    """One flag as given; ``text`` is None where it has no value."""

    name: str
    text: str | None


def parse_up(words: Sequence[str], report: Report) -> dict[str, object]:
    """Return the values of `tailscale up` flags by name; the last of a name counts, as in Go."""
    values: dict[str, object] = {}
    switches = {name for name, kind in UP_FLAGS.items() if kind is parsers.BOOLEAN} | _switches_among(UP_REFUSED)
    for flag in _flags(words, switches, UP, report):
        if flag.name in UP_REFUSED:
            report.problem(f"honour --{flag.name} in {UP}", *UP_REFUSED[flag.name])
        elif flag.name not in UP_FLAGS:
            hint = nearest(flag.name, UP_FLAGS)
            report.problem(
                f"honour --{flag.name} in {UP}", f"no such flag is known{hint}", f"write one of {_list(UP_FLAGS)}"
            )
        else:
            _read(flag, UP_FLAGS[flag.name], values, report)
    if values.get("exit-node-allow-lan-access") and not values.get("exit-node"):
        report.problem(
            f"honour --exit-node-allow-lan-access in {UP}", "there is no --exit-node", "add one, or remove it"
        )
    return values


def check_daemon(words: Sequence[str], report: Report) -> None:
    """Check the flags for tailscaled."""
    for flag in _flags(words, set(DAEMON_SWITCHES), DAEMON, report):
        if flag.name in DAEMON_REFUSED:
            report.problem(f"honour --{flag.name} in {DAEMON}", *DAEMON_REFUSED[flag.name])
        elif flag.name not in DAEMON_FLAGS:
            hint = nearest(flag.name, DAEMON_FLAGS)
            report.warnings.append(
                f"--{flag.name} in {DAEMON} is not known{hint}; tailscaled does not start with a wrong flag"
            )
        elif flag.text is None and flag.name not in DAEMON_SWITCHES:
            report.problem(f"use --{flag.name} in {DAEMON}", "it has no value", f"write --{flag.name}=VALUE")
        elif flag.name in _PROXIES and flag.text:
            warn_of_open_door(f"--{flag.name} in {DAEMON}", flag.text.rpartition(":")[0].strip("[]"), report)


def warn_of_open_door(setting: str, host: str, report: Report) -> None:
    """Tell when a proxy listens where every tailnet peer reaches it."""
    if host in LOOPBACK:
        report.warnings.append(
            f"{setting} listens on {host or 'every address'}: an open door for every tailnet peer, through which it "
            "reaches everything in here; use 127.0.0.2 or [::1]"
        )


def _flags(words: Sequence[str], switches: set[str], setting: str, report: Report) -> tuple[Flag, ...]:
    """Split words into flags by the rules of Go: one dash or two, a value after = or as the next word."""
    found: list[Flag] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, text = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name or word.startswith("---"):
            report.problem(
                f"use {shown(word)} in {setting}", "it is not a flag", "write --FLAG or --FLAG=VALUE, nothing else"
            )
        elif equals:
            found.append(Flag(name, text))
        elif name in switches or not rest or rest[0].startswith("-"):
            found.append(Flag(name, None))
        else:
            found.append(Flag(name, rest.pop(0)))
    return tuple(found)


def _read(flag: Flag, kind: Kind, values: dict[str, object], report: Report) -> None:
    text = "true" if flag.text is None and kind is parsers.BOOLEAN else flag.text
    if text is None:
        report.problem(f"use --{flag.name} in {UP}", "it has no value", f"write --{flag.name}= and {kind.form}")
        return
    try:
        values[flag.name] = kind.parse(text) if text else None
    except UnfitError as error:
        report.problem(f"use --{flag.name}={shown(text)} in {UP}", str(error), f"write {kind.form}")


def _switches_among(flags: Mapping[str, object]) -> set[str]:
    return set(flags) - _VALUED


def _ip(text: str) -> str:
    if not parsers.is_ip(text):
        raise UnfitError("it is not an IP address")
    return text


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(f"--{name}" for name in names)
