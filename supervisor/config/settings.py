"""Every setting, declared once: a field of these classes has the setting it is read from as its default.

The loader, ``check`` and the reference page are made from ``SETTINGS``, which collects them.
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
    EXPOSURE := "Who is reached where",
    THE_APP := "The app",
    RESTARTS := "Stops and restarts",
    LOGS := "Logs",
    PANEL := "Panel",
    TAILSCALE := "Tailnet",
    BACKUPS := "Backups",
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


class LogSettings(NamedTuple):
    """The merged log."""

    format: str = _log(
        "SUPERVISOR_LOG_FORMAT",
        choice("pretty", "json"),
        "`pretty`: prefixed lines for people. `json`: one object a line.",
        default="pretty",
    )
    overflow: str = _log(
        "SUPERVISOR_LOG_OVERFLOW",
        choice("block", "drop"),
        "When the log's reader stalls and the buffer (8 MiB) is full. `block`: the children wait, for at most 60 s. "
        "`drop`: the oldest lines are dropped at once. Dropped lines are counted in the log.",
        default="block",
    )
    history_lines: int = _log(
        "SUPERVISOR_LOG_HISTORY",
        parsers.LINES,
        "Lines kept in memory (4 MiB at most) for the panel and `logs`. Nothing is written to disk.",
        default="2000",
    )
    noise: str = _log(
        "SUPERVISOR_LOG_NOISE",
        choice("limit", "all"),
        "`limit`: of tailscaled's lines that are known to come again and again, the log shows the first three of a "
        "kind a minute and counts the others, which stay in the history. `all`: the log shows every line.",
        default="limit",
        when=(EMBEDDED,),
    )


class AppSettings(NamedTuple):
    """The app. ``bind`` is None for the loopback, ``health_url`` None for the default and empty for no probe."""

    user: str | None = _general(
        "SUPERVISOR_APP_USER",
        parsers.USER,
        "Started as root, the user that the app runs as, and further processes that name none. One named here must "
        "exist.",
        said="`moltis` where that user exists, else the supervisor's own",
    )
    enabled: bool = _declare(
        "SUPERVISOR_APP",
        choice("on", "off", to="on".__eq__),
        "`off`: no app process (the panel beside a sidecar).",
        section=THE_APP,
        default="on",
    )
    name: str = _app("SUPERVISOR_APP_NAME", parsers.NAME, "The app's name in logs, health and API.", default="moltis")
    command: tuple[str, ...] = _app(
        "SUPERVISOR_APP_COMMAND",
        parsers.COMMAND,
        "The app's program when `run` is given no command. `--bind`, `--port` and `--no-tls` are added, and "
        "`--json-logs` in JSON format.",
        default="moltis",
    )
    password: SecretSource | None = _app(
        "MOLTIS_PASSWORD",
        parsers.SECRET,
        "Moltis' own password, handed on to the app. From a file, it does not show in a container's settings.",
    )
    bind: str | None = _app(
        "SUPERVISOR_APP_BIND",
        parsers.HOST,
        "The address where the app listens in `tailnet` mode. Not 127.0.0.1: every port of that address is open to "
        "every tailnet peer.",
        when=(PRIVATE,),
        said="`127.0.0.2`, or `::1` where there is no IPv4 loopback",
    )
    port: int = _app(
        "SUPERVISOR_APP_PORT",
        parsers.PORT,
        "The port where the app listens in `tailnet` mode. 0 picks a free one.",
        default="13131",
        when=(PRIVATE,),
    )
    health_url: str | None = _app(
        "SUPERVISOR_APP_HEALTH_URL",
        parsers.HEALTH_URL,
        "Probed every 5 s (every 500 ms until its first answer) with a deadline of 2 s; only 2xx counts. A path means "
        "the app's own port. Set and empty: alive means healthy.",
        said="`/health` on the app's port for the built-in command, a TCP connect for any other",
    )
    hung_after_s: float | None = _app(
        "SUPERVISOR_APP_HUNG",
        parsers.DURATION_OR_NEVER,
        "An app that has answered once and then does not for this long is restarted.",
        default="2m",
    )
    restart: Restart = _restart(
        "SUPERVISOR_RESTART",
        choice("always", "on-failure", "never", to=Restart),
        "When an app that ended is started again (`run --restart`). Ended for good, the others are stopped and `run` "
        "ends with its status.",
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
        "The tags the device asks for, separated by commas. The tailnet's policy must say who owns them.",
        default="",
    )
    advertise_routes: tuple[str, ...] = _tailnet(
        "TS_ROUTES", parsers.ROUTES, "Subnet routes the device offers, separated by commas.", default=""
    )
    accept_dns: bool = _tailnet(
        "TS_ACCEPT_DNS", parsers.BOOLEAN, "Whether the tailnet's DNS settings are taken over.", default="false"
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
    """The tailnet. ``grace_s`` is None for ever; ``ephemeral`` is None if unset: then only an OAuth client's keys are.

    ``socks5`` and ``http_proxy`` are host and port. ``passthrough`` are environment variables for tailscaled.
    """

    prefs: Prefs
    in_memory: bool
    passthrough: Mapping[str, str]
    user: str | None = _general(
        "SUPERVISOR_TAILSCALE_USER",
        parsers.USER,
        "Started as root, the user that tailscaled runs as. One named here must exist.",
        when=(EMBEDDED,),
        said="`tailscale` where that user exists, else the supervisor's own",
    )
    mode: str = _exposure(
        "SUPERVISOR_TAILSCALE",
        choice("embedded", "attach", "off"),
        "`embedded`: a tailscaled of its own. `attach`: a sidecar's, at `TS_SOCKET`. `off`: none.",
        default="embedded",
    )
    serve: str = _exposure(
        "SUPERVISOR_SERVE",
        choice("auto", "https", "http", "off"),
        "How the tailnet reaches the app. `auto`: HTTP on 80, and HTTPS on 443 beside it where the tailnet issues "
        "certificates and the state folder is a mount of its own. `TS_SERVE_CONFIG` replaces it.",
        when=(TAILNET,),
        said="`auto`, in attach mode `off`",
    )
    serve_panel: str | None = _exposure(
        "SUPERVISOR_SERVE_PANEL",
        parsers.URL,
        "Where a sidecar's tailscaled finds this panel, such as `http://panel:8080`, for a sidecar with a network of "
        "its own. Peers find the panel at the device's name and that port; it is published beside the app.",
        when=(ATTACHED,),
    )
    grace_s: float | None = _tailnet(
        "SUPERVISOR_TAILNET_GRACE",
        parsers.DURATION_OR_NEVER,
        "How long the tailnet may be away until health and readiness fail: a duration, `0s` for at once, `never` to "
        "warn only (a restart of the container seldom brings a tailnet back, and would take the app down with it).",
        default="never",
    )
    api_url: str = _tailnet(
        "SUPERVISOR_TAILSCALE_API_URL",
        parsers.BASE_URL,
        "Where an OAuth client secret is exchanged for an auth key.",
        default="https://api.tailscale.com",
    )
    auth_key: SecretSource | None = _tailnet(
        "TS_AUTHKEY",
        parsers.SECRET,
        "An auth key, or an OAuth client secret: `tskey-client-…`, which needs `TS_TAGS`, and may have "
        "`?ephemeral=true&preauthorized=false&baseURL=https://…` behind it. It is used when the node needs a login and "
        "never otherwise.",
        aliases=("TS_AUTH_KEY",),
    )
    client_id: str | None = _tailnet(
        "TS_CLIENT_ID", parsers.TEXT, "The id of an OAuth client; needs `TS_CLIENT_SECRET`."
    )
    client_secret: SecretSource | None = _tailnet(
        "TS_CLIENT_SECRET",
        parsers.SECRET,
        "The secret of an OAuth client that makes auth keys, written as in `TS_AUTHKEY`; needs `TS_TAGS`.",
    )
    auth_once: bool = _tailnet(
        "TS_AUTH_ONCE",
        parsers.BOOLEAN,
        "Accepted for the sake of existing files. Whatever it says, a key is used only when a login is needed.",
        default="true",
    )
    ephemeral: bool | None = _tailnet(
        "TS_EPHEMERAL",
        parsers.BOOLEAN,
        "Whether the node logs out at a clean stop, so that its name is free at once. An OAuth client makes its keys "
        "for ephemeral devices unless this, or the secret itself, says `false`.",
        said="`false`",
    )
    state_dir: str = _tailnet(
        "TS_STATE_DIR",
        parsers.STATE_DIR,
        "The folder with the device's identity. `mem:` keeps nothing: each start is a new, ephemeral device.",
        said="`/var/lib/tailscale` as root, else `$XDG_STATE_HOME/moltis-supervisor/tailscale` "
        "(`~/.local/state/…` where that is not set)",
    )
    socket: str = _tailnet(
        "TS_SOCKET",
        parsers.PATH,
        "tailscaled's socket. In attach mode it must be set, to the sidecar's.",
        said="`tailscale/tailscaled.sock` in the run folder",
    )
    serve_config: str | None = _tailnet(
        "TS_SERVE_CONFIG",
        parsers.PATH,
        "A JSON file with a serve configuration, as the official image takes it; watched for changes.",
    )
    up_args: tuple[str, ...] = _tailnet(
        "TS_EXTRA_ARGS",
        parsers.WORDS,
        "Flags of `tailscale up`, understood by the supervisor itself; see below.",
        default="",
    )
    socks5: tuple[str, int] | None = _tailscaled(
        "TS_SOCKS5_SERVER", parsers.ADDRESS, "Where tailscaled offers a SOCKS5 proxy into the tailnet.", said="off"
    )
    http_proxy: tuple[str, int] | None = _tailscaled(
        "TS_OUTBOUND_HTTP_PROXY_LISTEN",
        parsers.ADDRESS,
        "Where tailscaled offers an HTTP proxy into the tailnet.",
        said="off",
    )
    extra_args: tuple[str, ...] = _tailscaled(
        "TS_TAILSCALED_EXTRA_ARGS", parsers.WORDS, "Further flags of tailscaled, split as a shell would.", default=""
    )
    userspace: bool = _tailscaled(
        "TS_USERSPACE",
        parsers.BOOLEAN,
        "Accepted for the sake of existing files where it says `true`: networking is always in user space.",
        default="true",
    )

    @property
    def logs_out_at_stop(self) -> bool:
        """Whether the device is removed from the tailnet at an orderly stop."""
        # Where a sidecar keeps its state is unknown.
        return self.mode != "off" and bool(self.ephemeral or (self.in_memory and self.mode == "embedded"))


class BackupSettings(NamedTuple):
    """Backups. ``repository`` is a URL or an absolute folder, ``paths`` None for Moltis' own folders.

    The keys are None for a folder. ``keep`` is a count for each period; ``restore`` is auto, never or an id.
    """

    repository: str = _backup(
        "SUPERVISOR_BACKUP_REPOSITORY",
        parsers.REPOSITORY,
        "Where snapshots are kept, in restic's own format: a bucket that speaks S3, or a folder that the app cannot "
        "write to, outside of the paths that are backed up. Without it there are no backups, and they cost nothing.",
    )
    password: SecretSource | None = _backup(
        "SUPERVISOR_BACKUP_PASSWORD",
        parsers.SECRET,
        "Encrypts the repository, and is needed with it. Keep a copy elsewhere: without it no snapshot can be read.",
    )
    access_key_id: SecretSource | None = _backup(
        "SUPERVISOR_BACKUP_ACCESS_KEY_ID", parsers.SECRET, "The id of the bucket's access key; needed for a bucket."
    )
    secret_access_key: SecretSource | None = _backup(
        "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY",
        parsers.SECRET,
        "The secret of the bucket's access key; needed for a bucket.",
    )
    paths: tuple[str, ...] | None = _backup(
        "SUPERVISOR_BACKUP_PATHS",
        parsers.FOLDERS,
        "The folders that are backed up, absolute and with `:` between them; none may lie inside another. "
        "An embedded tailscaled's state folder is always part of a snapshot.",
        said="Moltis' config and data folders; an app with another command needs it",
    )
    interval_s: float = _backup(
        "SUPERVISOR_BACKUP_INTERVAL",
        parsers.BACKUP_INTERVAL,
        "How long after the end of one snapshot the next one is begun; at least `1m`.",
        default="5m",
    )
    keep: Mapping[str, int] = _backup(
        "SUPERVISOR_BACKUP_KEEP",
        parsers.KEEP,
        "How many snapshots are kept, as `restic forget --keep-*` counts them: `last` (at least 1), `hourly`, "
        "`daily`, `weekly`, `monthly`, `yearly`. The newest one, and the last one before each change of the app's or "
        "tailscaled's version, are kept in any case.",
        default="last=10,hourly=24,daily=14,weekly=8",
    )
    restore: str = _backup(
        "SUPERVISOR_BACKUP_RESTORE",
        parsers.RESTORE,
        "What is brought back at a start. `auto`: the newest snapshot where there are no files yet. `never`: nothing. "
        "A snapshot's id: that one, once; what is there is kept as a snapshot first.",
        default="auto",
    )

    @property
    def in_folder(self) -> bool:
        """Whether the repository is a folder, and not a bucket."""
        return self.repository.startswith("/")


class ExtraProcess(NamedTuple):
    """One `[process.NAME]` table. ``stop_timeout_s`` is None for the supervisor's own."""

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
    processes: tuple[ExtraProcess, ...]
    given: frozenset[str]
    config_path: str | None = _general(
        "SUPERVISOR_CONFIG",
        parsers.PATH,
        "A TOML file: `[settings]` holds the names of this page as they stand, `[process.NAME]` tables add processes. "
        "The environment beats the file.",
    )
    run_dir: str = _general(
        "SUPERVISOR_RUN_DIR",
        parsers.PATH,
        "The folder for the control socket, the port file and tailscaled's socket. It is made with mode 0700 and "
        "refused where it is a link or another user's; a second supervisor on it does not start.",
        said="`$XDG_RUNTIME_DIR/moltis-supervisor` where that is set, else `/run/moltis-supervisor` as root, "
        "else `/tmp/moltis-supervisor-UID`",
    )
    expose: str = _exposure(
        "SUPERVISOR_EXPOSE",
        choice("tailnet", "public"),
        "Who gets `PORT`. `tailnet`: the supervisor; the app is reached through the tailnet. `public`: the app; the "
        "supervisor listens on `SUPERVISOR_PORT`.",
        default="tailnet",
        when=(APP,),
    )
    port: int = _exposure("PORT", parsers.PORT, "The platform's port. 0 picks a free one and logs it.", default="8080")
    bind: str | None = _exposure(
        "SUPERVISOR_BIND",
        parsers.HOST,
        "The address of this machine for `PORT`, and for `SUPERVISOR_PORT`. An app that has `PORT` can be told one "
        "address alone: unless this is set it is `0.0.0.0`, or `::` where there is a way out by IPv6 alone.",
        said="every IPv4 and IPv6 address",
    )
    supervisor_port: int = _exposure(
        "SUPERVISOR_PORT",
        parsers.PORT,
        "The port of health and panel where the app has `PORT`. 0 picks a free one.",
        default="9090",
        when=(PUBLIC, APP),
    )
    stop_timeout_s: float = _restart(
        "SUPERVISOR_STOP_TIMEOUT",
        parsers.DURATION,
        "The whole ordered stop, from the signal until nothing is left. The default fits Docker's 10 s; Moltis may "
        "need 25 s: set it and the platform's grace period higher together.",
        default="8s",
    )
    backoff_initial_s: float = _restart(
        "SUPERVISOR_BACKOFF_INITIAL", parsers.DURATION, "The first wait before a restart; it doubles.", default="500ms"
    )
    backoff_max_s: float = _restart(
        "SUPERVISOR_BACKOFF_MAX", parsers.DURATION, "The longest wait before a restart.", default="30s"
    )
    backoff_reset_s: float = _restart(
        "SUPERVISOR_BACKOFF_RESET",
        parsers.DURATION,
        "How long a process must stay up until its failures are forgiven.",
        default="60s",
    )
    give_up: GiveUp | None = _restart(
        "SUPERVISOR_GIVE_UP",
        parsers.GIVE_UP,
        "So many failures in such a window make a critical process fatal (exit 70).",
        default="10/5m",
    )
    token: SecretSource | None = _declare(
        "SUPERVISOR_TOKEN",
        parsers.SECRET,
        "The secret that signs in to panel and API, of 16 characters or more.",
        section=PANEL,
        said="none: a one-time sign-in code is printed in the log",
    )

    credential_warnings: bool = _general(
        "SUPERVISOR_CREDENTIAL_WARNINGS",
        choice("on", "off", to="on".__eq__),
        "`on`: `/health` warns 14 and 3 days before the device's key or its certificate ends. `off`: it does not.",
        default="on",
    )

    @property
    def backoff(self) -> Backoff:
        """Return the wait before a restart."""
        return Backoff(self.backoff_initial_s, self.backoff_max_s, self.backoff_reset_s)

    @property
    def secrets(self) -> tuple[SecretSource, ...]:
        """Return every secret that is set."""
        groups: tuple[Any, ...] = (self, self.tailnet, self.app, self.backup)
        return tuple(value for group in groups for value in group or () if isinstance(value, SecretSource))


def rows(group: Any) -> dict[str, Setting]:
    """Return the settings of a class, by field."""
    return {field: row for field, row in group._field_defaults.items() if isinstance(row, Setting)}


_GROUPS = (Settings, AppSettings, LogSettings, Prefs, TailnetSettings, BackupSettings)
SETTINGS: tuple[Setting, ...] = tuple(
    sorted((row for group in _GROUPS for row in rows(group).values()), key=lambda row: SECTIONS.index(row.section))
)
BY_SPELLING: dict[str, Setting] = {spelling: row for row in SETTINGS for spelling in row.spellings}
