"""The plan: what `run` starts, where it listens, and what each process finds in its environment."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from supervisor import moltis
from supervisor.config.tailscale_env import OURS, is_passthrough, serve_file_ports
from supervisor.core.process import EnvFile, HttpProbe, ProcessSpec, SetUp, TcpProbe
from supervisor.errors import ConfigError, host_port
from supervisor.namedtuples import NamedTuple
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.config.parsers import SecretSource
    from supervisor.config.settings import ExtraProcess, Settings, TailnetSettings
    from supervisor.config.users import Host, Users
    from supervisor.core.process import User
    from supervisor.errors import Diagnostics

TAILSCALED = "tailscaled"
SUPERVISOR = "supervisor"
# Every address of both families, for the supervisor itself only.
EVERYWHERE = "*"
WILDCARDS = frozenset({EVERYWHERE, "0.0.0.0", "::", ""})
_NAMED = {"localhost": "127.0.0.1"}
# unix(7): 108 bytes with the zero at the end.
LONGEST_SOCKET_PATH = 107
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TAILSCALED_MEMORY = "96MiB"
# tailscaled's usual port, which firewalls are opened for; it takes another if this one is in use.
WIREGUARD_PORT = 41641
# Has tailscaled use the certificates that it has, and fetch none.
NO_CERTIFICATES = {"TS_CERT_SHARE_MODE": "ro"}
_COMMON = (
    *("PATH", "HOME", "LANG", "TZ"),
    *(name for word in ("http_proxy", "https_proxy", "no_proxy", "all_proxy") for name in (word.upper(), word)),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
)
_ADDED_FLAGS = {
    "tailnet": {"--bind": "SUPERVISOR_APP_BIND", "--port": "SUPERVISOR_APP_PORT"},
    "public": {"--bind": "SUPERVISOR_BIND", "--port": "PORT"},
}
_SOCKET, _SOCKS5, _PROXY = "safesocket.Listen:", "SOCKS5 listener:", "HTTP proxy listener:"
_REFUSED, _NOT_OURS = "permission denied", "cannot assign requested address"
# What tailscaled 1.102 logs, in one line, before it exits for a reason that a retry cannot fix.
TAILSCALED_FAILURES = (
    (("flag provided but not defined",), "it does not know a flag: fix TS_TAILSCALED_EXTRA_ARGS"),
    (("invalid value ", " for flag -"), "it does not accept the value of a flag: fix TS_TAILSCALED_EXTRA_ARGS"),
    (("invalid boolean value ", " for -"), "it does not accept the value of a flag: fix TS_TAILSCALED_EXTRA_ARGS"),
    (("does not take non-flag arguments",), "it was given a word that is not a flag: fix TS_TAILSCALED_EXTRA_ARGS"),
    (
        (_SOCKET, _REFUSED),
        "its user may not make its socket: let it reach and write the folder of TS_SOCKET, or name another one",
    ),
    ((_SOCKET, "no such file"), "the folder of its socket does not exist: make it, or set TS_SOCKET to another path"),
    ((_SOCKET, "read-only"), "its socket would be on a read-only disk: mount a tmpfs there, or set TS_SOCKET"),
    # By connecting, it has found that nothing listens there; and it could not remove what is there.
    ((_SOCKET, "bind:", "in use"), "remove what is at the path of TS_SOCKET, or name another one"),
    ((_SOCKET, "in use"), "its socket is in use: end whatever uses it, or set TS_SOCKET to another path"),
    ((_SOCKET,), "it cannot make its socket: see its last lines, or set TS_SOCKET to another path"),
    ((_SOCKS5, _REFUSED), "it may not listen on that port: choose one from 1024 on in TS_SOCKS5_SERVER"),
    ((_SOCKS5, _NOT_OURS), "the machine has no such address: choose one that it has in TS_SOCKS5_SERVER"),
    ((_SOCKS5,), "it cannot listen on TS_SOCKS5_SERVER: choose another port"),
    ((_PROXY, _REFUSED), "it may not listen on that port: choose one from 1024 on in TS_OUTBOUND_HTTP_PROXY_LISTEN"),
    ((_PROXY, _NOT_OURS), "the machine has no such address: choose one that it has in TS_OUTBOUND_HTTP_PROXY_LISTEN"),
    ((_PROXY,), "it cannot listen on TS_OUTBOUND_HTTP_PROXY_LISTEN: choose another port"),
    (("getLocalBackend error",), "its state is damaged: remove tailscaled.state in TS_STATE_DIR, and log in again"),
    (("error reading config file",), "it cannot read its configuration file: fix TS_TAILSCALED_EXTRA_ARGS"),
    (("createEngine:",), "it cannot make its network engine: see its last lines"),
)


class Address(NamedTuple):
    """Where something listens. An IPv6 host has no brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(*self)

    @property
    def local(self) -> Address:
        """Return the address at which a program inside the container connects to this one."""
        return self._replace(host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))

    def meets(self, other: Address) -> bool:
        """Tell whether only one program can listen on both addresses; port 0 is a free one."""
        hosts = {_NAMED.get(self.host, self.host), _NAMED.get(other.host, other.host)}
        return self.port == other.port != 0 and (len(hosts) == 1 or bool(hosts & WILDCARDS))


