"""Builds the plan from the settings and the machine, and reports problems and warnings about it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from supervisor.config import moltis_warnings, users
from supervisor.config.load import Account, load
from supervisor.config.parsers import is_ip
from supervisor.config.plan import (
    EVERYWHERE,
    LONGEST_SOCKET_PATH,
    SUPERVISOR,
    TAILSCALED,
    WILDCARDS,
    Address,
    Plan,
    SpecBuilder,
    port_settings,
    proxies_of,
)
from supervisor.config.settings import SETTINGS
from supervisor.config.tailscale_env import LOOPBACK, serve_file_ports, warn_of_open_proxy
from supervisor.config.users import Host
from supervisor.errors import ConfigError, Diagnostics, did_you_mean
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.config.settings import Settings
    from supervisor.core.process import ProcessSpec

SERVE_PORTS = {"auto": (80, 443), "https": (443,), "http": (80,), "off": ()}
_SHORTEST_TOKEN = 16
_SHELLS = frozenset({"ash", "bash", "busybox", "dash", "fish", "ksh", "sh", "zsh"})
# What reads its orders from standard input unless it is given some.
_ASKING = _SHELLS | {"irb", "node", "psql", "python", "python3", "sqlite3"}
_SHELL_FLAGS = frozenset({"-i", "-l", "-il", "-li", "--login"})
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\b")
# Where userspace networking forwards tailnet peers to, IPv6 included.
_FORWARDED_TO = "127.0.0.1"
# Folders of every system, which programs of all users need (hier(7)); volumes are also mounted at /mnt and /srv.
_SHARED_FOLDERS = frozenset(
    f"/{path}"
    for path in (
        *("", "bin", "boot", "dev", "dev/shm", "etc", "home", "lib", "lib64", "opt", "proc", "root", "run", "sbin"),
        *("sys", "tmp", "usr", "usr/local", "var", "var/cache", "var/lib", "var/log", "var/tmp"),
    )
)
_LOST_AT_A_DEPLOY = (
    "each deploy loses the device's identity and name, what you chose, passkeys, and all that Moltis remembers; "
    "to keep them, give it a bucket: SUPERVISOR_BACKUP_REPOSITORY and the three settings beside it"
)


def resolve(
    environ: Mapping[str, str],
    *,
    config: str | None = None,
    restart: str | None = None,
    command: Sequence[str] = (),
    host: Host | None = None,
) -> Plan:
    """Read the settings and return the plan.

    ``config``, ``restart`` and ``command`` come from the command line. Raises ConfigError with every problem.
    """
    plan, diags = examine(environ, config=config, restart=restart, command=command, host=host)
    diags.raise_problems()
    return plan


def examine(
    environ: Mapping[str, str],
    *,
    config: str | None = None,
    restart: str | None = None,
    command: Sequence[str] = (),
    host: Host | None = None,
) -> tuple[Plan, Diagnostics]:
    """Return the plan together with all problems; settings that are invalid have their defaults in it."""
    host = host or Host()
    diags = Diagnostics()
    account = Account(host.uid, environ.get("HOME") or host.home)
    settings = load(environ, diags, config=config, restart=restart, account=account)
    return build(settings, environ, command, host, diags), diags


def build(
    settings: Settings, environ: Mapping[str, str], command: Sequence[str], host: Host, diags: Diagnostics
) -> Plan:
    """Return the plan of these settings, and report what is wrong with it."""
    chosen = users.choose(settings, environ, host, diags)
    listen, app_address = _addresses(settings, host, diags)
    builder = SpecBuilder(settings, environ, host, environ.get("HOME") or host.home, chosen)
    specs: list[ProcessSpec] = []
    if settings.tailnet.mode == "embedded":
        specs.append(builder.tailscaled())
    if settings.app.enabled and app_address is not None:
        specs.append(builder.app(command, app_address, diags))
    specs += map(builder.extra, settings.processes)
    _check_names(settings, specs, diags)
    plan = Plan(
        settings=settings,
        processes=users.mark_shared(specs),
        listen=listen,
        app_name=settings.app.name if settings.app.enabled else None,
        app_address=app_address,
        serve_target=_serve_target(settings, app_address),
        tailscale_user=chosen.tailscale,
        app_user=chosen.app,
    )
    _check_files(plan, environ, host, diags)
    _check_folders(plan, host, diags)
    _check_socket_paths(settings, diags)
    if settings.tailnet.mode == "embedded":
        _check_own_socket(settings, diags)
    _check_proxies(plan, diags)
    diags.warn(*_without_effect(plan, command), *_unreachable(plan, host), *_misunderstood(plan))
    if settings.app.enabled:
        diags.warn(*moltis_warnings.find(plan, environ))
    _check_token(settings, diags)
    if settings.backup is not None:
        # Loaded when needed: most runs have no backups.
        from supervisor.config import backup_plan

        planner = backup_plan.BackupPlanner(plan, settings.backup, environ, command, host, diags)
        plan = plan._replace(backup=planner.build())
    elif _loses_all(plan, environ, host):
        diags.note(_LOST_AT_A_DEPLOY)
    return plan._replace(warnings=tuple(diags.warnings), notices=tuple(diags.notices))


def _loses_all(plan: Plan, environ: Mapping[str, str], host: Host) -> bool:
    """Tell whether a platform replaces the container at each deploy, and the device's state with it."""
    tailnet = plan.settings.tailnet
    on_platform = bool(environ.get("MOLTIS_DEPLOY_PLATFORM")) and tailnet.mode == "embedded"
    return on_platform and not tailnet.in_memory and not host.outlives_container(tailnet.state_dir)


