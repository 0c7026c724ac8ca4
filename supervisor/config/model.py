"""The settings after reading: one immutable object, grouped by who uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.process import GiveUp, HttpProbe, Restart, TcpProbe
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.backoff import Backoff
    from supervisor.config.secrets import SecretSource


class AppSettings(NamedTuple):
    """The app as asked for.

    ``bind`` is None for the loopback. ``health_url`` is None where nothing was said and empty where no probe is wanted.
    """

    enabled: bool
    name: str
    command: tuple[str, ...]
    bind: str | None
    port: int
    user: str | None
    health_url: str | None
    hung_after_s: float | None
    restart: Restart
    password: SecretSource | None = None


class LogSettings(NamedTuple):
    """How lines are shown, and how many are remembered."""

    format: str
    overflow: str
    history_lines: int
    noise: str


class Prefs(NamedTuple):
    """What the node is to be in its tailnet. An empty ``login_server`` means Tailscale's own.

    ``given`` are the flags of `tailscale up` that something was said about on purpose, by setting or flag.
    """

    hostname: str
    tags: tuple[str, ...]
    routes: tuple[str, ...]
    accept_dns: bool
    accept_routes: bool
    advertise_exit_node: bool
    advertise_connector: bool
    exit_node: str
    exit_node_allow_lan_access: bool
    shields_up: bool
    report_posture: bool
    login_server: str
    given: frozenset[str] = frozenset()


class TailnetSettings(NamedTuple):
    """The tailnet as asked for.

    ``mode`` is embedded, attach or off; ``serve`` is auto, https, http or off. ``grace_s`` is None for never,
    ``ephemeral`` where nothing was said: then it is no, but for a key that an OAuth client makes.
    ``serve_panel`` is where tailscaled finds the panel, if it is to publish that too.
    ``knobs`` are environment variables for tailscaled alone. ``socks5`` and ``http_proxy`` are host and port.
    """

    mode: str
    user: str | None
    socket: str
    state_dir: str
    in_memory: bool
    ephemeral: bool | None
    auth_key: SecretSource | None
    client_id: str | None
    client_secret: SecretSource | None
    api_url: str
    prefs: Prefs
    serve: str
    serve_config: str | None
    grace_s: float | None
    socks5: tuple[str, int] | None
    http_proxy: tuple[str, int] | None
    extra_args: tuple[str, ...]
    knobs: Mapping[str, str]
    serve_panel: str | None = None

    @property
    def logs_out_at_stop(self) -> bool:
        """Whether the device is to disappear from the tailnet at an orderly end."""
        # Where a sidecar keeps its state is not ours to say.
        return self.mode != "off" and bool(self.ephemeral or (self.in_memory and self.mode == "embedded"))


class ExtraProcess(NamedTuple):
    """One `[process.NAME]` table. ``stop_timeout_s`` is None where it said nothing."""

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


class BackupSettings(NamedTuple):
    """Backups as asked for: ``repository`` is a URL or an absolute folder, ``paths`` None where none were named.

    The keys are None for a folder. ``keep`` holds counts by their names, ``restore`` is auto, never or an id.
    """

    repository: str
    password: SecretSource | None
    access_key_id: SecretSource | None
    secret_access_key: SecretSource | None
    paths: tuple[str, ...] | None
    interval_s: float
    keep: Mapping[str, int]
    restore: str

    @property
    def in_folder(self) -> bool:
        """Whether the repository is a folder, not a bucket."""
        return self.repository.startswith("/")


class Settings(NamedTuple):
    """Everything that was set, or left at its default.

    ``expose`` is tailnet or public. ``bind`` is None for every address of both families. ``given`` are the names
    that were set on purpose, ``config_path`` the TOML file.
    ``backup`` is None where there are none.
    """

    run_dir: str
    expose: str
    bind: str | None
    port: int
    supervisor_port: int
    stop_timeout_s: float
    backoff: Backoff
    give_up: GiveUp | None
    token: SecretSource | None
    log: LogSettings
    app: AppSettings
    tailnet: TailnetSettings
    processes: tuple[ExtraProcess, ...]
    given: frozenset[str]
    config_path: str | None
    backup: BackupSettings | None = None

    @property
    def secrets(self) -> tuple[SecretSource, ...]:
        """Return every secret setting that has a value."""
        found = [self.token, self.tailnet.auth_key, self.tailnet.client_secret, self.app.password]
        if self.backup is not None:
            found += [self.backup.password, self.backup.access_key_id, self.backup.secret_access_key]
        return tuple(source for source in found if source is not None)