def port_settings(settings: Settings) -> tuple[str, str]:
    """Return the names of the settings for the supervisor's port and the app's."""
    return ("SUPERVISOR_PORT", "PORT") if settings.expose == "public" else ("PORT", "SUPERVISOR_APP_PORT")


class BackupSource(NamedTuple):
    """A folder to back up. ``name`` is independent of its ``path``; its files' ``owner`` is None for the supervisor."""

    name: str
    path: str
    owner: User | None


def proxies_of(tailnet: TailnetSettings) -> dict[str, Address]:
    """Return where tailscaled's proxies listen, by setting; none unless it is embedded."""
    proxies = {"TS_SOCKS5_SERVER": tailnet.socks5, "TS_OUTBOUND_HTTP_PROXY_LISTEN": tailnet.http_proxy}
    return {name: Address(*at) for name, at in proxies.items() if at is not None and tailnet.mode == "embedded"}


class BackupPlan(NamedTuple):
    """Backups: ``program`` is restic, ``folder`` contains its cache and staged files.

    ``sources`` are the app's folders, ``identity`` is tailscaled's state (None if a sidecar has it, or there is none).
    ``holds`` means that nothing is started before a backup has been restored.
    """

    program: str
    folder: str
    sources: tuple[BackupSource, ...]
    identity: BackupSource | None
    holds: bool

    @property
    def all_sources(self) -> tuple[BackupSource, ...]:
        """Return every folder that is backed up, tailscaled's state included."""
        return (*self.sources, *([self.identity] if self.identity is not None else []))


class Plan(NamedTuple):
    """The settings, resolved against this machine.

    ``processes`` are in the order of starting. ``listen`` is the supervisor's own HTTP; port 0 is a free one.
    ``app_address`` is where the app listens, seen from inside, and ``serve_target`` the URL that is published in the
    tailnet; both may be None. A user is None for the supervisor's own. ``warnings`` and ``notices`` are logged once.
    """

    settings: Settings
    processes: tuple[ProcessSpec, ...]
    listen: Address
    app_name: str | None
    app_address: Address | None
    serve_target: str | None
    tailscale_user: User | None
    app_user: User | None
    warnings: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    backup: BackupPlan | None = None

    @property
    def state_folder(self) -> str:
        """Return where what outlives a run is kept; without a tailnet, in the run folder unless one is named."""
        named = self.settings.tailnet.mode != "off" or "TS_STATE_DIR" in self.settings.given
        return self.settings.tailnet.state_dir if named else self.settings.run_dir

    @property
    def tailscaled(self) -> ProcessSpec | None:
        """Return tailscaled's process, if there is one."""
        return next((spec for spec in self.processes if spec.name == TAILSCALED), None)

    @property
    def app(self) -> ProcessSpec | None:
        """Return the app's process, if there is one."""
        return next((spec for spec in self.processes if spec.name == self.app_name), None)

    @property
    def fetches_certificates(self) -> bool:
        """Tell whether tailscaled is started with the right to fetch certificates; a sidecar's may have it."""
        return self.tailscaled is None or not NO_CERTIFICATES.items() <= self.tailscaled.env.items()

    @property
    def runs_moltis(self) -> bool:
        """Tell whether the app is Moltis, by the name of its program."""
        return self.app is not None and os.path.basename(self.app.argv[0]) == moltis.PROGRAM


