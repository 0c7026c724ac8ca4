"""Loads the settings. The command line overrides the environment, which overrides the TOML file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from supervisor.config import parsers, tailscale_env
from supervisor.config.parsers import InvalidValueError, SecretSource
from supervisor.config.settings import (
    BY_SPELLING,
    AlertSettings,
    AppSettings,
    LogSettings,
    Prefs,
    Setting,
    Settings,
    TailnetSettings,
    rows,
)
from supervisor.errors import ConfigError, Diagnostics, quoted
from supervisor.namedtuples import NamedTuple
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.config.settings import ExtraProcess

# An empty value is otherwise the same as none.
_MAY_BE_EMPTY = "SUPERVISOR_APP_HEALTH_URL"
_PANEL = "SUPERVISOR_SERVE_PANEL"
_ALERT = "SUPERVISOR_ALERT_URL"
# A shell and Compose remove quotes; `docker run --env-file` and `kubectl create --from-env-file` do not.
_IN_QUOTES = "in quotes, which are part of the value here (a file for `docker run --env-file` has none around values)"
_SERVICE_LINK = ", but what Kubernetes sets for a Service of that name (`enableServiceLinks: false` prevents it)"
_AS_FOR_A_SHELL = (parsers.COMMAND, parsers.WORDS)


class Account(NamedTuple):
    """The user that the supervisor runs as: some defaults depend on it."""

    uid: int
    home: str


class _Source(NamedTuple):
    """What was configured: the settings' texts by name, tailscaled's variables, and further processes."""

    texts: Mapping[str, str]
    passthrough: Mapping[str, str]
    processes: tuple[ExtraProcess, ...]

    def fields(self, group: Any, diags: Diagnostics) -> dict[str, Any]:
        """Return the values of a class's settings, by field."""
        return {field: _value(row, self.texts, diags) for field, row in rows(group).items()}


def load(
    environ: Mapping[str, str],
    diags: Diagnostics,
    *,
    config: str | None = None,
    restart: str | None = None,
    account: Account,
) -> Settings:
    """Return the settings; an invalid one is reported and has its default.

    ``config`` and ``restart`` are options of the command line.
    """
    options = {"SUPERVISOR_CONFIG": config, "SUPERVISOR_RESTART": restart}
    source = _source(environ, {name: text for name, text in options.items() if text is not None}, diags)
    given = frozenset(BY_SPELLING[name].name for name in source.texts)
    values = source.fields(Settings, diags)
    values["run_dir"] = values["run_dir"] or _run_dir(account, environ)
    app = AppSettings(**source.fields(AppSettings, diags))
    settings = Settings(
        **values,
        log=LogSettings(**source.fields(LogSettings, diags)),
        app=app,
        tailnet=_tailnet(source, app.name, given, values["run_dir"], _state_dir(account, environ), diags),
        backup=None,
        alerts=AlertSettings(**source.fields(AlertSettings, diags)),
        processes=source.processes,
        given=given,
    )
    if not app.enabled:
        settings = settings._replace(expose="tailnet")
    _check_combinations(settings, diags)
    if any(name.startswith("SUPERVISOR_BACKUP_") for name in given):
        # Loaded when needed: most runs have no backups.
        from supervisor.config import backup_plan
        from supervisor.config.settings import BackupSettings

        settings = backup_plan.add_settings(settings, source.fields(BackupSettings, diags), diags)
    return settings


def run_dir(environ: Mapping[str, str], account: Account) -> str:
    """Return the run folder, whatever else is set: the files of other settings are not read, as their disk may hang."""
    unused = Diagnostics()
    texts = _present(tailscale_env.classify(environ, "", unused)[0])
    if "SUPERVISOR_RUN_DIR" not in texts:
        texts = dict(_source(environ, {}, unused).texts)
    found = _value(BY_SPELLING["SUPERVISOR_RUN_DIR"], texts, unused)
    return found if isinstance(found, str) and found else _run_dir(account, environ)


def _source(environ: Mapping[str, str], options: Mapping[str, str], diags: Diagnostics) -> _Source:
    texts, passthrough = tailscale_env.classify(environ, "", diags)
    texts = _present({**texts, **options})
    path = _value(BY_SPELLING["SUPERVISOR_CONFIG"], texts, diags)
    if not isinstance(path, str):
        return _Source(texts, passthrough, ())
    # Loaded when needed: most runs have no file.
    from supervisor.config import toml

    file = toml.read(path, diags)
    below = _present(file.settings)
    if "SUPERVISOR_RUN_DIR" in below and "SUPERVISOR_RUN_DIR" not in texts:
        diags.warn(
            f"SUPERVISOR_RUN_DIR is set in {path}, which the health check does not read: set it in the environment"
        )
    # The environment overrides a setting of the file under each of its names.
    overridden = {BY_SPELLING[name].name for name in texts}
    below = {name: text for name, text in below.items() if BY_SPELLING[name].name not in overridden}
    return _Source({**below, **texts}, {**file.passthrough, **passthrough}, file.processes)


