"""What `check` and the log say about a plan that could start: doors left open, and settings without effect."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.config import environment
from supervisor.config.flags import LOOPBACK, warn_of_open_door
from supervisor.config.plan import LONGEST_SOCKET_PATH, WILDCARDS, port_settings
from supervisor.config.table import SETTINGS
from supervisor.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.config.diagnostics import Report
    from supervisor.config.host import Host
    from supervisor.config.model import Settings
    from supervisor.config.plan import Plan

LEAST_TOKEN_CHARACTERS = 16
_PEERS_COME_TO = "127.0.0.1"
SERVE_PORTS = {"auto": (80, 443), "https": (443,), "http": (80,), "off": ()}


def check(plan: Plan, environ: Mapping[str, str], command: Sequence[str], host: Host, report: Report) -> None:
    """Add every warning, and the problems with who may change the files that are read."""
    settings = plan.settings
    report.warnings += _without_effect(plan, command)
    _check_socket(settings, report)
    _check_proxies(plan, report)
    report.warnings += _reach(plan)
    report.warnings += _hidden_panel(plan, host)
    if settings.app.enabled:
        environment.warn_of_open_guards(environ, report)
    _check_token(settings, report)
    _check_files(plan, environ, host, report)


def _without_effect(plan: Plan, command: Sequence[str]) -> Iterator[str]:
    settings = plan.settings
    modes = {
        "SUPERVISOR_TAILSCALE": settings.tailnet.mode,
        "SUPERVISOR_APP": "on" if settings.app.enabled else "off",
        "SUPERVISOR_EXPOSE": settings.expose,
    }
    for row in SETTINGS:
        for name, words in row.when:
            # What is staged for backups lies beside the state, whoever has that.
            needed = row.name == "TS_STATE_DIR" and settings.backup is not None
            if row.name in settings.given and modes[name] not in words and not needed:
                yield f"{row.name} has no effect with {name}={modes[name]}"
                break
    if "SUPERVISOR_APP_COMMAND" in settings.given and command and not command[0].startswith("-"):
        yield "SUPERVISOR_APP_COMMAND has no effect: a command is given to `run`"
    if settings.tailnet.mode == "off":
        return
    if settings.tailnet.serve_config is not None and "SUPERVISOR_SERVE" in settings.given:
        yield "SUPERVISOR_SERVE has no effect: TS_SERVE_CONFIG replaces it"
    elif settings.tailnet.serve != "off" and plan.serve_target is None and "SUPERVISOR_SERVE" in settings.given:
        yield "SUPERVISOR_SERVE has no effect: there is no app, and SUPERVISOR_APP_BIND does not say where one is"


def _check_proxies(plan: Plan, report: Report) -> None:
    """Warn of open doors, and find a port that is taken: tailscaled would fail at it again and again."""
    settings, tailnet = plan.settings, plan.settings.tailnet
    if tailnet.mode != "embedded":
        return
    own, apps = port_settings(settings)
    taken = {own: plan.listen}
    if plan.app_address is not None and settings.app.enabled:
        taken[apps] = plan.app_address
    proxies = (("TS_SOCKS5_SERVER", tailnet.socks5), ("TS_OUTBOUND_HTTP_PROXY_LISTEN", tailnet.http_proxy))
    for name, address in proxies:
        if address is None:
            continue
        warn_of_open_door(name, address[0], report)
        for other, place in taken.items():
            if address[1] == place.port != 0 and (address[0] == place.host or {address[0], place.host} & WILDCARDS):
                why = f"{other} is {place.port} as well"
                report.problem(f"have {name} listen on port {address[1]}", why, "give each a port of its own")


def _reach(plan: Plan) -> Iterator[str]:
    """Yield what keeps people from the app, or from the panel."""
    settings, tailnet = plan.settings, plan.settings.tailnet
    if not plan.processes and tailnet.mode == "off":
        yield "there is nothing to run: SUPERVISOR_APP and SUPERVISOR_TAILSCALE are off, and nothing else is named"
    serves = tailnet.mode != "off" and (plan.serve_target is not None or tailnet.serve_config is not None)
    if serves and tailnet.prefs.shields_up:
        yield "--shields-up in TS_EXTRA_ARGS closes the tailnet's way in: no peer reaches the app or the panel"
    if settings.app.enabled and settings.expose == "tailnet":
        yield from _private_app(plan, serves=serves)
    if plan.serve_target is not None and plan.listen.port in SERVE_PORTS[tailnet.serve]:
        name, _ = port_settings(settings)
        yield (
            f"{name} is {plan.listen.port}, which serve takes in the tailnet: the panel is not reached there; "
            "use another port, or SUPERVISOR_SERVE=off"
        )


def _hidden_panel(plan: Plan, host: Host) -> Iterator[str]:
    """Yield what keeps peers from the panel: networking in user space leads them to 127.0.0.1, in IPv6 too."""
    if plan.settings.tailnet.mode != "embedded" or plan.settings.tailnet.prefs.shields_up:
        return
    if plan.listen.host not in {*WILDCARDS, _PEERS_COME_TO}:
        yield (
            f"no peer reaches the panel: they come to {_PEERS_COME_TO}, and SUPERVISOR_BIND is {plan.listen.host}; "
            "leave it unset"
        )
    elif not host.free_port(_PEERS_COME_TO):
        yield (
            f"no peer reaches the panel: they come to {_PEERS_COME_TO}, which this machine has not; "
            f"give it that address (ip address add {_PEERS_COME_TO}/8 dev lo)"
        )


def _private_app(plan: Plan, *, serves: bool) -> Iterator[str]:
    bind = plan.app_address.host if plan.app_address is not None else ""
    embedded = plan.settings.tailnet.mode == "embedded"
    if embedded and bind in LOOPBACK:
        yield (
            f"SUPERVISOR_APP_BIND is {bind}: every tailnet peer reaches the app there, past serve and with headers of "
            "its choice; use 127.0.0.2"
        )
    elif bind.startswith(("127.", "::1")) and not serves:
        off = plan.settings.tailnet.mode == "off"
        why, remedy = (
            ("there is no tailnet", "TAILSCALE=embedded") if off else ("SUPERVISOR_SERVE is off", "SERVE=auto")
        )
        yield (
            f"no one can reach the app: it listens on {plan.app_address} and {why}; "
            f"use SUPERVISOR_{remedy}, or SUPERVISOR_EXPOSE=public"
        )


def _check_token(settings: Settings, report: Report) -> None:
    if settings.token is None:
        return
    try:
        length = len(settings.token.read().reveal())
    except ConfigError:
        return
    if length < LEAST_TOKEN_CHARACTERS:
        report.warnings.append(
            f"{settings.token.name} has {length} characters: it can be guessed; use {LEAST_TOKEN_CHARACTERS} or more"
        )


def _check_files(plan: Plan, environ: Mapping[str, str], host: Host, report: Report) -> None:
    """Check that what is read is there, and that nobody can change what another's process reads or runs."""
    tailnet = plan.settings.tailnet
    serve_config = tailnet.serve_config if tailnet.mode != "off" else None
    if serve_config is not None and not os.access(serve_config, os.R_OK):
        why = "it is not there, or may not be read" if not os.path.isdir(serve_config) else "it is a folder"
        report.problem(f"read TS_SERVE_CONFIG {serve_config}", why, "check the path and its rights")
    if plan.app_user is not None or any(spec.user is not None for spec in plan.processes):
        # Loaded where there are users to keep apart.
        from supervisor.config import permissions

        permissions.check(plan, environ, host, report)


def _check_socket(settings: Settings, report: Report) -> None:
    paths = {"SUPERVISOR_RUN_DIR": f"{settings.run_dir}/control.sock"}
    if settings.tailnet.mode != "off":
        by = "TS_SOCKET" if "TS_SOCKET" in settings.given else "SUPERVISOR_RUN_DIR"
        paths[by] = (
            settings.tailnet.socket if by == "TS_SOCKET" else max(*paths.values(), settings.tailnet.socket, key=len)
        )
    for setting, path in paths.items():
        if len(path.encode(errors="surrogateescape")) > LONGEST_SOCKET_PATH:
            why = f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes"
            report.problem(f"make the socket {path}", why, f"choose a shorter {setting}")
