"""Makes the plan of a run from the settings and the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config import environment, users, warnings
from supervisor.config.diagnostics import Report, nearest
from supervisor.config.host import Host
from supervisor.config.load import Account, load
from supervisor.config.parsers import is_ip
from supervisor.config.plan import EVERYWHERE, SUPERVISOR, TAILSCALED, Address, Plan, port_settings
from supervisor.core.process import HttpProbe, ProcessSpec, TcpProbe
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.config.model import ExtraProcess, Settings
    from supervisor.config.users import Users
    from supervisor.core.process import User

# The port that firewalls are opened for in the field; a busy one makes tailscaled take another.
WIREGUARD_PORT = 41641
_SOCKET, _SOCKS5, _PROXY = "safesocket.Listen:", "SOCKS5 listener:", "HTTP proxy listener:"
_REFUSED, _NOT_OURS = "permission denied", "cannot assign requested address"
# What tailscaled 1.102 says, in one line, before it ends for a reason that trying again cannot mend.
TAILSCALED_FAILURES = (
    (("flag provided but not defined",), "it does not know a flag: mend TS_TAILSCALED_EXTRA_ARGS"),
    (("invalid value",), "it does not take the value of a flag: mend TS_TAILSCALED_EXTRA_ARGS"),
    (("does not take non-flag arguments",), "it was given a word that is no flag: mend TS_TAILSCALED_EXTRA_ARGS"),
    (
        (_SOCKET, _REFUSED),
        "its user may not make its socket: let it reach and write the folder of TS_SOCKET, or name another one",
    ),
    ((_SOCKET, "no such file"), "the folder of its socket is not there: make it, or set TS_SOCKET to another path"),
    ((_SOCKET, "read-only"), "its socket is to be on a read-only disk: mount a tmpfs there, or set TS_SOCKET"),
    ((_SOCKET, "in use"), "its socket is in use: end whatever uses it, or set TS_SOCKET to another path"),
    ((_SOCKET,), "it cannot make its socket: see its last lines, or set TS_SOCKET to another path"),
    ((_SOCKS5, _REFUSED), "it may not listen on that port: choose one from 1024 on in TS_SOCKS5_SERVER"),
    ((_SOCKS5, _NOT_OURS), "the machine has no such address: choose one that it has in TS_SOCKS5_SERVER"),
    ((_SOCKS5,), "it cannot listen on TS_SOCKS5_SERVER: choose another port"),
    ((_PROXY, _REFUSED), "it may not listen on that port: choose one from 1024 on in TS_OUTBOUND_HTTP_PROXY_LISTEN"),
    ((_PROXY, _NOT_OURS), "the machine has no such address: choose one that it has in TS_OUTBOUND_HTTP_PROXY_LISTEN"),
    ((_PROXY,), "it cannot listen on TS_OUTBOUND_HTTP_PROXY_LISTEN: choose another port"),
    (("getLocalBackend error",), "its state is damaged: remove tailscaled.state in TS_STATE_DIR, and log in again"),
    (("error reading config file",), "it cannot read its configuration file: mend TS_TAILSCALED_EXTRA_ARGS"),
    (("createEngine:",), "it cannot make its network engine: see its last lines"),
)
_PLANNED_FLAGS = {
    "tailnet": {"--bind": "SUPERVISOR_APP_BIND", "--port": "SUPERVISOR_APP_PORT"},
    "public": {"--bind": "SUPERVISOR_BIND", "--port": "PORT"},
}


def resolve(
    environ: Mapping[str, str],
    *,
    config: str | None = None,
    restart: str | None = None,
    command: Sequence[str] = (),
    host: Host | None = None,
) -> Plan:
    """Read the settings and return the plan.

    ``config``, ``restart`` and ``command`` are the command line's. Raises ConfigError with every problem there is.
    """
    host = host or Host()
    report = Report()
    settings = load(environ, report, config=config, restart=restart, account=Account(host.uid, _home(environ, host)))
    plan = build(settings, environ, command, host, report)
    report.raise_problems()
    return plan


def build(settings: Settings, environ: Mapping[str, str], command: Sequence[str], host: Host, report: Report) -> Plan:
    """Return the plan of these settings; what is wrong with it goes into the report."""
    chosen = users.choose(settings, host, report)
    listen, app_address = _addresses(settings, host, report)
    maker = _Maker(settings, environ, host, _home(environ, host), chosen)
    specs: list[ProcessSpec] = []
    if settings.tailnet.mode == "embedded":
        specs.append(maker.tailscaled())
    if settings.app.enabled and app_address is not None:
        specs.append(maker.app(command, app_address, report))
    specs += [maker.further(process) for process in settings.processes]
    _check_names(settings, specs, report)
    plan = Plan(
        settings=settings,
        processes=users.shared(specs),
        listen=listen,
        app_name=settings.app.name if settings.app.enabled else None,
        app_address=app_address,
        serve_target=_serve_target(settings, app_address),
        tailscale_user=chosen.tailscale,
        app_user=chosen.app,
        warnings=(),
        notices=(),
    )
    warnings.check(plan, environ, command, host, report)
    if settings.backup is not None:
        # Loaded where there are backups.
        from supervisor.config import backup_plan

        plan = plan._replace(backup=backup_plan.plan(plan, settings.backup, environ, command, host, report))
    return plan._replace(warnings=tuple(report.warnings), notices=tuple(report.notices))


class _Maker(NamedTuple):
    """Makes the single processes out of what they all depend on."""

    settings: Settings
    environ: Mapping[str, str]
    host: Host
    home: str
    users: Users

    def tailscaled(self) -> ProcessSpec:
        """Return tailscaled's."""
        tailnet, user = self.settings.tailnet, self.users.tailscale
        argv = ["tailscaled", "--tun=userspace-networking", f"--socket={tailnet.socket}", f"--port={WIREGUARD_PORT}"]
        if tailnet.in_memory:
            argv.append("--state=mem:")
        argv.append(f"--statedir={tailnet.state_dir}")
        if tailnet.socks5 is not None:
            argv.append(f"--socks5-server={Address(*tailnet.socks5)}")
        if tailnet.http_proxy is not None:
            argv.append(f"--outbound-http-proxy-listen={Address(*tailnet.http_proxy)}")
        return ProcessSpec(
            name=TAILSCALED,
            argv=(*argv, *tailnet.extra_args),
            env=environment.for_tailscaled(
                self.settings, self.environ, self.home, user, certificates=self._takes_certificates()
            ),
            cwd="/",
            user=user,
            stop_timeout_s=self.settings.stop_timeout_s,
            quit_before_kill=True,
            parent_death_fd=True,
            known_failures=TAILSCALED_FAILURES,
            backoff=self.settings.backoff,
            give_up=self.settings.give_up,
            hung_after_s=None,
        )

    def _takes_certificates(self) -> bool:
        """Tell whether HTTPS may be served. A name gets few certificates; a new one for each container is too many."""
        tailnet = self.settings.tailnet
        if tailnet.serve_config is None and tailnet.serve == "auto":
            return self.settings.backup is not None or self.host.outlives_container(tailnet.state_dir)
        return tailnet.serve_config is not None or tailnet.serve != "http"

    def app(self, command: Sequence[str], address: Address, report: Report) -> ProcessSpec:
        """Return the app's: its own command with what it needs to be told, or another one word for word."""
        app, user = self.settings.app, self.users.app
        built_in = not command or command[0].startswith("-")
        return ProcessSpec(
            name=app.name,
            argv=_built_in_command(self.settings, command, address, report) if built_in else tuple(command),
            env=environment.for_app(self.settings, self.environ, self.home, user, address),
            cwd=self._working_directory(user),
            user=user,
            critical=True,
            restart=app.restart,
            stop_timeout_s=self.settings.stop_timeout_s,
            backoff=self.settings.backoff,
            give_up=self.settings.give_up,
            probe=_app_probe(app.health_url, inside(address), built_in=built_in),
            hung_after_s=app.hung_after_s,
        )

    def further(self, process: ExtraProcess) -> ProcessSpec:
        """Return that of a TOML table."""
        user, limit_s = self.users.further[process.name], process.stop_timeout_s
        return ProcessSpec(
            name=process.name,
            argv=process.command,
            env={**environment.common(self.environ, self.home, user), **process.env},
            cwd=self._working_directory(user),
            user=user,
            critical=process.critical,
            restart=process.restart,
            after=process.after,
            stop_signal=process.stop_signal,
            stop_timeout_s=self.settings.stop_timeout_s if limit_s is None else limit_s,
            backoff=self.settings.backoff,
            give_up=self.settings.give_up,
            probe=process.health,
            hung_after_s=None,
        )

    def _working_directory(self, user: User | None) -> str:
        if user is None:
            return self.host.cwd
        return user.home if self.host.folder_exists(user.home) else "/"