def _addresses(settings: Settings, host: Host, diags: Diagnostics) -> tuple[Address, Address | None]:
    """Return where the supervisor listens, and where the app does."""
    own_host = settings.bind or EVERYWHERE
    if settings.bind is not None:
        _check_bind("SUPERVISOR_BIND", settings.bind, host, diags)
    if settings.expose == "public":
        own = Address(own_host, settings.supervisor_port)
        apps = Address(settings.bind or host.wildcard(), settings.port)
    else:
        own = Address(own_host, settings.port)
        apps = Address(settings.app.bind or host.private_address(), settings.app.port)
    if not settings.app.enabled:
        return own, apps if apps.port else None
    if settings.expose == "tailnet":
        _check_bind("SUPERVISOR_APP_BIND", apps.host, host, diags)
    if apps.port == own.port != 0:
        ours, theirs = port_settings(settings)
        diags.problem(f"listen on {ours}={own.port}", f"{theirs} is {apps.port} as well", "give each a port of its own")
    if apps.port == 0:
        apps = apps._replace(port=host.free_port(apps.host))
    return own, apps


def _check_bind(setting: str, address: str, host: Host, diags: Diagnostics) -> None:
    if not is_ip(address):
        diags.problem(f"listen on {setting}={address!r}", "it is not an IP address", "write one, such as 127.0.0.2")
    elif not host.free_port(address):
        why = f"this machine has no address {address}"
        diags.problem(f"listen on {setting}={address}", why, f"set {setting} to one that it has")


def _serve_target(settings: Settings, app_address: Address | None) -> str | None:
    tailnet = settings.tailnet
    if tailnet.mode == "off" or tailnet.serve == "off" or tailnet.serve_config is not None or app_address is None:
        return None
    if not settings.app.enabled and not settings.given & {"SUPERVISOR_APP_BIND", "SUPERVISOR_APP_PORT"}:
        return None
    return f"http://{app_address.local}"


