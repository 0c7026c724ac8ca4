"""What the checks look at: the settings, and what a running supervisor knows besides."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor import moltis
from supervisor.config.build import examine
from supervisor.config.users import Host
from supervisor.errors import ConfigError
from supervisor.incidents.incident_files import IncidentFiles
from supervisor.logs.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.config.plan import Plan
    from supervisor.core.incidents import Incident
    from supervisor.core.snapshot import Snapshot
    from supervisor.doctor.network_probes import ControlSeen, TlsSeen, UdpSeen
    from supervisor.tailnet.wire import DerpMap, Ping, Status, WhoisNode


class TailnetFacts(NamedTuple):
    """What tailscaled says of itself; ``why`` it says nothing. ``visitor`` is the device that asks for the report.

    ``known_at`` are the endpoints at which control knows this device.
    """

    why: str = ""
    status: Status | None = None
    relays: DerpMap | None = None
    serve: Mapping[str, Any] = {}
    known_at: tuple[str, ...] = ()
    visitor: WhoisNode | None = None
    ping: Ping | None = None


class AppFacts(NamedTuple):
    """What Moltis' configuration says; ``why_not`` it could not be read. ``hosts`` are by provider, 20 at most."""

    why_not: str = ""
    hosts: Mapping[str, str] = {}
    local_models: bool = False


class NetworkSeen(NamedTuple):
    """What was seen of the network; what was not looked at is None."""

    control: ControlSeen | None = None
    udp: UdpSeen | None = None
    relay_s: float | None = None
    providers: Mapping[str, TlsSeen] = {}


class TagOwners(NamedTuple):
    """The tags that the tailnet's policy has owners for; None where it could not be read, and ``why``."""

    tags: frozenset[str] | None = None
    why: str = ""


class Subject(NamedTuple):
    """Everything that is looked at.

    ``problems`` are those of the settings; with them the plan has defaults in their place. ``snapshot`` is None where
    no supervisor runs, and ``alone`` then says why none was asked; ``kept_incidents`` are those of runs before.
    ``now_s`` is of the monotonic clock, ``epoch_s`` counts from the epoch.
    """

    environ: Mapping[str, str]
    plan: Plan
    host: Host
    redactor: Redactor
    problems: tuple[str, ...] = ()
    snapshot: Snapshot | None = None
    alone: str = ""
    now_s: float = 0.0
    epoch_s: float = 0.0
    tailnet: TailnetFacts = TailnetFacts()
    app: AppFacts = AppFacts()
    network: NetworkSeen = NetworkSeen()
    tag_owners: TagOwners = TagOwners()
    is_client_secret: bool = False
    kept_incidents: tuple[Incident, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that tell whose tailnet it is."""
        view = self.snapshot.tailnet if self.snapshot is not None else None
        if view is None:
            return ()
        return (view.hostname.partition(".")[2], view.tailnet, view.login_name)

    @property
    def folders(self) -> tuple[str, ...]:
        """Return every folder that is written to."""
        settings, found = self.plan.settings, []
        if settings.tailnet.mode != "off" and not settings.tailnet.in_memory:
            found.append(settings.tailnet.state_dir)
        found += self.app_folders.values()
        if settings.backup is not None and settings.backup.in_folder:
            found.append(settings.backup.repository)
        return (*dict.fromkeys([*found, settings.run_dir]),)

    @property
    def app_folders(self) -> dict[str, str]:
        """Return the app's config and data folder, by these names; nothing where the app is not Moltis."""
        app = self.plan.app
        if app is None or os.path.basename(app.argv[0]) != moltis.PROGRAM:
            return {}
        return moltis.folders(app.env, app.env.get("HOME", "/"))


def of_settings(environ: Mapping[str, str], alone: str) -> Subject:
    """Return what can be looked at without a running supervisor."""
    host = Host()
    plan, diags = examine(environ, host=host)
    secrets = []
    for source in plan.settings.secrets:
        # One that cannot be read is among the problems.
        with suppress(ConfigError):
            secrets.append(source.read().reveal())
    problems = tuple(dict.fromkeys(diags.problems))
    kept = tuple(IncidentFiles(plan.state_folder).load().incidents)
    found = Subject(environ, plan, host, Redactor(secrets), problems, None, alone, kept_incidents=kept)
    return _now(found)


def of_run(plan: Plan, snapshot: Snapshot, redactor: Redactor) -> Subject:
    """Return what a running supervisor looks at."""
    return _now(Subject(os.environ, plan, Host(), redactor, (), snapshot))


def _now(subject: Subject) -> Subject:
    return subject._replace(now_s=time.monotonic(), epoch_s=datetime.now(UTC).timestamp())