def _home(environ: Mapping[str, str], host: Host) -> str:
    return environ.get("HOME") or host.home


def _addresses(settings: Settings, host: Host, report: Report) -> tuple[Address, Address | None]:
    """Return where the supervisor listens, and where the app does."""
    everywhere, bind = settings.bind or EVERYWHERE, "SUPERVISOR_APP_BIND"
    if settings.bind is not None:
        _check_bind("SUPERVISOR_BIND", settings.bind, host, report)
    if settings.expose == "public":
        own, bind = Address(everywhere, settings.supervisor_port), ""
        apps = Address(settings.bind or host.wildcard(), settings.port)
    else:
        own = Address(everywhere, settings.port)
        apps = Address(settings.app.bind or host.private_address(), settings.app.port)
    if not settings.app.enabled:
        return own, apps if apps.port else None
    if bind:
        _check_bind(bind, apps.host, host, report)
    if apps.port == own.port != 0:
        ours, theirs = port_settings(settings)
        why = f"{theirs} is {apps.port} as well"
        report.problem(f"listen on {ours}={own.port}", why, "give each a port of its own")
    if apps.port == 0:
        apps = apps._replace(port=host.free_port(apps.host))
    return own, apps


def _check_bind(setting: str, address: str, host: Host, report: Report) -> None:
    if not is_ip(address):
        report.problem(f"listen on {setting}={address!r}", "it is not an IP address", "write one, such as 127.0.0.2")
    elif not host.free_port(address):
        why = f"{address} is no address of this machine"
        report.problem(f"listen on {setting}={address}", why, f"set {setting} to one that it has")


