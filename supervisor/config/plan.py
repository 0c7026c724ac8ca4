"""The plan: all that `run` has to know before it starts anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.errors import host_port
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from supervisor.config.model import Settings
    from supervisor.core.process import ProcessSpec, User

TAILSCALED = "tailscaled"
# Every address of both families; no program but ourselves is told so.
EVERYWHERE = "*"
# What stands for every address, of one family at least.
WILDCARDS = frozenset({EVERYWHERE, "0.0.0.0", "::", ""})
SUPERVISOR = "supervisor"
LONGEST_SOCKET_PATH = 107


class Address(NamedTuple):
    """Where something listens. An IPv6 host stands without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(*self)


def port_settings(settings: Settings) -> tuple[str, str]:
    """Return the names of the settings that say where the supervisor listens, and where the app does."""
    return ("SUPERVISOR_PORT", "PORT") if settings.expose == "public" else ("PORT", "SUPERVISOR_APP_PORT")


class Source(NamedTuple):
    """A folder that is backed up: ``name`` stays the same wherever ``path`` lies; ``owner`` is whose its files are.

    ``owner`` is None where that is the supervisor itself.
    """

    name: str
    path: str
    owner: User | None


class BackupPlan(NamedTuple):
    """What backups take: ``program`` is restic, ``folder`` where its cache and what is staged lie.

    ``sources`` are the app's folders, ``identity`` is tailscaled's state (None: a sidecar has it, or nobody).
    ``holds`` says that nothing is started before what was backed up is there.
    """

    program: str
    folder: str
    sources: tuple[Source, ...]
    identity: Source | None
    holds: bool


class Plan(NamedTuple):
    """The settings, resolved against this machine.

    ``processes`` are in the order they are to be started. ``listen`` is the supervisor's own HTTP; port 0 means a
    free one is taken. ``app_address`` is where the app is found from inside (None: there is none to be found),
    ``serve_target`` the URL that the tailnet is to be led to (None: nothing is published by us). The users are None
    where a process runs as the supervisor itself. ``warnings`` and ``notices`` are to be said in the log once.
    ``backup`` is None where there are none.
    """

    settings: Settings
    processes: tuple[ProcessSpec, ...]
    listen: Address
    app_name: str | None
    app_address: Address | None
    serve_target: str | None
    tailscale_user: User | None
    app_user: User | None
    warnings: tuple[str, ...]
    notices: tuple[str, ...]
    backup: BackupPlan | None = None

    @property
    def tailscaled(self) -> ProcessSpec | None:
        """Return tailscaled's own process, if this plan has one."""
        return next((spec for spec in self.processes if spec.name == TAILSCALED), None)

    @property
    def app(self) -> ProcessSpec | None:
        """Return the app's process, if this plan has one."""
        return next((spec for spec in self.processes if spec.name == self.app_name), None)