def origins(environ: Mapping[str, str], config: str | None) -> dict[str, tuple[str, str]]:
    """Return each given setting's text and where it comes from: the environment, or the path ``config`` of the file."""
    unused = Diagnostics()
    found: dict[str, tuple[str, str]] = {}
    if config is not None:
        from supervisor.config import toml

        below = _present(toml.read(config, unused).settings)
        found |= {BY_SPELLING[name].name: (text, config) for name, text in below.items()}
    above = _present(tailscale_env.classify(environ, "", unused)[0])
    return found | {BY_SPELLING[name].name: (text, "environment") for name, text in above.items()}


def _present(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text.strip() for name, text in texts.items() if text.strip() or name == _MAY_BE_EMPTY}


def _value(row: Setting, texts: Mapping[str, str], diags: Diagnostics) -> object:
    if row.parser is parsers.SECRET:
        return _secret(row, texts, diags)
    text = texts.get(row.name)
    if text is not None:
        in_quotes = _is_in_quotes(text) and row.parser not in _AS_FOR_A_SHELL
        try:
            value = row.parser.parse(text)
        except InvalidValueError as error:
            value = "" if row.parser.private else f"={quoted(text)}"
            remedy = f"write {row.parser.form}, or leave it out for the default ({row.default_text})"
            diags.problem(f"use {row.name}{value}", _why(text, error, in_quotes=in_quotes), remedy)
        else:
            if in_quotes:
                diags.warn(f"{row.name} is {_IN_QUOTES}; leave them out")
            return value
    return row.default_value


def _why(text: str, error: InvalidValueError, *, in_quotes: bool) -> str:
    if in_quotes:
        return f"it is {_IN_QUOTES}"
    return f"{error}{_SERVICE_LINK}" if text.startswith(("tcp://", "udp://")) else str(error)


def _is_in_quotes(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]


def _secret(row: Setting, texts: Mapping[str, str], diags: Diagnostics) -> SecretSource | None:
    present = [name for name in row.spellings if name in texts]
    if not present:
        return None
    name = present[0]
    if any(other.endswith("_FILE") for other in present[1:]):
        diags.problem(f"choose a value of {row.name}", f"{' and '.join(present)} are both set", "set only one of them")
        return None
    if len(present) > 1:
        diags.warn(f"{present[1]} has no effect: {name} is set as well, and overrides it")
    text = texts[name]
    try:
        if not name.endswith("_FILE") and not text.startswith("file:"):
            secret = Secret(parsers.line(text))
            if _is_in_quotes(text):
                diags.warn(f"{name} is {_IN_QUOTES}; leave them out")
            return SecretSource(name, value=secret)
        source = SecretSource(name, path=parsers.path(text if name.endswith("_FILE") else text.removeprefix("file:")))
        source.read()
    except InvalidValueError as error:
        diags.problem(f"use {name}", str(error), "write only the secret, on one line")
        return None
    except ConfigError as error:
        diags.add(error)
    return source


def _tailnet(
    source: _Source, app_name: str, given: frozenset[str], run_dir: str, default_dir: str, diags: Diagnostics
) -> TailnetSettings:
    values = source.fields(TailnetSettings, diags)
    attached = values["mode"] == "attach"
    in_memory = values["state_dir"] == parsers.MEMORY
    values["state_dir"] = f"{run_dir}/tailscale" if in_memory else values["state_dir"] or default_dir
    values["socket"] = values["socket"] or f"{run_dir}/tailscale/tailscaled.sock"
    values["serve"] = values["serve"] or ("off" if attached else "auto")
    if not attached:
        values["serve_panel"] = None
    tailscale_env.check_daemon(values["extra_args"], diags)
    flags = tailscale_env.parse_up(values["up_args"], diags)
    return TailnetSettings(
        **values,
        prefs=_prefs(source.fields(Prefs, diags), flags, app_name, given, diags),
        in_memory=in_memory,
        keeps_identity=False,
        passthrough=source.passthrough,
    )