def _built_in_command(settings: Settings, appended: Sequence[str], address: Address, report: Report) -> tuple[str, ...]:
    # Moltis refuses a flag that it is given twice.
    flags = [word.partition("=")[0] for word in (*settings.app.command[1:], *appended)]
    for flag, setting in _PLANNED_FLAGS[settings.expose].items():
        if flag in flags:
            why = "the plan adds it already"
            report.problem(f"have {flag} in the app's command", why, f"remove it; {setting} says what it is to be")
    switches = ["--no-tls", *(["--json-logs"] if settings.log.format == "json" else [])]
    added = [switch for switch in switches if switch not in flags]
    return (*settings.app.command, "--bind", address.host, "--port", str(address.port), *added, *appended)


def _app_probe(health_url: str | None, address: Address, *, built_in: bool) -> HttpProbe | TcpProbe | None:
    if health_url is None:
        return HttpProbe(f"http://{address}/health") if built_in else TcpProbe(*address)
    if not health_url:
        return None
    return HttpProbe(f"http://{address}{health_url}" if health_url.startswith("/") else health_url)


def inside(address: Address) -> Address:
    """Return where something that listens on an address is reached from inside the container."""
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)


def _serve_target(settings: Settings, app_address: Address | None) -> str | None:
    tailnet = settings.tailnet
    if tailnet.mode == "off" or tailnet.serve == "off" or tailnet.serve_config is not None or app_address is None:
        return None
    if not settings.app.enabled and not settings.given & {"SUPERVISOR_APP_BIND", "SUPERVISOR_APP_PORT"}:
        return None
    return f"http://{inside(app_address)}"


def _check_names(settings: Settings, specs: Sequence[ProcessSpec], report: Report) -> None:
    """Find names that are taken, unknown ones in ``after``, and circles."""
    app = settings.app
    if app.enabled and app.name in {TAILSCALED, SUPERVISOR}:
        why = "that name is taken"
        report.problem(f"use SUPERVISOR_APP_NAME={app.name!r}", why, "choose another one")
    for process in settings.processes:
        if process.name in {TAILSCALED, SUPERVISOR, app.name}:
            report.problem(f"use [process.{process.name}]", "that name is taken", "choose another one")
    known = {spec.name for spec in specs}
    for process in settings.processes:
        for other in process.after:
            if other not in known:
                hint = nearest(other, known) or (" (SUPERVISOR_APP=off)" if other == app.name else "")
                why = f"there is no process of that name{hint}"
                report.problem(f"start {process.name} after {other}", why, f"write one of {', '.join(sorted(known))}")
    for circle in _circles({process.name: process.after for process in settings.processes}):
        why = "they wait for each other: " + " after ".join(circle)
        report.problem(f"start {circle[0]}", why, "remove one of these `after`")


def _circles(after: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return each circle once, as the names along it, the first one again at its end."""
    found: dict[frozenset[str], list[str]] = {}
    for start in after:
        paths = [[start]]
        seen: set[str] = set()
        while paths:
            path = paths.pop()
            for other in after.get(path[-1], ()):
                if other == start:
                    found.setdefault(frozenset(path), [*path, start])
                elif other not in seen:
                    seen.add(other)
                    paths.append([*path, other])
    return list(found.values())