def common_environment(environ: Mapping[str, str], home: str, user: User | None) -> dict[str, str]:
    """Return the variables that every process gets."""
    env = {name: environ[name] for name in _COMMON if environ.get(name)}
    return {"PATH": DEFAULT_PATH, **env, "HOME": user.home if user else home}


class SpecBuilder(NamedTuple):
    """Builds the processes."""

    settings: Settings
    environ: Mapping[str, str]
    host: Host
    home: str
    users: Users

    def tailscaled(self) -> ProcessSpec:
        """Return tailscaled's process. Its environment has no PORT (it would become its UDP port) and no key."""
        tailnet, user = self.settings.tailnet, self.users.tailscale
        argv = ["tailscaled", "--tun=userspace-networking", f"--socket={tailnet.socket}", f"--port={WIREGUARD_PORT}"]
        if tailnet.in_memory:
            argv.append("--state=mem:")
        argv.append(f"--statedir={tailnet.state_dir}")
        if tailnet.socks5 is not None:
            argv.append(f"--socks5-server={Address(*tailnet.socks5)}")
        if tailnet.http_proxy is not None:
            argv.append(f"--outbound-http-proxy-listen={Address(*tailnet.http_proxy)}")
        env = {
            # tailscaled 1.102 fetches certificates by itself for whatever is served, even plain HTTP.
            **({} if self._may_fetch_certificates() else NO_CERTIFICATES),
            **common_environment(self.environ, self.home, user),
            "GOMEMLIMIT": self.environ.get("GOMEMLIMIT") or TAILSCALED_MEMORY,
            "TS_LOGS_DIR": tailnet.state_dir,
            **{name: text for name, text in tailnet.passthrough.items() if is_passthrough(name)},
        }
        return self._spec(
            name=TAILSCALED,
            argv=(*argv, *tailnet.extra_args),
            env=env,
            cwd="/",
            user=user,
            quit_before_kill=True,
            parent_death_fd=True,
            known_failures=TAILSCALED_FAILURES,
            prepare=partial(_prepare_socket, tailnet.socket, user),
        )

    def _may_fetch_certificates(self) -> bool:
        """Tell whether HTTPS may be served. Certificates for a name are rationed: one per container is too many."""
        tailnet = self.settings.tailnet
        if tailnet.serve_config is None and tailnet.serve != "auto":
            return tailnet.serve != "http"
        if self.host.keeps_state(self.settings):
            return True
        return tailnet.serve_config is not None and serve_file_ports(tailnet.serve_config).https

    def app(self, command: Sequence[str], address: Address, diags: Diagnostics) -> ProcessSpec:
        """Return the app's process: the configured command with its address added, or ``command`` unchanged."""
        app, user = self.settings.app, self.users.app
        built_in = not command or command[0].startswith("-")
        if command and not command[0]:
            what = "use the command that is given to `run`"
            diags.problem(what, "its first word is empty, so it names no program", "name one, or give no command")
        argv = self._built_in_command(command, address, diags) if built_in else tuple(command)
        env, cwd = self._app_environment(address), self._working_directory(user)
        return self._spec(
            name=app.name,
            argv=argv,
            env=env,
            cwd=cwd,
            user=user,
            critical=True,
            restart=app.restart,
            probe=_app_probe(app.health_url, address.local, built_in=built_in),
            hung_after_s=app.hung_after_s,
            env_file=self._external_url(),
            reread=None if app.password is None or app.password.path is None else partial(_password, app.password),
            set_up=_set_up(argv, env, cwd, address.local) if moltis.PASSWORD in env else None,
        )

    def _external_url(self) -> EnvFile | None:
        """Return where the app's URL in the tailnet is recorded; None if HTTPS is never served, or the user set it."""
        tailnet = self.settings.tailnet
        https = tailnet.mode != "off" and (tailnet.serve_config is not None or tailnet.serve in {"auto", "https"})
        if not https or self.environ.get(moltis.EXTERNAL_URL) or self.environ.get(moltis.PASSKEY_HOST):
            return None
        return EnvFile(moltis.EXTERNAL_URL, tailnet.state_dir, moltis.EXTERNAL_URL_FILE)

    def _built_in_command(self, appended: Sequence[str], address: Address, diags: Diagnostics) -> tuple[str, ...]:
        # Moltis refuses a repeated flag.
        command = self.settings.app.command
        flags = [word.partition("=")[0] for word in (*command[1:], *appended)]
        for flag, setting in _ADDED_FLAGS[self.settings.expose].items():
            if flag in flags:
                what = f"have {flag} in the app's command"
                diags.problem(what, "the supervisor adds it", f"remove it, and use {setting}")
        switches = ["--no-tls", *(["--json-logs"] if self.settings.log.format == "json" else [])]
        added = [switch for switch in switches if switch not in flags]
        return (*command, "--bind", address.host, "--port", str(address.port), *added, *appended)

    def _app_environment(self, address: Address) -> dict[str, str]:
        """Return the supervisor's environment without its own settings and tailscaled's."""
        env = {"PATH": DEFAULT_PATH} | {
            name: text
            for name, text in self.environ.items()
            if not name.startswith(OURS) and name != f"{moltis.PASSWORD}_FILE"
        }
        user, password = self.users.app, self.settings.app.password
        env |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name} if user else {"HOME": self.home}
        env |= {name: text for name, text in moltis.DEFAULTS.items() if not env.get(name)}
        if password is not None and (password.path is not None or not env.get(moltis.PASSWORD)):
            # An unreadable one has been reported.
            with suppress(ConfigError):
                env |= _password(password)
        return env | {"HOST": address.host, "PORT": str(address.port)}

    def extra(self, process: ExtraProcess) -> ProcessSpec:
        """Return the process of a TOML table."""
        user = self.users.extra[process.name]
        spec = self._spec(
            name=process.name,
            argv=process.command,
            env={**common_environment(self.environ, self.home, user), **process.env},
            cwd=self._working_directory(user),
            user=user,
            critical=process.critical,
            restart=process.restart,
            after=process.after,
            stop_signal=process.stop_signal,
            probe=process.health,
        )
        return spec if process.stop_timeout_s is None else spec._replace(stop_timeout_s=process.stop_timeout_s)

    def _spec(self, **fields: Any) -> ProcessSpec:
        settings = self.settings
        shared = {"stop_timeout_s": settings.stop_timeout_s, "backoff": settings.backoff, "give_up": settings.give_up}
        return ProcessSpec(**{"hung_after_s": None, **shared, **fields})

    def _working_directory(self, user: User | None) -> str:
        if user is None:
            return self.host.cwd
        return user.home if self.host.folder_exists(user.home) else "/"