def _check_names(settings: Settings, specs: Sequence[ProcessSpec], diags: Diagnostics) -> None:
    """Report names that are taken, unknown ones in ``after``, and cycles."""
    app = settings.app
    if app.enabled and app.name in {TAILSCALED, SUPERVISOR}:
        diags.problem(f"use SUPERVISOR_APP_NAME={app.name!r}", "that name is taken", "choose another one")
    known = {spec.name for spec in specs}
    for process in settings.processes:
        if process.name in {TAILSCALED, SUPERVISOR, app.name}:
            diags.problem(f"use [process.{process.name}]", "that name is taken", "choose another one")
        for other in process.after:
            if other not in known:
                hint = did_you_mean(other, known) or (" (SUPERVISOR_APP=off)" if other == app.name else "")
                why = f"there is no process of that name{hint}"
                diags.problem(f"start {process.name} after {other}", why, f"write one of {', '.join(sorted(known))}")
    for cycle in _cycles({process.name: process.after for process in settings.processes}):
        why = "they wait for each other: " + " after ".join(cycle)
        diags.problem(f"start {cycle[0]}", why, "remove one of these `after`")


def _cycles(after: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return each cycle once, as the names along it, ending with the first."""
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


def _without_effect(plan: Plan, command: Sequence[str]) -> Iterator[str]:
    settings, given = plan.settings, plan.settings.given
    modes = {
        "SUPERVISOR_TAILSCALE": settings.tailnet.mode,
        "SUPERVISOR_APP": "on" if settings.app.enabled else "off",
        "SUPERVISOR_EXPOSE": settings.expose,
    }
    for row in SETTINGS:
        # Incidents are kept there, too.
        needed = row.name == "TS_STATE_DIR"
        unmet = (name for name, words in row.when if modes[name] not in words)
        name = next(unmet, None) if row.name in given and not needed else None
        if name is not None:
            yield f"{row.name} has no effect with {name}={modes[name]}"
    if settings.tailnet.mode != "embedded":
        for name in settings.tailnet.passthrough:
            yield f"{name} has no effect with SUPERVISOR_TAILSCALE={settings.tailnet.mode}"
    yield from _without_purpose(plan, command)


def _without_purpose(plan: Plan, command: Sequence[str]) -> Iterator[str]:
    """Yield warnings about settings for something that there is not, or that another one replaces."""
    settings, given = plan.settings, plan.settings.given
    if "SUPERVISOR_APP_PORT" in given and not settings.app.enabled and settings.tailnet.mode == "off":
        yield "SUPERVISOR_APP_PORT has no effect: there is neither an app nor a tailnet"
    if "SUPERVISOR_APP_HUNG" in given and settings.app.enabled and plan.app is not None and plan.app.probe is None:
        yield "SUPERVISOR_APP_HUNG has no effect: SUPERVISOR_APP_HEALTH_URL is empty"
    if "SUPERVISOR_APP_COMMAND" in given and command and not command[0].startswith("-"):
        yield "SUPERVISOR_APP_COMMAND has no effect: a command is given to `run`"
    if settings.tailnet.mode == "off" or "SUPERVISOR_SERVE" not in given:
        return
    if settings.tailnet.serve_config is not None:
        yield "SUPERVISOR_SERVE has no effect: TS_SERVE_CONFIG replaces it"
    elif settings.tailnet.serve != "off" and plan.serve_target is None:
        yield "SUPERVISOR_SERVE has no effect: there is no app, and SUPERVISOR_APP_BIND does not say where one is"


def _check_proxies(plan: Plan, diags: Diagnostics) -> None:
    """Report proxies that any peer may use, and ports that are taken, at which tailscaled would fail forever."""
    settings = plan.settings
    own, apps = port_settings(settings)
    taken = {own: plan.listen}
    if plan.app_address is not None and settings.app.enabled:
        taken[apps] = plan.app_address
    for name, proxy in proxies_of(settings.tailnet).items():
        warn_of_open_proxy(name, proxy.host, diags)
        for other, address in taken.items():
            if address.meets(proxy):
                why = f"{other} is {address.port} as well"
                diags.problem(f"have {name} listen on port {proxy.port}", why, "give each a port of its own")


def _unreachable(plan: Plan, host: Host) -> Iterator[str]:
    """Yield warnings about an app or a panel that cannot be reached."""
    settings, tailnet, listen = plan.settings, plan.settings.tailnet, plan.listen
    if not plan.processes and tailnet.mode == "off":
        yield "there is nothing to run: SUPERVISOR_APP and SUPERVISOR_TAILSCALE are off, and there is no other process"
    serves = tailnet.mode != "off" and (plan.serve_target is not None or tailnet.serve_config is not None)
    shields_up = tailnet.prefs.shields_up
    if serves and shields_up:
        yield "--shields-up in TS_EXTRA_ARGS blocks connections from the tailnet: no peer reaches the app or the panel"
    if settings.app.enabled and settings.expose == "tailnet":
        yield from _private_app(plan, serves=serves)
    served, remedy = _served_ports(plan)
    if listen.port in served:
        yield (
            f"{port_settings(settings)[0]} is {listen.port}, which serve uses in the tailnet: the panel cannot be "
            f"reached there; use another port, or {remedy}"
        )
    if tailnet.mode != "embedded" or shields_up:
        return
    no_peer = f"no peer reaches the panel: they are forwarded to {_FORWARDED_TO}"
    if listen.host not in {*WILDCARDS, _FORWARDED_TO}:
        yield f"{no_peer}, and SUPERVISOR_BIND is {listen.host}; leave it unset"
    elif not host.free_port(_FORWARDED_TO):
        yield f"{no_peer}, which this machine lacks; add it (ip address add {_FORWARDED_TO}/8 dev lo)"


def _served_ports(plan: Plan) -> tuple[frozenset[int], str]:
    """Return the device's ports that serve takes, and how to free them."""
    tailnet = plan.settings.tailnet
    if tailnet.mode != "off" and tailnet.serve_config is not None:
        return serve_file_ports(tailnet.serve_config).own, "change the file of TS_SERVE_CONFIG"
    taken = SERVE_PORTS[tailnet.serve] if plan.serve_target is not None else ()
    return frozenset(taken), "SUPERVISOR_SERVE=off"


def _private_app(plan: Plan, *, serves: bool) -> Iterator[str]:
    bind, mode = plan.app_address.host if plan.app_address is not None else "", plan.settings.tailnet.mode
    if mode == "embedded" and bind in LOOPBACK:
        yield (
            f"SUPERVISOR_APP_BIND is {bind}: every tailnet peer reaches the app there, bypassing serve, with headers "
            "of its choice; use 127.0.0.2"
        )
    elif (bind == "::1" or bind.startswith("127.")) and not serves:
        off = mode == "off"
        why = "there is no tailnet" if off else "SUPERVISOR_SERVE is off"
        remedy = "SUPERVISOR_TAILSCALE=embedded" if off else "SUPERVISOR_SERVE=auto"
        yield (
            f"no one can reach the app: it listens on {plan.app_address} and {why}; "
            f"use {remedy}, or SUPERVISOR_EXPOSE=public"
        )


def _misunderstood(plan: Plan) -> Iterator[str]:
    """Yield what a command seems to expect of a shell or a terminal, which it does not get."""
    for spec in plan.processes:
        program = os.path.basename(spec.argv[0])
        if program in _ASKING and set(spec.argv[1:]) <= _SHELL_FLAGS:
            yield (
                f"{spec.name} is {program}, which ends at once: standard input is /dev/null; for a shell use "
                f"`docker exec -it CONTAINER {program}`, or `docker run -it --entrypoint {program} IMAGE`"
            )
        elif program not in _SHELLS:
            named = {name for word in spec.argv[1:] for name in _VARIABLE.findall(word)}
            for name in sorted(named & set(spec.env)):
                yield (
                    f"{spec.name} gets ${name} as it stands: no shell expands it; write the value, or let one run the "
                    "command (`sh -c 'exec …'`)"
                )


def _check_token(settings: Settings, diags: Diagnostics) -> None:
    try:
        length = len(settings.token.read().reveal()) if settings.token is not None else _SHORTEST_TOKEN
    except ConfigError:
        return
    if settings.token is not None and length < _SHORTEST_TOKEN:
        diags.warn(f"{settings.token.name} has {length} characters: it can be guessed; use {_SHORTEST_TOKEN} or more")


def _check_files(plan: Plan, environ: Mapping[str, str], host: Host, diags: Diagnostics) -> None:
    """Report files that are missing, and those that the wrong user could change."""
    tailnet = plan.settings.tailnet
    serve_config = tailnet.serve_config if tailnet.mode != "off" else None
    if serve_config is not None and not os.access(serve_config, os.R_OK):
        why = "it is a folder" if os.path.isdir(serve_config) else "it does not exist, or may not be read"
        diags.problem(f"read TS_SERVE_CONFIG {serve_config}", why, "check the path and its permissions")
    if plan.app_user is not None or any(spec.user is not None for spec in plan.processes):
        # Loaded when needed: only then is there more than one user.
        from supervisor.config import permissions

        permissions.check(plan, environ, host, diags)


def _check_folders(plan: Plan, host: Host, diags: Diagnostics) -> None:
    """Report folders that would be taken away from others: each is closed to all but one user."""
    settings, tailnet = plan.settings, plan.settings.tailnet
    folders = {"SUPERVISOR_RUN_DIR": settings.run_dir}
    if tailnet.mode == "embedded" and not tailnet.in_memory:
        folders["TS_STATE_DIR"] = tailnet.state_dir
        moves = plan.tailscale_user is not None or settings.backup is not None
        if settings.run_dir == tailnet.state_dir or (moves and _is_in(settings.run_dir, tailnet.state_dir)):
            what = f"use SUPERVISOR_RUN_DIR {settings.run_dir}"
            diags.problem(what, f"it lies in tailscaled's own folder {tailnet.state_dir}", "choose one outside of it")
    # Another user may only close what is its own.
    others = [spec.user for spec in plan.processes if host.uid == 0 and spec.name != TAILSCALED]
    homes = sorted({user.home for user in others if user is not None})
    for setting, folder in folders.items() if host.uid == 0 else ():
        home = next((home for home in homes if _is_in(home, folder)), None)
        if folder in _SHARED_FOLDERS or home is not None:
            why = f"the home {home} lies in it" if home is not None else "all programs share it"
            own = os.path.join(folder, "moltis-supervisor")
            remedy = f"choose one that nothing else is in, such as {own}"
            diags.problem(f"use {setting} {folder}", f"{why}, and it would be closed to all but one user", remedy)


def _is_in(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or inside it, by name alone."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _check_socket_paths(settings: Settings, diags: Diagnostics) -> None:
    paths = [("SUPERVISOR_RUN_DIR", f"{settings.run_dir}/control.sock")]
    if settings.tailnet.mode != "off":
        setting = "TS_SOCKET" if "TS_SOCKET" in settings.given else "SUPERVISOR_RUN_DIR"
        paths.append((setting, settings.tailnet.socket))
    # The longest path for each setting.
    for setting, path in dict(sorted(paths, key=lambda item: len(item[1]))).items():
        if len(path.encode(errors="surrogateescape")) > LONGEST_SOCKET_PATH:
            why = f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes"
            diags.problem(f"make the socket {path}", why, f"choose a shorter {setting}")


def _check_own_socket(settings: Settings, diags: Diagnostics) -> None:
    """Report a path at which tailscaled would destroy something: it deletes what is there, and makes its socket."""
    tailnet, path = settings.tailnet, settings.tailnet.socket
    attempt, what = f"have tailscaled's socket at {path}", dirs.instead_of_socket(path)
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    run_dir, state_dir = map(os.path.realpath, (settings.run_dir, tailnet.state_dir))
    # Nothing else in there has such a name.
    is_free = real.endswith(".sock") and real != os.path.join(run_dir, dirs.CONTROL_SOCKET)
    if not is_free and (_is_in(real, run_dir) or _is_in(real, state_dir)):
        why = "it would replace a file of the supervisor or of tailscaled, which have such names there"
        diags.problem(attempt, why, "leave TS_SOCKET unset, or name it tailscaled.sock")
    elif what:
        diags.problem(
            attempt, f"{what} is there, which it would delete", "move it away, or set TS_SOCKET to another path"
        )
