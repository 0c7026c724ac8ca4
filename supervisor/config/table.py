"""Every setting there is, declared once: the loader, ``check`` and the reference page are made from this table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config import parsers
from supervisor.config.parsers import Kind, choice
from supervisor.config.setting import (
    APP,
    ATTACHED,
    BACKUPS,
    EMBEDDED,
    EXPOSURE,
    GENERAL,
    LOGS,
    PANEL,
    PRIVATE,
    PUBLIC,
    RESTARTS,
    TAILNET,
    TAILSCALE,
    THE_APP,
    Setting,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _tailscale(name: str, kind: Kind, meaning: str, default: str | None = None, said: str = "") -> Setting:
    return Setting(name, kind, default, TAILSCALE, meaning, (TAILNET,), said)


def _tailscaled(name: str, kind: Kind, meaning: str, default: str | None = None, said: str = "") -> Setting:
    return Setting(name, kind, default, TAILSCALE, meaning, (EMBEDDED,), said)


def _later(name: str) -> Callable[[str], object]:
    """Return a parser of a kind that few use, loaded for the first text."""

    def parse(text: str) -> object:
        from supervisor.config import backup_forms

        return getattr(backup_forms, name)(text)

    return parse


_REPOSITORY = Kind("repository", _later("repository"), "s3:https://HOST/BUCKET/PATH, or an absolute folder")
_PATHS = Kind("paths", _later("paths"), "absolute paths with : between them, such as /data:/config")
_BACKUP_INTERVAL = Kind("interval", _later("interval_s"), "a duration of 1m or more, such as 5m")
_KEEP = Kind("keep", _later("keep"), "counts such as last=10,hourly=24,daily=14")
_RESTORE = Kind("restore", _later("restore"), "auto, never, or a snapshot's id")


def _backup(name: str, kind: Kind, meaning: str, said: str = "") -> Setting:
    # No default is parsed: what reads these is loaded where there are backups.
    return Setting(f"SUPERVISOR_BACKUP_{name}", kind, None, BACKUPS, meaning, (), said)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "SUPERVISOR_CONFIG",
        parsers.PATH,
        None,
        GENERAL,
        "A TOML file: `[settings]` holds the names of this page as they stand, `[process.NAME]` tables add processes. "
        "The environment beats the file.",
    ),
    Setting(
        "SUPERVISOR_RUN_DIR",
        parsers.PATH,
        None,
        GENERAL,
        "The folder for the control socket, the port file and tailscaled's socket. It is made with mode 0700 and "
        "refused where it is a link or another user's; a second supervisor on it does not start.",
        default_said="`$XDG_RUNTIME_DIR/moltis-supervisor` where that is set, else `/run/moltis-supervisor` as root, "
        "else `/tmp/moltis-supervisor-UID`",
    ),
    Setting(
        "SUPERVISOR_TAILSCALE_USER",
        parsers.USER,
        None,
        GENERAL,
        "Started as root, the user that tailscaled runs as. One named here must exist.",
        (EMBEDDED,),
        "`tailscale` where that user exists, else the supervisor's own",
    ),
    Setting(
        "SUPERVISOR_APP_USER",
        parsers.USER,
        None,
        GENERAL,
        "Started as root, the user that the app runs as, and further processes that name none. One named here must "
        "exist.",
        default_said="`moltis` where that user exists, else the supervisor's own",
    ),
    Setting(
        "SUPERVISOR_EXPOSE",
        choice("tailnet", "public"),
        "tailnet",
        EXPOSURE,
        "Who gets `PORT`. `tailnet`: the supervisor; the app is reached through the tailnet. `public`: the app; the "
        "supervisor listens on `SUPERVISOR_PORT`.",
        (APP,),
    ),
    Setting("PORT", parsers.PORT, "8080", EXPOSURE, "The platform's port. 0 picks a free one and logs it."),
    Setting(
        "SUPERVISOR_BIND",
        parsers.HOST,
        None,
        EXPOSURE,
        "The address of this machine for `PORT`, and for `SUPERVISOR_PORT`. An app that has `PORT` can be told one "
        "address alone: unless this is set it is `0.0.0.0`, or `::` where there is a way out by IPv6 alone.",
        default_said="every IPv4 and IPv6 address",
    ),
    Setting(
        "SUPERVISOR_PORT",
        parsers.PORT,
        "9090",
        EXPOSURE,
        "The port of health and panel where the app has `PORT`. 0 picks a free one.",
        (PUBLIC, APP),
    ),
    Setting(
        "SUPERVISOR_TAILSCALE",
        choice("embedded", "attach", "off"),
        "embedded",
        EXPOSURE,
        "`embedded`: a tailscaled of its own. `attach`: a sidecar's, at `TS_SOCKET`. `off`: none.",
    ),
    Setting(
        "SUPERVISOR_SERVE",
        choice("auto", "https", "http", "off"),
        None,
        EXPOSURE,
        "How the tailnet reaches the app. `auto`: HTTP on 80, and HTTPS on 443 beside it where the tailnet issues "
        "certificates and the state folder is a mount of its own. `TS_SERVE_CONFIG` replaces it.",
        (TAILNET,),
        "`auto`, in attach mode `off`",
    ),
    Setting(
        "SUPERVISOR_SERVE_PANEL",
        parsers.URL,
        None,
        EXPOSURE,
        "Where a sidecar's tailscaled finds this panel, such as `http://panel:8080`, for a sidecar with a network of "
        "its own. Peers find the panel at the device's name and that port; it is published beside the app.",
        (ATTACHED,),
    ),
    Setting(
        "SUPERVISOR_APP", choice("on", "off"), "on", THE_APP, "`off`: no app process (the panel beside a sidecar)."
    ),
    Setting("SUPERVISOR_APP_NAME", parsers.NAME, "moltis", THE_APP, "The app's name in logs, health and API.", (APP,)),
    Setting(
        "SUPERVISOR_APP_COMMAND",
        parsers.COMMAND,
        "moltis",
        THE_APP,
        "The app's program when `run` is given no command. `--bind`, `--port` and `--no-tls` are added, and "
        "`--json-logs` in JSON format.",
        (APP,),
    ),
    Setting(
        "MOLTIS_PASSWORD",
        parsers.SECRET,
        None,
        THE_APP,
        "Moltis' own password, handed on to the app. From a file, it does not show in a container's settings.",
        (APP,),
    ),
    Setting(
        "SUPERVISOR_APP_BIND",
        parsers.HOST,
        None,
        THE_APP,
        "The address where the app listens in `tailnet` mode. Not 127.0.0.1: every port of that address is open to "
        "every tailnet peer.",
        (PRIVATE,),
        "`127.0.0.2`, or `::1` where there is no IPv4 loopback",
    ),
    Setting(
        "SUPERVISOR_APP_PORT",
        parsers.PORT,
        "13131",
        THE_APP,
        "The port where the app listens in `tailnet` mode. 0 picks a free one.",
        (PRIVATE,),
    ),
    Setting(
        "SUPERVISOR_APP_HEALTH_URL",
        parsers.HEALTH_URL,
        None,
        THE_APP,
        "Probed every 5 s (every 500 ms until its first answer) with a deadline of 2 s; only 2xx counts. A path means "
        "the app's own port. Set and empty: alive means healthy.",
        (APP,),
        "`/health` on the app's port for the built-in command, a TCP connect for any other",
    ),
    Setting(
        "SUPERVISOR_APP_HUNG",
        parsers.DURATION_OR_NEVER,
        "2m",
        THE_APP,
        "An app that has answered once and then does not for this long is restarted.",
        (APP,),
    ),
    Setting(
        "SUPERVISOR_RESTART",
        choice("always", "on-failure", "never"),
        "always",
        RESTARTS,
        "When an app that ended is started again (`run --restart`). Ended for good, the others are stopped and `run` "
        "ends with its status.",
        (APP,),
    ),
    Setting(
        "SUPERVISOR_STOP_TIMEOUT",
        parsers.DURATION,
        "8s",
        RESTARTS,
        "The whole ordered stop, from the signal until nothing is left. The default fits Docker's 10 s; Moltis may "
        "need 25 s: set it and the platform's grace period higher together.",
    ),
    Setting(
        "SUPERVISOR_BACKOFF_INITIAL",
        parsers.DURATION,
        "500ms",
        RESTARTS,
        "The first wait before a restart; it doubles.",
    ),
    Setting("SUPERVISOR_BACKOFF_MAX", parsers.DURATION, "30s", RESTARTS, "The longest wait before a restart."),
    Setting(
        "SUPERVISOR_BACKOFF_RESET",
        parsers.DURATION,
        "60s",
        RESTARTS,
        "How long a process must stay up until its failures are forgiven.",
    ),
    Setting(
        "SUPERVISOR_GIVE_UP",
        parsers.GIVE_UP,
        "10/5m",
        RESTARTS,
        "So many failures in such a window make a critical process fatal (exit 70).",
    ),
    Setting(
        "SUPERVISOR_LOG_FORMAT",
        choice("pretty", "json"),
        "pretty",
        LOGS,
        "`pretty`: prefixed lines for people. `json`: one object a line.",
    ),
    Setting(
        "SUPERVISOR_LOG_OVERFLOW",
        choice("block", "drop"),
        "block",
        LOGS,
        "When the log's reader stalls and the buffer (8 MiB) is full. `block`: the children wait, for at most 60 s. "
        "`drop`: the oldest lines are dropped at once. Dropped lines are counted in the log.",
    ),
    Setting(
        "SUPERVISOR_LOG_HISTORY",
        parsers.LINES,
        "2000",
        LOGS,
        "Lines kept in memory (4 MiB at most) for the panel and `logs`. Nothing is written to disk.",
    ),
    Setting(
        "SUPERVISOR_LOG_NOISE",
        choice("limit", "all"),
        "limit",
        LOGS,
        "`limit`: of tailscaled's lines that are known to come again and again, the log shows the first three of a "
        "kind a minute and counts the others, which stay in the history. `all`: the log shows every line.",
        (EMBEDDED,),
    ),
    Setting(
        "SUPERVISOR_TOKEN",
        parsers.SECRET,
        None,
        PANEL,
        "The secret that signs in to panel and API, of 16 characters or more.",
        default_said="none: a one-time sign-in code is printed in the log",
    ),
    Setting(
        "SUPERVISOR_TAILNET_GRACE",
        parsers.DURATION_OR_NEVER,
        "never",
        TAILSCALE,
        "How long the tailnet may be away until health and readiness fail: a duration, `0s` for at once, `never` to "
        "warn only (a restart of the container seldom brings a tailnet back, and would take the app down with it).",
        (TAILNET,),
    ),
    _tailscale(
        "SUPERVISOR_TAILSCALE_API_URL",
        parsers.URL,
        "Where an OAuth client secret is exchanged for an auth key.",
        "https://api.tailscale.com",
    ),
    Setting(
        "TS_AUTHKEY",
        parsers.SECRET,
        None,
        TAILSCALE,
        "An auth key, or an OAuth client secret: `tskey-client-…`, which needs `TS_TAGS`, and may have "
        "`?ephemeral=true&preauthorized=false&baseURL=https://…` behind it. It is used when the node needs a login and "
        "never otherwise.",
        (TAILNET,),
        aliases=("TS_AUTH_KEY",),
    ),
    _tailscale("TS_CLIENT_ID", parsers.TEXT, "The id of an OAuth client; needs `TS_CLIENT_SECRET`."),
    _tailscale(
        "TS_CLIENT_SECRET",
        parsers.SECRET,
        "The secret of an OAuth client that makes auth keys, written as in `TS_AUTHKEY`; needs `TS_TAGS`.",
    ),
    _tailscale("TS_HOSTNAME", parsers.HOST_NAME, "The device's name in the tailnet.", said="the app's name"),
    _tailscale(
        "TS_TAGS",
        parsers.TAGS,
        "The tags the device asks for, separated by commas. The tailnet's policy must say who owns them.",
    ),
    _tailscale("TS_ROUTES", parsers.ROUTES, "Subnet routes the device offers, separated by commas."),
    _tailscale("TS_ACCEPT_DNS", parsers.BOOLEAN, "Whether the tailnet's DNS settings are taken over.", "false"),
    _tailscale(
        "TS_AUTH_ONCE",
        parsers.BOOLEAN,
        "Accepted for the sake of existing files. Whatever it says, a key is used only when a login is needed.",
        "true",
    ),
    _tailscale(
        "TS_EPHEMERAL",
        parsers.BOOLEAN,
        "Whether the node logs out at a clean stop, so that its name is free at once. An OAuth client makes its keys "
        "for ephemeral devices unless this, or the secret itself, says `false`.",
        "false",
    ),
    _tailscale(
        "TS_STATE_DIR",
        parsers.STATE_FOLDER,
        "The folder with the device's identity. `mem:` keeps nothing: each start is a new, ephemeral device.",
        said="`/var/lib/tailscale` as root, else `$XDG_STATE_HOME/moltis-supervisor/tailscale` "
        "(`~/.local/state/…` where that is not set)",
    ),
    _tailscale(
        "TS_SOCKET",
        parsers.PATH,
        "tailscaled's socket. In attach mode it must be set, to the sidecar's.",
        said="`tailscale/tailscaled.sock` in the run folder",
    ),
    _tailscale(
        "TS_SERVE_CONFIG",
        parsers.PATH,
        "A JSON file with a serve configuration, as the official image takes it; watched for changes.",
    ),
    _tailscale(
        "TS_EXTRA_ARGS",
        parsers.WORDS,
        "Flags of `tailscale up`, understood by the supervisor itself; see below.",
    ),
    _tailscaled(
        "TS_SOCKS5_SERVER", parsers.ADDRESS, "Where tailscaled offers a SOCKS5 proxy into the tailnet.", said="off"
    ),
    _tailscaled(
        "TS_OUTBOUND_HTTP_PROXY_LISTEN",
        parsers.ADDRESS,
        "Where tailscaled offers an HTTP proxy into the tailnet.",
        said="off",
    ),
    _tailscaled("TS_TAILSCALED_EXTRA_ARGS", parsers.WORDS, "Further flags of tailscaled, split as a shell would."),
    _tailscaled(
        "TS_USERSPACE",
        parsers.BOOLEAN,
        "Accepted for the sake of existing files where it says `true`: networking is always in user space.",
        "true",
    ),
    _backup(
        "REPOSITORY",
        _REPOSITORY,
        "Where snapshots are kept, in restic's own format: a bucket that speaks S3, or a folder that the app cannot "
        "write to, outside of the paths that are backed up. Without it there are no backups, and they cost nothing.",
    ),
    _backup(
        "PASSWORD",
        parsers.SECRET,
        "Encrypts the repository, and is needed with it. Keep a copy elsewhere: without it no snapshot can be read.",
    ),
    _backup("ACCESS_KEY_ID", parsers.SECRET, "The id of the bucket's access key; needed for a bucket."),
    _backup("SECRET_ACCESS_KEY", parsers.SECRET, "The secret of the bucket's access key; needed for a bucket."),
    _backup(
        "PATHS",
        _PATHS,
        "The folders that are backed up, absolute and with `:` between them; none may lie inside another. "
        "An embedded tailscaled's state folder is always part of a snapshot.",
        said="Moltis' config and data folders; an app with another command needs it",
    ),
    _backup(
        "INTERVAL",
        _BACKUP_INTERVAL,
        "How long after the end of one snapshot the next one is begun; at least `1m`.",
        said="`5m`",
    ),
    _backup(
        "KEEP",
        _KEEP,
        "How many snapshots are kept, as `restic forget --keep-*` counts them: `last` (at least 1), `hourly`, "
        "`daily`, `weekly`, `monthly`, `yearly`. The newest one, and the last one before each change of the app's or "
        "tailscaled's version, are kept in any case.",
        said="`last=10,hourly=24,daily=14,weekly=8`",
    ),
    _backup(
        "RESTORE",
        _RESTORE,
        "What is brought back at a start. `auto`: the newest snapshot where there are no files yet. `never`: nothing. "
        "A snapshot's id: that one, once; what is there is kept as a snapshot first.",
        said="`auto`",
    ),
)

BY_SPELLING: dict[str, Setting] = {spelling: row for row in SETTINGS for spelling in row.spellings}
