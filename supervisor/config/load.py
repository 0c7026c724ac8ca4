"""Reads every setting, from the command line, the environment and the TOML file, in this order of weight."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from supervisor.backoff import Backoff
from supervisor.config import flags, parsers
from supervisor.config.diagnostics import Report, shown
from supervisor.config.model import AppSettings, LogSettings, Prefs, Settings, TailnetSettings
from supervisor.config.parsers import UnfitError
from supervisor.config.secrets import source_of
from supervisor.config.table import BY_SPELLING, SETTINGS
from supervisor.config.tailscale_env import sort_out
from supervisor.core.process import Restart
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.config.model import ExtraProcess
    from supervisor.config.setting import Setting

# What may hold a secret by mistake is not repeated in a message.
_UNSHOWN = frozenset({parsers.SECRET, parsers.WORDS, parsers.COMMAND, parsers.URL, parsers.HEALTH_URL})
# Set and empty, it says something; every other setting is then as if it were not there.
_EMPTY_COUNTS = "SUPERVISOR_APP_HEALTH_URL"
_BACKUP = "SUPERVISOR_BACKUP_"


class Account(NamedTuple):
    """Who the supervisor is: some defaults depend on it."""

    uid: int
    home: str


class _Found(NamedTuple):
    values: dict[str, Any]
    knobs: Mapping[str, str]
    processes: tuple[ExtraProcess, ...]
    given: frozenset[str]
    config_path: str | None


def load(
    environ: Mapping[str, str],
    report: Report,
    *,
    config: str | None = None,
    restart: str | None = None,
    account: Account,
) -> Settings:
    """Return the settings; what is wrong with them is in the report, and stands at its default here.

    ``config`` and ``restart`` are the command line's words, which weigh more than the environment.
    """
    texts, knobs = sort_out(environ, "", report)
    for name, word in (("SUPERVISOR_CONFIG", config), ("SUPERVISOR_RESTART", restart)):
        if word is not None:
            texts[name] = word
    processes: tuple[ExtraProcess, ...] = ()
    path = _config_path(texts, report)
    if path is not None:
        # Loaded where there is a file to read: most have none.
        from supervisor.config import toml

        file = toml.read(path, report)
        processes = file.processes
        knobs = file.knobs | knobs
        if "SUPERVISOR_RUN_DIR" in _present(file.settings) and "SUPERVISOR_RUN_DIR" not in _present(texts):
            report.warnings.append(
                f"SUPERVISOR_RUN_DIR stands in {path}, where the health check does not look: set it in the environment"
            )
        texts = _without_others(file.settings, texts) | _present(texts)
    texts = _present(texts)
    found = _Found(
        values={row.name: _value(row, texts, report) for row in SETTINGS},
        knobs=knobs,
        processes=processes,
        given=frozenset(row.name for row in SETTINGS if any(name in texts for name in row.spellings)),
        config_path=path,
    )
    settings = _assemble(found, _run_dir(account, environ), _state_dir(account, environ), report)
    _check_together(settings, found.values, report)
    if any(name.startswith(_BACKUP) for name in found.given):
        # Loaded where there is something about backups: most runs have none.
        from supervisor.config import backup_settings

        settings = backup_settings.add(settings, found.values, report)
    return settings


def _present(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text.strip() or name == _EMPTY_COUNTS}


def _without_others(below: Mapping[str, str], above: Mapping[str, str]) -> dict[str, str]:
    """Return what the file says, without what the environment says under another name of the same setting."""
    said = {BY_SPELLING[name].name for name in _present(above)}
    return {name: text for name, text in below.items() if BY_SPELLING[name].name not in said}


def _config_path(texts: Mapping[str, str], report: Report) -> str | None:
    text = texts.get("SUPERVISOR_CONFIG", "")
    if "\0" in text:
        report.problem("use SUPERVISOR_CONFIG", "it has a NUL character", "write a path")
        return None
    return os.path.abspath(text) if text else None


def _value(row: Setting, texts: Mapping[str, str], report: Report) -> object:
    if row.kind is parsers.SECRET:
        return source_of(row.name, row.spellings, texts, report)
    default = None if row.default is None else row.kind.parse(row.default)
    text = texts.get(row.name)
    if text is None:
        return default
    text = text.strip()
    try:
        return row.kind.parse(text)
    except UnfitError as error:
        value = "" if row.kind in _UNSHOWN else f"={shown(text)}"
        report.problem(
            f"use {row.name}{value}",
            str(error),
            f"write {row.kind.form}, or leave it out for the default ({row.default_text})",
        )
        return default


def _assemble(found: _Found, default_run_dir: str, default_state_dir: str, report: Report) -> Settings:
    values = found.values
    has_app = values["SUPERVISOR_APP"] == "on"
    run_dir = values["SUPERVISOR_RUN_DIR"] or default_run_dir
    return Settings(
        run_dir=run_dir,
        expose=values["SUPERVISOR_EXPOSE"] if has_app else "tailnet",
        port=values["PORT"],
        bind=values["SUPERVISOR_BIND"],
        supervisor_port=values["SUPERVISOR_PORT"],
        stop_timeout_s=values["SUPERVISOR_STOP_TIMEOUT"],
        backoff=Backoff(
            values["SUPERVISOR_BACKOFF_INITIAL"], values["SUPERVISOR_BACKOFF_MAX"], values["SUPERVISOR_BACKOFF_RESET"]
        ),
        give_up=values["SUPERVISOR_GIVE_UP"],
        token=values["SUPERVISOR_TOKEN"],
        log=LogSettings(
            values["SUPERVISOR_LOG_FORMAT"],
            values["SUPERVISOR_LOG_OVERFLOW"],
            values["SUPERVISOR_LOG_HISTORY"],
            values["SUPERVISOR_LOG_NOISE"],
        ),
        app=AppSettings(
            enabled=has_app,
            name=values["SUPERVISOR_APP_NAME"],
            command=values["SUPERVISOR_APP_COMMAND"],
            bind=values["SUPERVISOR_APP_BIND"],
            port=values["SUPERVISOR_APP_PORT"],
            user=values["SUPERVISOR_APP_USER"],
            health_url=values["SUPERVISOR_APP_HEALTH_URL"],
            hung_after_s=values["SUPERVISOR_APP_HUNG"],
            restart=Restart(values["SUPERVISOR_RESTART"]),
            password=values["MOLTIS_PASSWORD"],
        ),
        tailnet=_tailnet(found, run_dir, default_state_dir, report),
        processes=found.processes,
        given=found.given,
        config_path=found.config_path,
    )


def _tailnet(found: _Found, run_dir: str, default_state_dir: str, report: Report) -> TailnetSettings:
    values = found.values
    state_dir = values["TS_STATE_DIR"] or default_state_dir
    in_memory = state_dir == parsers.MEMORY
    daemon_args = values["TS_TAILSCALED_EXTRA_ARGS"] or ()
    flags.check_daemon(daemon_args, report)
    attached = values["SUPERVISOR_TAILSCALE"] == "attach"
    return TailnetSettings(
        mode=values["SUPERVISOR_TAILSCALE"],
        user=values["SUPERVISOR_TAILSCALE_USER"],
        socket=values["TS_SOCKET"] or f"{run_dir}/tailscale/tailscaled.sock",
        state_dir=f"{run_dir}/tailscale" if in_memory else state_dir,
        in_memory=in_memory,
        ephemeral=values["TS_EPHEMERAL"] if "TS_EPHEMERAL" in found.given else None,
        auth_key=values["TS_AUTHKEY"],
        client_id=values["TS_CLIENT_ID"],
        client_secret=values["TS_CLIENT_SECRET"],
        api_url=values["SUPERVISOR_TAILSCALE_API_URL"].rstrip("/"),
        prefs=_prefs(found, report),
        serve=values["SUPERVISOR_SERVE"] or ("off" if attached else "auto"),
        serve_config=values["TS_SERVE_CONFIG"],
        grace_s=values["SUPERVISOR_TAILNET_GRACE"],
        socks5=values["TS_SOCKS5_SERVER"],
        http_proxy=values["TS_OUTBOUND_HTTP_PROXY_LISTEN"],
        extra_args=daemon_args,
        knobs=found.knobs,
        serve_panel=values["SUPERVISOR_SERVE_PANEL"] if attached else None,
    )


def _prefs(found: _Found, report: Report) -> Prefs:
    """Put the settings and the flags together; a flag beats a setting, as behind the official image."""
    values = found.values
    up = flags.parse_up(values["TS_EXTRA_ARGS"] or (), report)
    chosen: dict[str, Any] = {}
    given = {*up}
    for flag, setting in (
        ("hostname", "TS_HOSTNAME"),
        ("advertise-tags", "TS_TAGS"),
        ("advertise-routes", "TS_ROUTES"),
        ("accept-dns", "TS_ACCEPT_DNS"),
    ):
        chosen[flag] = up.get(flag, values[setting])
        given |= {flag} if setting in found.given else set()
        if flag in up and values[setting] is not None and setting != "TS_ACCEPT_DNS" and up[flag] != values[setting]:
            report.warnings.append(f"{setting} has no effect: --{flag} in {flags.UP} beats it")
    return Prefs(
        hostname=chosen["hostname"] or values["SUPERVISOR_APP_NAME"].strip("-") or "moltis",
        tags=chosen["advertise-tags"] or (),
        routes=chosen["advertise-routes"] or (),
        accept_dns=bool(chosen["accept-dns"]),
        accept_routes=bool(up.get("accept-routes")),
        advertise_exit_node=bool(up.get("advertise-exit-node")),
        advertise_connector=bool(up.get("advertise-connector")),
        exit_node=str(up.get("exit-node") or ""),
        exit_node_allow_lan_access=bool(up.get("exit-node-allow-lan-access")),
        shields_up=bool(up.get("shields-up")),
        report_posture=bool(up.get("report-posture")),
        login_server=str(up.get("login-server") or ""),
        given=frozenset(flags.UP_FLAGS) if up.get("reset") else frozenset(given),
    )


def _run_dir(account: Account, environ: Mapping[str, str]) -> str:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        return os.path.join(runtime, "moltis-supervisor")
    return "/run/moltis-supervisor" if account.uid == 0 else f"/tmp/moltis-supervisor-{account.uid}"


def _state_dir(account: Account, environ: Mapping[str, str]) -> str:
    if account.uid == 0:
        return "/var/lib/tailscale"
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.join(account.home, ".local/state")
    return os.path.join(state, "moltis-supervisor/tailscale")


def _check_together(settings: Settings, values: dict[str, Any], report: Report) -> None:
    """Find what is wrong between settings that are each right."""
    tailnet = settings.tailnet
    if not values["TS_USERSPACE"]:
        why = "kernel networking is not supported: tailscaled always runs in user space"
        report.problem("honour TS_USERSPACE=false", why, "remove it")
    if settings.backoff.max_s < settings.backoff.initial_s:
        report.problem(
            "use SUPERVISOR_BACKOFF_MAX",
            "it is less than SUPERVISOR_BACKOFF_INITIAL",
            "raise the one or lower the other",
        )
    if tailnet.mode == "off":
        return
    if not values["TS_AUTH_ONCE"]:
        report.warnings.append("TS_AUTH_ONCE=false has no effect: a key is used only when the node needs a login")
    if tailnet.mode == "attach" and "TS_SOCKET" not in settings.given:
        why = "TS_SOCKET does not say where the sidecar's tailscaled is"
        report.problem("attach", why, "set it, such as TS_SOCKET=/var/run/tailscale/tailscaled.sock")
    if tailnet.serve_panel is not None:
        # Loaded where a sidecar has a network of its own.
        from supervisor.config import panel_url

        panel_url.check(tailnet, report)
    if tailnet.auth_key or tailnet.client_id or tailnet.client_secret:
        # Loaded where there is something to check: most logins are done by a person.
        from supervisor.config import login

        login.check(tailnet, report)
