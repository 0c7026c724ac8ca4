"""All settings, each declared once: the default of a field of these classes is the setting that it is read from.

The loader, ``check`` and the reference page use ``SETTINGS``, which collects them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from supervisor.backoff import Backoff
from supervisor.config import parsers
from supervisor.config.parsers import Parser, SecretSource, choice
from supervisor.core.process import GiveUp, HttpProbe, Restart, TcpProbe
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Condition = tuple[str, tuple[str, ...]]

TAILNET: Condition = ("SUPERVISOR_TAILSCALE", ("embedded", "attach"))
EMBEDDED: Condition = ("SUPERVISOR_TAILSCALE", ("embedded",))
ATTACHED: Condition = ("SUPERVISOR_TAILSCALE", ("attach",))
APP: Condition = ("SUPERVISOR_APP", ("on",))
PRIVATE: Condition = ("SUPERVISOR_EXPOSE", ("tailnet",))
PUBLIC: Condition = ("SUPERVISOR_EXPOSE", ("public",))

# In the order of the reference page.
SECTIONS = (
    GENERAL := "General",
    EXPOSURE := "Exposure",
    THE_APP := "The app",
    RESTARTS := "Stops and restarts",
    LOGS := "Logs",
    PANEL := "Panel",
    TAILSCALE := "Tailnet",
    BACKUPS := "Backups",
    ALERTS := "Alerts",
)


class Setting(NamedTuple):
    """One setting.

    ``default`` is text, parsed like any other; None if there is none or it depends on the machine, and then
    ``said`` describes it. ``when`` are the conditions under which the setting has an effect.
    """

    name: str
    parser: Parser
    meaning: str
    section: str
    default: str | None = None
    when: tuple[Condition, ...] = ()
    said: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """Return every name that sets it, the preferred one first."""
        names = (self.name, *self.aliases)
        return names + tuple(f"{name}_FILE" for name in names) if self.parser is parsers.SECRET else names

    @property
    def default_value(self) -> object:
        """Return the parsed default."""
        return None if self.default is None else self.parser.parse(self.default)

    @property
    def default_text(self) -> str:
        """Return the default in words."""
        return self.said or self.default or "none"


def _declare(*columns: Any, **more: Any) -> Any:
    """Return a row as the default of a field of any type."""
    return Setting(*columns, **more)


_general = partial(_declare, section=GENERAL)
_exposure = partial(_declare, section=EXPOSURE)
_app = partial(_declare, section=THE_APP, when=(APP,))
_restart = partial(_declare, section=RESTARTS)
_log = partial(_declare, section=LOGS)
_tailnet = partial(_declare, section=TAILSCALE, when=(TAILNET,))
_tailscaled = partial(_declare, section=TAILSCALE, when=(EMBEDDED,))
_backup = partial(_declare, section=BACKUPS)
_alert = partial(_declare, section=ALERTS)


class LogSettings(NamedTuple):
    """The merged log."""

    format: str = _log(
        "SUPERVISOR_LOG_FORMAT",
        choice("pretty", "json"),
        "`pretty`: prefixed lines for people. `json`: one object per line.",
        default="pretty",
    )
    overflow: str = _log(
        "SUPERVISOR_LOG_OVERFLOW",
        choice("block", "drop"),
        "What happens when the log is not read and the buffer (8 MiB) is full. `block`: the processes wait, for at "
        "most 60 s. `drop`: the oldest lines are dropped at once. The log says how many lines were dropped.",
        default="block",
    )
    history_lines: int = _log(
        "SUPERVISOR_LOG_HISTORY",
        parsers.LINES,
        "Number of lines kept in memory (at most 4 MiB) for the panel and `logs`. Nothing is written to disk.",
        default="2000",
    )
    noise: str = _log(
        "SUPERVISOR_LOG_NOISE",
        choice("limit", "all"),
        "`limit`: of tailscaled's known repetitive lines, the log shows the first three of each kind per minute and "
        "counts the rest, which stay in the history. `all`: the log shows every line.",
        default="limit",
        when=(EMBEDDED,),
    )


class AppSettings(NamedTuple):
    """The app. ``bind`` is None for the loopback, ``health_url`` None for the default and empty for no probe."""

    user: str | None = _general(
        "SUPERVISOR_APP_USER",
        parsers.USER,
        "The user that runs the app, and further processes without a `user`, if started as root. A user named here "
        "must exist.",
        said="`moltis` if that user exists, else the supervisor's user",
    )
    enabled: bool = _declare(
        "SUPERVISOR_APP",
        choice("on", "off", to="on".__eq__),
        "`off`: no app process, as for a panel beside a sidecar.",
        section=THE_APP,
        default="on",
    )
    name: str = _app("SUPERVISOR_APP_NAME", parsers.NAME, "The app's name in logs, health and API.", default="moltis")
    command: tuple[str, ...] = _app(
        "SUPERVISOR_APP_COMMAND",
        parsers.COMMAND,
        "The app's command if `run` is given none. `--bind`, `--port` and `--no-tls` are appended, and `--json-logs` "
        "with JSON logs.",
        default="moltis",
    )
    password: SecretSource | None = _app(
        "MOLTIS_PASSWORD",
        parsers.SECRET,
        "Moltis' own password, which it keeps at its first start. Later starts, when Moltis' data folder contains "
        "`agents/main`, do not get it: Moltis would accept it for WebSockets beside one that you have set in Moltis "
        "since, and pass it on to its tools. A Moltis that then says that its set-up is not complete is restarted with "
        "it. Another app gets it at each start. Read from a file, it is not visible in the container's settings.",
    )
    bind: str | None = _app(
        "SUPERVISOR_APP_BIND",
        parsers.HOST,
        "The address that the app listens on in `tailnet` mode. Do not use 127.0.0.1: every tailnet peer reaches all "
        "ports of that address.",
        when=(PRIVATE,),
        said="`127.0.0.2`, or `::1` without an IPv4 loopback",
    )
    port: int = _app(
        "SUPERVISOR_APP_PORT",
        parsers.PORT,
        "The port that the app listens on in `tailnet` mode. 0 picks a free one.",
        default="13131",
        when=(PRIVATE,),
    )
    health_url: str | None = _app(
        "SUPERVISOR_APP_HEALTH_URL",
        parsers.HEALTH_URL,
        "URL of the app's health check, requested every 5 s (every 500 ms until the first success) with a timeout of "
        "2 s; only 2xx is a success. A path refers to the app's port. Empty: the app is healthy while it runs.",
        said="`/health` on the app's port for the built-in command, a TCP connect for any other",
    )
    hung_after_s: float | None = _app(
        "SUPERVISOR_APP_HUNG",
        parsers.DURATION_OR_NEVER,
        "An app that has passed its health check once is restarted after failing it for this long, and at least three "
        "times in a row; it is checked every 5 s.",
        default="2m",
    )
    restart: Restart = _restart(
        "SUPERVISOR_RESTART",
        choice("always", "on-failure", "never", to=Restart),
        "When an app that has exited is restarted (`run --restart`). If it is not, the other processes are stopped "
        "and `run` exits with the app's status.",
        default="always",
        when=(APP,),
    )


class Prefs(NamedTuple):
    """The device's preferences. Fields are named like flags of `tailscale up`, which override the settings.

    ``given`` are the flags that a setting or TS_EXTRA_ARGS set. An empty ``login_server`` is Tailscale's own.
    """

    hostname: str = _tailnet(
        "TS_HOSTNAME", parsers.HOST_NAME, "The device's name in the tailnet.", said="the app's name"
    )
    advertise_tags: tuple[str, ...] = _tailnet(
        "TS_TAGS",
        parsers.TAGS,
        "Tags that the device requests, separated by commas. The tailnet's policy must define their owners.",
        default="",
    )
    advertise_routes: tuple[str, ...] = _tailnet(
        "TS_ROUTES", parsers.ROUTES, "Subnet routes that the device advertises, separated by commas.", default=""
    )
    accept_dns: bool = _tailnet(
        "TS_ACCEPT_DNS", parsers.BOOLEAN, "Whether the device uses the tailnet's DNS settings.", default="false"
    )
    accept_routes: bool = False
    advertise_exit_node: bool = False
    advertise_connector: bool = False
    exit_node: str = ""
    exit_node_allow_lan_access: bool = False
    shields_up: bool = False
    report_posture: bool = False
    login_server: str = ""
    given: frozenset[str] = frozenset()


class TailnetSettings(NamedTuple):
    """The tailnet. ``grace_s`` is None for no limit; ``ephemeral`` None if unset: then only an OAuth client's keys are.

    ``socks5`` and ``http_proxy`` are host and port. ``passthrough`` are environment variables for tailscaled.
    ``keeps_identity`` is whether backups keep the device, which then must not be ephemeral.
    """

    prefs: Prefs
    in_memory: bool
    keeps_identity: bool
    passthrough: Mapping[str, str]
    user: str | None = _general(
        "SUPERVISOR_TAILSCALE_USER",
        parsers.USER,
        "The user that runs tailscaled, if started as root. A user named here must exist.",
        when=(EMBEDDED,),
        said="`tailscale` if that user exists, else the supervisor's user",
    )
    mode: str = _exposure(
        "SUPERVISOR_TAILSCALE",
        choice("embedded", "attach", "off"),
        "`embedded`: the supervisor runs tailscaled. `attach`: it uses a sidecar's, at `TS_SOCKET`. `off`: no tailnet.",
        default="embedded",
    )
    serve: str = _exposure(
        "SUPERVISOR_SERVE",
        choice("auto", "https", "http", "off"),
        "How the app is published in the tailnet. `auto`: HTTP on port 80, and HTTPS on port 443 too if the tailnet "
        "issues certificates and the state folder is kept (a mount of its own, or backups are on). `TS_SERVE_CONFIG` "
        "replaces it.",
        when=(TAILNET,),
        said="`auto`, in attach mode `off`",
    )
    serve_panel: str | None = _exposure(
        "SUPERVISOR_SERVE_PANEL",
        parsers.URL,
        "URL of this panel as seen by a sidecar with its own network, such as `http://panel:8080`. The panel is then "
        "published beside the app, at the device's name and that port.",
        when=(ATTACHED,),
    )
    grace_s: float | None = _tailnet(
        "SUPERVISOR_TAILNET_GRACE",
        parsers.DURATION_OR_NEVER,
        "How long the tailnet may be down before health and readiness fail: a duration, `0s` for at once, or `never` "
        "to warn only (restarting the container rarely restores a tailnet, and interrupts the app).",
        default="never",
    )
    api_url: str = _tailnet(
        "SUPERVISOR_TAILSCALE_API_URL",
        parsers.BASE_URL,
        "URL of the API that exchanges an OAuth client secret for an auth key.",
        default="https://api.tailscale.com",
    )
    auth_key: SecretSource | None = _tailnet(
        "TS_AUTHKEY",
        parsers.SECRET,
        "An auth key, or an OAuth client secret: `tskey-client-…`, which requires `TS_TAGS` and may be followed by "
        "`?ephemeral=true&preauthorized=false&baseURL=https://…`. It is used only when the node needs to log in.",
        aliases=("TS_AUTH_KEY",),
    )
    client_id: str | None = _tailnet(
        "TS_CLIENT_ID", parsers.TEXT, "The id of an OAuth client; requires `TS_CLIENT_SECRET`."
    )
    client_secret: SecretSource | None = _tailnet(
        "TS_CLIENT_SECRET",
        parsers.SECRET,
        "The secret of an OAuth client that creates auth keys, as in `TS_AUTHKEY`; requires `TS_TAGS`.",
    )
    auth_once: bool = _tailnet(
        "TS_AUTH_ONCE",
        parsers.BOOLEAN,
        "Accepted for compatibility and ignored: a key is used only when the node needs to log in.",
        default="true",
    )
    ephemeral: bool | None = _tailnet(
        "TS_EPHEMERAL",
        parsers.BOOLEAN,
        "Whether the node logs out at a clean stop, which frees its name at once. Keys of an OAuth client are for "
        "ephemeral devices unless this, or the secret's attribute, is `false`.",
        said="`false`",
    )
    state_dir: str = _tailnet(
        "TS_STATE_DIR",
        parsers.STATE_DIR,
        "The folder with the device's identity. `mem:` keeps nothing: each start creates a new, ephemeral device.",
        said="`/var/lib/tailscale` as root, else `$XDG_STATE_HOME/moltis-supervisor/tailscale` "
        "(`~/.local/state/…` if that is not set)",
    )
    socket: str = _tailnet(
        "TS_SOCKET",
        parsers.PATH,
        "tailscaled's socket. Required in attach mode: the sidecar's socket. In embedded mode, a path where nothing "
        "but a socket is, in a folder that does not exist yet or is closed to the app's user.",
        said="`tailscale/tailscaled.sock` in the run folder",
    )
    serve_config: str | None = _tailnet(
        "TS_SERVE_CONFIG",
        parsers.PATH,
        "A JSON file with a serve configuration in the official image's format; changes to it are applied.",
    )
    up_args: tuple[str, ...] = _tailnet(
        "TS_EXTRA_ARGS",
        parsers.WORDS,
        "Flags of `tailscale up`, interpreted by the supervisor; see below.",
        default="",
    )
    socks5: tuple[str, int] | None = _tailscaled(
        "TS_SOCKS5_SERVER", parsers.ADDRESS, "Address of tailscaled's SOCKS5 proxy into the tailnet.", said="off"
    )
    http_proxy: tuple[str, int] | None = _tailscaled(
        "TS_OUTBOUND_HTTP_PROXY_LISTEN",
        parsers.ADDRESS,
        "Address of tailscaled's HTTP proxy into the tailnet.",
        said="off",
    )
    extra_args: tuple[str, ...] = _tailscaled(
        "TS_TAILSCALED_EXTRA_ARGS", parsers.WORDS, "Additional flags of tailscaled, split as by a shell.", default=""
    )
    userspace: bool = _tailscaled(
        "TS_USERSPACE",
        parsers.BOOLEAN,
        "Accepted for compatibility if `true`: networking is always in user space.",
        default="true",
    )

    @property
    def logs_out_at_stop(self) -> bool:
        """Whether the device is removed from the tailnet at an orderly stop."""
        # It is unknown where a sidecar keeps its state.
        return self.mode != "off" and bool(self.ephemeral or (self.in_memory and self.mode == "embedded"))


class BackupSettings(NamedTuple):
    """Backups. ``repository`` is a URL or an absolute folder, ``paths`` None for Moltis' own folders.

    The keys are None for a folder. ``keep`` is a count for each period; ``restore`` is auto, never or an id.
    """

    repository: str = _backup(
        "SUPERVISOR_BACKUP_REPOSITORY",
        parsers.REPOSITORY,
        "Where snapshots are stored, in restic's format: an S3 bucket, or a folder that the app cannot write to and "
        "that is outside of the paths that are backed up. Without it backups are off.",
    )
    password: SecretSource | None = _backup(
        "SUPERVISOR_BACKUP_PASSWORD",
        parsers.SECRET,
        "Encrypts the repository; required with it. Keep a copy elsewhere: without it no snapshot can be read.",
    )
    access_key_id: SecretSource | None = _backup(
        "SUPERVISOR_BACKUP_ACCESS_KEY_ID", parsers.SECRET, "The id of the bucket's access key; required for a bucket."
    )
    secret_access_key: SecretSource | None = _backup(
        "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY",
        parsers.SECRET,
        "The secret of the bucket's access key; required for a bucket.",
    )
    paths: tuple[str, ...] | None = _backup(
        "SUPERVISOR_BACKUP_PATHS",
        parsers.FOLDERS,
        "Absolute paths of the folders to back up, separated by `:`; none may be inside another. The state folder of "
        "an embedded tailscaled is always included.",
        said="Moltis' config and data folders; required for an app with another command",
    )
    interval_s: float = _backup(
        "SUPERVISOR_BACKUP_INTERVAL",
        parsers.BACKUP_INTERVAL,
        "Time between the end of a snapshot and the start of the next; at least `1m`.",
        default="5m",
    )
    keep: Mapping[str, int] = _backup(
        "SUPERVISOR_BACKUP_KEEP",
        parsers.KEEP,
        "How many snapshots to keep, as in `restic forget --keep-*`: `last` (at least 1), `hourly`, `daily`, `weekly`, "
        "`monthly`, `yearly`. The newest snapshot, and the last one before each change of the app's or tailscaled's "
        "version, are always kept.",
        default="last=10,hourly=24,daily=14,weekly=8",
    )
    restore: str = _backup(
        "SUPERVISOR_BACKUP_RESTORE",
        parsers.RESTORE,
        "What a start restores. `auto`: the newest snapshot if there are no files yet. `never`: nothing. A snapshot's "
        "id: that snapshot, once; a snapshot of the existing files is taken first.",
        default="auto",
    )

    @property
    def in_folder(self) -> bool:
        """Whether the repository is a folder rather than a bucket."""
        return self.repository.startswith("/")


class AlertSettings(NamedTuple):
    """Where incidents are sent at once. ``url`` is None for nowhere, ``format`` None for the one of the URL's host."""

    url: SecretSource | None = _alert(
        "SUPERVISOR_ALERT_URL",
        parsers.SECRET,
        "Where [incidents](incidents.md#alerts) are sent at once, by a POST: a webhook, an ntfy topic, or an incoming "
        "webhook of Slack or Discord. It must be `https:`, except for the loopback; redirects are not followed.",
    )
    format: str | None = _alert(
        "SUPERVISOR_ALERT_FORMAT",
        choice("json", "ntfy", "slack", "discord"),
        "The format of alerts.",
        said="by the URL's host: `ntfy`, `slack` or `discord`, else `json`",
    )
    secret: SecretSource | None = _alert(
        "SUPERVISOR_ALERT_SECRET",
        parsers.SECRET,
        "Signs alerts in the format `json`, as in [Standard Webhooks](https://www.standardwebhooks.com).",
    )
    with_lines: bool = _alert(
        "SUPERVISOR_ALERT_LINES",
        choice("on", "off", to="on".__eq__),
        "`on`: an alert contains the last lines of a process's output. They are masked, but may still contain "
        "what that service should not see.",
        default="off",
    )