def _prefs(
    values: dict[str, Any], flags: dict[str, object], app_name: str, given: frozenset[str], diags: Diagnostics
) -> Prefs:
    """Return the preferences of settings and flags; a flag overrides a setting, as in the official image."""
    set_by_setting: set[str] = set()
    for field, row in rows(Prefs).items():
        flag = field.replace("_", "-")
        if row.name in given:
            set_by_setting.add(flag)
            if flag in flags and flags[flag] != values[field] and row.name != "TS_ACCEPT_DNS":
                diags.warn(f"{row.name} has no effect: --{flag} in {tailscale_env.UP} overrides it")
    reset = flags.pop("reset", False)
    for flag, value in flags.items():
        field = flag.replace("-", "_")
        default = Prefs._field_defaults[field]
        values[field] = value if value is not None else getattr(default, "default_value", default)
    values["hostname"] = values["hostname"] or app_name.strip("-") or "moltis"
    return Prefs(**values, given=frozenset(tailscale_env.UP_FLAGS) if reset else frozenset({*flags, *set_by_setting}))


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


def _check_combinations(settings: Settings, diags: Diagnostics) -> None:
    """Report what is wrong with settings in combination."""
    tailnet = settings.tailnet
    if not tailnet.userspace:
        why = "kernel networking is not supported: tailscaled always runs in user space"
        diags.problem("honour TS_USERSPACE=false", why, "remove it")
    if settings.backoff_max_s < settings.backoff_initial_s:
        why = "it is less than SUPERVISOR_BACKOFF_INITIAL"
        diags.problem("use SUPERVISOR_BACKOFF_MAX", why, "raise the one or lower the other")
    _check_alerts(settings, diags)
    if tailnet.mode == "off":
        return
    if not tailnet.auth_once:
        diags.warn("TS_AUTH_ONCE=false has no effect: a key is used only when the node needs a login")
    if tailnet.mode == "attach" and "TS_SOCKET" not in settings.given:
        why = "TS_SOCKET does not say where the sidecar's tailscaled is"
        diags.problem("attach", why, "set it, such as TS_SOCKET=/var/run/tailscale/tailscaled.sock")
    prefs = tailnet.prefs
    if prefs.exit_node and (prefs.advertise_exit_node or parsers.EXIT_ROUTES[0] in prefs.advertise_routes):
        why = "no device uses an exit node and is one itself, as --advertise-exit-node or a route to everything says"
        diags.problem(f"honour --exit-node in {tailscale_env.UP}", why, "remove one of the two")
    if tailnet.serve_panel is not None:
        _check_panel_url(tailnet, tailnet.serve_panel, diags)
    if tailnet.auth_key or tailnet.client_id or tailnet.client_secret:
        tailscale_env.check_login(tailnet, diags)


def _check_alerts(settings: Settings, diags: Diagnostics) -> None:
    """Report a URL that alerts cannot be sent to, and settings that have no effect without one."""
    url = settings.alerts.url
    if url is None:
        names = sorted(row.name for row in rows(AlertSettings).values() if row.name in settings.given)
        diags.warn(*(f"{name} has no effect without {_ALERT}" for name in names if name != _ALERT))
        return
    if settings.alerts.secret is not None and settings.alerts.format not in {None, "json"}:
        diags.warn(
            f"SUPERVISOR_ALERT_SECRET has no effect: alerts in the format {settings.alerts.format} are not signed"
        )
    try:
        parsers.alert_url(url.read().reveal())
    except ConfigError:
        # It was reported.
        return
    except InvalidValueError as error:
        diags.problem(f"use {url.name}", str(error), "write a URL such as https://ntfy.sh/TOPIC")


def _check_panel_url(tailnet: TailnetSettings, url: str, diags: Diagnostics) -> None:
    """Report a URL that the panel cannot be published at, and a setting that makes it have no effect."""
    # Loaded when needed: few sidecars have a network of their own.
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    what = f"publish the panel by {_PANEL}={url}"
    if parts.port is None or parts.port in {80, 443}:
        why = "it has no port" if parts.port is None else f"in the tailnet, port {parts.port} is the app's"
        diags.problem(what, why, "write the panel's own port, such as http://panel:8080")
    if parts.path.strip("/") or parts.query or parts.fragment:
        diags.problem(what, "a path follows the port", "leave the path out")
    if tailnet.serve_config is not None:
        diags.warn(f"{_PANEL} has no effect: TS_SERVE_CONFIG replaces it")
    elif tailnet.serve == "off":
        diags.warn(f"{_PANEL} has no effect: SUPERVISOR_SERVE is off")
