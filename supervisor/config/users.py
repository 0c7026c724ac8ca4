"""The machine as the plan sees it, and the users that processes run as."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from supervisor.core.process import User
from supervisor.namedtuples import NamedTuple
from supervisor.system import kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.config.parsers import SecretSource
    from supervisor.config.settings import Settings
    from supervisor.core.process import ProcessSpec
    from supervisor.errors import Diagnostics

# capabilities(7): their bits in the mask.
CAPABILITIES = {"KILL": 5, "SETGID": 6, "SETUID": 7}
# Userspace networking forwards each tailnet peer to 127.0.0.1.
APP_LOOPBACK = "127.0.0.2"
# The scope of an address in /proc/net/if_inet6 (IPV6_ADDR_SCOPE_GLOBAL).
_GLOBAL = b"00"
_SHARED_STATE = (
    "tailscaled's state and socket are open to the processes that run as the same user; "
    "start as root, with a user for each, to prevent that"
)


class Host:
    """The machine; tests replace it."""

    def __init__(self) -> None:
        self.uid = os.geteuid()
        self.cwd = _working_directory()

    @property
    def home(self) -> str:
        """Return the home directory of this process."""
        try:
            return pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return "/"

    def find_user(self, name: str) -> User | None:
        """Return the user of a name or number."""
        try:
            entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdecimal() else pwd.getpwnam(name)
        except (KeyError, OverflowError, ValueError):
            return None
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)

    def groups_of(self, user: User) -> frozenset[int]:
        """Return the ids of every group a user is in."""
        return frozenset(os.getgrouplist(user.name, user.gid))

    def missing_capabilities(self) -> tuple[str, ...]:
        """Return the capabilities for changing users and stopping processes that this process lacks."""
        mask = kernel.effective_capabilities()
        return tuple(name for name, bit in CAPABILITIES.items() if mask is not None and not mask >> bit & 1)

    def missing_ids(self, user: User) -> tuple[str, ...]:
        """Return what this container's user namespace lacks to run a process as a user."""
        return kernel.missing_ids(user.uid, self.groups_of(user))

    def folder_exists(self, path: str) -> bool:
        """Tell whether a folder exists."""
        return os.path.isdir(path)

    def outlives_container(self, path: str) -> bool:
        """Tell whether a folder is a mount, other than one in memory."""
        # Loaded when needed: few starts ask.
        from supervisor.system.mounts import IN_MEMORY, file_system

        return os.path.ismount(path) and file_system(path)[1] not in IN_MEMORY

    def keeps_state(self, settings: Settings) -> bool:
        """Tell whether tailscaled's state outlives the container: it is in the backups, or in such a mount."""
        is_backed_up = settings.backup is not None and settings.tailnet.mode == "embedded"
        return is_backed_up or self.outlives_container(settings.tailnet.state_dir)

    def free_port(self, address: str) -> int:
        """Return a TCP port of an address that is free now; 0 if there is none."""
        return free_port(address)

    def private_address(self) -> str:
        """Return a loopback address that no tailnet peer reaches."""
        return "::1" if not self.free_port(APP_LOOPBACK) and self.free_port("::1") else APP_LOOPBACK

    def wildcard(self) -> str:
        """Return the wildcard address for a program that binds one: IPv6's if the machine's network is IPv6 only.

        The network is that with a route out, else an inner one, else loopback.
        """
        for families in (_routes_out, _inner_networks):
            ipv4, ipv6 = families()
            if ipv4 or ipv6:
                return "0.0.0.0" if ipv4 else "::"
        return "::" if self.private_address() == "::1" else "0.0.0.0"