class ExtraProcess(NamedTuple):
    """One `[process.NAME]` table. ``stop_timeout_s`` is None for the supervisor's timeout."""

    name: str
    command: tuple[str, ...]
    user: str | None = None
    env: Mapping[str, str] = {}
    critical: bool = False
    after: tuple[str, ...] = ()
    restart: Restart = Restart.ALWAYS
    stop_signal: int = 15
    stop_timeout_s: float | None = None
    health: HttpProbe | TcpProbe | None = None


class Settings(NamedTuple):
    """All settings. ``bind`` is None for every address; ``given`` are the names that were set.

    ``backup`` is None without backups.
    """

    log: LogSettings
    app: AppSettings
    tailnet: TailnetSettings
    backup: BackupSettings | None
    alerts: AlertSettings
    processes: tuple[ExtraProcess, ...]
    given: frozenset[str]
    config_path: str | None = _general(
        "SUPERVISOR_CONFIG",
        parsers.PATH,
        "A TOML file: `[settings]` contains the names of this page, `[process.NAME]` tables define further processes. "
        "The environment takes precedence.",
    )
    run_dir: str = _general(
        "SUPERVISOR_RUN_DIR",
        parsers.PATH,
        "The folder for the control socket, the port file and tailscaled's socket. It is created with mode 0700, and "
        "refused if it is a link, belongs to another user, or is shared (`/tmp`); only one supervisor can use it.",
        said="`$XDG_RUNTIME_DIR/moltis-supervisor` if that is set, else `/run/moltis-supervisor` as root, "
        "else `/tmp/moltis-supervisor-UID`",
    )
    expose: str = _exposure(
        "SUPERVISOR_EXPOSE",
        choice("tailnet", "public"),
        "What listens on `PORT`. `tailnet`: the supervisor; the app is reached through the tailnet. `public`: the app; "
        "the supervisor listens on `SUPERVISOR_PORT`.",
        default="tailnet",
        when=(APP,),
    )
    port: int = _exposure("PORT", parsers.PORT, "The platform's port. 0 picks a free one and logs it.", default="8080")
    bind: str | None = _exposure(
        "SUPERVISOR_BIND",
        parsers.HOST,
        "The local address for `PORT` and `SUPERVISOR_PORT`. In `public` mode the app gets a single address: unless "
        "this is set, `0.0.0.0`, or `::` if the machine's network is IPv6 only.",
        said="every IPv4 and IPv6 address",
    )
    supervisor_port: int = _exposure(
        "SUPERVISOR_PORT",
        parsers.PORT,
        "The port of the health endpoints and the panel in `public` mode. 0 picks a free one.",
        default="9090",
        when=(PUBLIC, APP),
    )
    stop_timeout_s: float = _restart(
        "SUPERVISOR_STOP_TIMEOUT",
        parsers.DURATION,
        "Time limit of the whole ordered stop, from the signal until nothing is left. The default fits Docker's 10 s; "
        "Moltis may need 25 s, so raise it together with the platform's grace period.",
        default="8s",
    )
    backoff_initial_s: float = _restart(
        "SUPERVISOR_BACKOFF_INITIAL", parsers.DURATION, "First delay before a restart; it doubles.", default="500ms"
    )
    backoff_max_s: float = _restart(
        "SUPERVISOR_BACKOFF_MAX", parsers.DURATION, "Longest delay before a restart.", default="30s"
    )
    backoff_reset_s: float = _restart(
        "SUPERVISOR_BACKOFF_RESET",
        parsers.DURATION,
        "How long a process must run until its failures are no longer counted.",
        default="60s",
    )
    give_up: GiveUp | None = _restart(
        "SUPERVISOR_GIVE_UP",
        parsers.GIVE_UP,
        "The number of failures within a time window after which a critical process ends the supervisor (exit 70).",
        default="10/5m",
    )
    token: SecretSource | None = _declare(
        "SUPERVISOR_TOKEN",
        parsers.SECRET,
        "The admin token for the panel and the API, at least 16 characters.",
        section=PANEL,
        said="none: a one-time sign-in code is printed to the log",
    )

    credential_warnings: bool = _general(
        "SUPERVISOR_CREDENTIAL_WARNINGS",
        choice("on", "off", to="on".__eq__),
        "`on`: `/health` warns 14 and 3 days before the device's key or its certificate expires. `off`: no warning.",
        default="on",
    )

    @property
    def backoff(self) -> Backoff:
        """Return the delay policy of restarts."""
        return Backoff(self.backoff_initial_s, self.backoff_max_s, self.backoff_reset_s)

    @property
    def secrets(self) -> tuple[SecretSource, ...]:
        """Return all secrets that are set."""
        groups: tuple[Any, ...] = (self, self.tailnet, self.app, self.backup, self.alerts)
        return tuple(value for group in groups for value in group or () if isinstance(value, SecretSource))


def rows(group: Any) -> dict[str, Setting]:
    """Return the settings of a class by field name."""
    return {field: row for field, row in group._field_defaults.items() if isinstance(row, Setting)}


_GROUPS = (Settings, AppSettings, LogSettings, Prefs, TailnetSettings, BackupSettings, AlertSettings)
SETTINGS: tuple[Setting, ...] = tuple(
    sorted((row for group in _GROUPS for row in rows(group).values()), key=lambda row: SECTIONS.index(row.section))
)
BY_SPELLING: dict[str, Setting] = {spelling: row for row in SETTINGS for spelling in row.spellings}