def _prepare_socket(socket: str, owner: User | None) -> str:
    """Make the folder of tailscaled's socket again if it is gone: tailscaled would make one that is open to everybody.

    Return why it must not be started: it deletes what is at the path of its socket.
    """
    folder = os.path.dirname(socket)
    try:
        if not os.path.exists(folder):
            os.close(dirs.owned_folder(folder, owner, "TS_SOCKET"))
    except ConfigError as error:
        return str(error)
    what = dirs.instead_of_socket(socket)
    return what and f"at {socket} is {what}, which it would delete; move it away, or set TS_SOCKET to another path"


def _password(source: SecretSource) -> dict[str, str]:
    """Return Moltis' password as its file has it now. Raises ConfigError."""
    return {moltis.PASSWORD: source.read().reveal()}


def _set_up(argv: Sequence[str], env: Mapping[str, str], cwd: str, address: Address) -> SetUp:
    """Return when the app needs the password no more, if it is Moltis; another one makes no such folder."""
    folder = os.path.join(cwd, moltis.data_folder(argv, env, env.get("HOME", "/")))
    return SetUp(moltis.PASSWORD, f"{folder}/{moltis.SET_UP_FOLDER}", f"http://{address}{moltis.SET_UP_STATUS}")


def _app_probe(health_url: str | None, address: Address, *, built_in: bool) -> HttpProbe | TcpProbe | None:
    if health_url is None:
        return HttpProbe(f"http://{address}/health") if built_in else TcpProbe(*address)
    if not health_url:
        return None
    return HttpProbe(f"http://{address}{health_url}" if health_url.startswith("/") else health_url)