def free_port(address: str) -> int:
    """Return a TCP port of an address that is free now; 0 if there is none."""
    import socket

    try:
        with socket.socket(family_of(address), socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
            return int(probe.getsockname()[1])
    except OSError:
        return 0


def family_of(address: str) -> int:
    """Return the socket family of an IP address."""
    import socket

    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _routes_out() -> tuple[bool, bool]:
    """Tell whether IPv4 has a route out, and whether IPv6 has one."""
    return _has_route("192.0.2.1"), _has_route("2001:db8::1")


def _inner_networks() -> tuple[bool, bool]:
    """Tell whether IPv4 has a route to any network, and whether an IPv6 address is neither loopback nor link-local."""
    # Loaded when needed: few machines have no route out.
    from supervisor.system.procfs import read

    routes = read("/proc/net/route").splitlines()[1:]
    addresses = read("/proc/net/if_inet6").splitlines()
    return bool(routes), any(line.split()[3:4] == [_GLOBAL] for line in addresses)


def _has_route(address: str) -> bool:
    """Tell whether there is a route to an address; nothing is sent."""
    import socket

    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


class Users(NamedTuple):
    """The users that processes run as, None for the supervisor's own; ``extra`` is by process name."""

    tailscale: User | None
    app: User | None
    extra: dict[str, User | None]


def choose(settings: Settings, environ: Mapping[str, str], host: Host, diags: Diagnostics) -> Users:
    """Return the user of each process, and report those that do not exist."""
    wanted = {process.name: process.user for process in settings.processes}
    if host.uid != 0:
        _report_not_root(settings, environ, host, diags)
        return Users(None, None, dict.fromkeys(wanted))
    has_tailscaled = settings.tailnet.mode == "embedded"
    # A panel beside a sidecar starts nothing.
    has_children = has_tailscaled or settings.app.enabled or bool(settings.processes)
    missing = host.missing_capabilities() if has_children else ()
    if missing:
        diags.problem(
            "run children as other users and stop them",
            f"this is root without the capabilities {', '.join(missing)}",
            "add SETUID, SETGID and KILL to the container's capabilities, or start it as another user "
            "(docker run --user 1000)",
        )
    tailscale = app = None
    if has_tailscaled:
        tailscale = _with_default(settings.tailnet.user, "tailscale", "SUPERVISOR_TAILSCALE_USER", host, diags)
    if settings.app.enabled or settings.app.user is not None or None in wanted.values():
        app = _with_default(settings.app.user, "moltis", "SUPERVISOR_APP_USER", host, diags)
    extra = {
        name: app if user is None else _named(user, f"user in [process.{name}]", host, diags)
        for name, user in wanted.items()
    }
    for user in dict.fromkeys(user for user in (tailscale, app, *extra.values()) if user is not None):
        _report_missing_ids(user, host, diags)
    others = [*([app] if settings.app.enabled else []), *extra.values()]
    shared_with = None if tailscale is None else tailscale.uid
    if has_tailscaled and any(other is None or other.uid == shared_with for other in others):
        diags.note(_SHARED_STATE)
    if app is None and (settings.app.enabled or None in wanted.values()):
        _report_readable_secrets(settings, environ, "run it as another user than root (SUPERVISOR_APP_USER)", diags)
    return Users(tailscale, app, extra)


def _report_missing_ids(user: User, host: Host, diags: Diagnostics) -> None:
    missing = host.missing_ids(user)
    if missing:
        diags.problem(
            f"run processes as {user.name}",
            f"the container's user namespace lacks {', '.join(missing)}, as without root on the host and with too few "
            "subordinate ids",
            "give it more ids (/etc/subuid and /etc/subgid on the host), or run everything as the supervisor itself: "
            "SUPERVISOR_APP_USER=root and SUPERVISOR_TAILSCALE_USER=root",
        )


def mark_shared(specs: Sequence[ProcessSpec]) -> tuple[ProcessSpec, ...]:
    """Return the processes with ``shares_user`` set where another runs as the same user."""
    uids = [spec.user.uid if spec.user else None for spec in specs]
    return tuple(
        spec._replace(shares_user=uid is None or uids.count(uid) > 1) for spec, uid in zip(specs, uids, strict=True)
    )


def _with_default(name: str | None, default: str, setting: str, host: Host, diags: Diagnostics) -> User | None:
    if name is not None:
        return _named(name, setting, host, diags)
    user = host.find_user(default)
    if user is None:
        diags.note(f"there is no user {default}: its processes run as the supervisor itself ({setting})")
    return _unless_own(user, host)


def _named(name: str, setting: str, host: Host, diags: Diagnostics) -> User | None:
    user = host.find_user(name)
    if user is None:
        diags.problem(f"use {setting} {name!r}", "there is no such user", "create it in the image, or name another one")
    return _unless_own(user, host)


def _unless_own(user: User | None, host: Host) -> User | None:
    return None if user is None or user.uid == host.uid else user


def _report_not_root(settings: Settings, environ: Mapping[str, str], host: Host, diags: Diagnostics) -> None:
    if settings.app.enabled or settings.processes:
        if settings.tailnet.mode == "embedded":
            diags.note(f"not started as root: {_SHARED_STATE}")
        _report_readable_secrets(settings, environ, "start as root, with a user for each", diags)
    named = [("SUPERVISOR_TAILSCALE_USER", settings.tailnet.user), ("SUPERVISOR_APP_USER", settings.app.user)]
    named += [(f"user in [process.{process.name}]", process.user) for process in settings.processes]
    for setting, name in named:
        user = host.find_user(name) if name is not None else None
        if name is not None and (user is None or user.uid != host.uid):
            diags.warn(f"{setting} has no effect: only root can run children as other users")


def _report_readable_secrets(settings: Settings, environ: Mapping[str, str], remedy: str, diags: Diagnostics) -> None:
    """Report the secrets that the app can read because it runs as the same user; its own password is excepted."""
    secrets = [source for source in settings.secrets if source != settings.app.password]
    values = " and ".join(source.name for source in secrets if is_in_environment(source, environ))
    if values:
        diags.warn(
            f"the app can read {values}: it is in the environment of every health check and command, which run as "
            f"the app's own user here; {remedy}"
        )
    in_config = " and ".join(
        source.name for source in secrets if source.path is None and not is_in_environment(source, environ)
    )
    files = [source.path for source in secrets if source.path is not None]
    readable = [*files, *([f"{in_config} in {settings.config_path}"] if in_config else [])]
    diags.note(
        *(
            f"the app can read {what}, which its user has to be able to read here; {remedy}, to prevent that"
            for what in readable
        )
    )


def is_in_environment(source: SecretSource, environ: Mapping[str, str]) -> bool:
    """Tell whether a secret itself is in the environment, and not in a file or the TOML file."""
    return source.path is None and bool(environ.get(source.name, "").strip())
