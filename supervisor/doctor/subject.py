"""The input of the checks: the settings, and the state of a running supervisor."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor import moltis
from supervisor.config.build import examine
from supervisor.config.users import Host
from supervisor.core.incident_rules import after_incidents, judged, own_end, record_of_end
from supervisor.core.incident_rules import of_run as end_of_run
from supervisor.core.run_record import Lookout, RunRecord, end_of
from supervisor.core.snapshot import IncidentsView
from supervisor.doctor.masking import names_of
from supervisor.errors import ConfigError
from supervisor.incidents.incident_files import IncidentFiles
from supervisor.incidents.run_life import machine
from supervisor.logs.redact import Redactor
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.config.plan import Plan
    from supervisor.core.incidents import Incident
    from supervisor.core.snapshot import Snapshot
    from supervisor.doctor.network_probes import ControlSeen, TlsSeen, UdpSeen
    from supervisor.tailnet.oauth_client import KnownKey
    from supervisor.tailnet.wire import DerpMap, Ping, Status, WhoisNode


class TailnetFacts(NamedTuple):
    """Facts from tailscaled; ``why`` is why there are none. ``visitor`` is the device that asks for the report.

    ``known_at`` are the endpoints at which control knows this device.
    """

    why: str = ""
    status: Status | None = None
    relays: DerpMap | None = None
    serve: Mapping[str, Any] = {}
    known_at: tuple[str, ...] = ()
    visitor: WhoisNode | None = None
    ping: Ping | None = None


class LargeSeen(NamedTuple):
    """Whether large packets pass, None if that could not be told; ``most`` is then the size of the largest that did."""

    passes: bool | None = None
    most: int | None = None


class AppFacts(NamedTuple):
    """Moltis' configuration; ``why_not`` is why it could not be read, ``missing`` is true if there is no such file.

    ``hosts`` are by provider, 20 at most.
    """

    why_not: str = ""
    hosts: Mapping[str, str] = {}
    local_models: bool = False
    missing: bool = False


class NetworkSeen(NamedTuple):
    """The results of the network probes; None for those that were not run."""

    control: ControlSeen | None = None
    udp: UdpSeen | None = None
    relay_s: float | None = None
    large: LargeSeen = LargeSeen()
    large_by_udp: LargeSeen = LargeSeen()
    providers: Mapping[str, TlsSeen] = {}


class TagOwners(NamedTuple):
    """The tags with owners in the tailnet's policy; None if it could not be read, and ``why``."""

    tags: frozenset[str] | None = None
    why: str = ""


class KeyFacts(NamedTuple):
    """What the API reports about TS_AUTHKEY; None if it was not queried or does not know it, and ``why``."""

    known: KnownKey | None = None
    why: str = "only an OAuth client beside it (TS_CLIENT_SECRET) that may read the keys can look it up"


class Subject(NamedTuple):
    """The input of all checks.

    ``problems`` are those of the settings; the plan has defaults in their place. ``snapshot`` is None if
    no supervisor runs, and ``alone`` is then why none was asked; ``kept_incidents`` are those of previous runs, and
    ``last_end`` is how the last of these ended.
    ``now_s`` is the time of the monotonic clock, ``epoch_s`` that since the epoch, both in seconds.
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
    auth_key: KeyFacts = KeyFacts()
    is_client_secret: bool = False
    kept_incidents: IncidentsView = IncidentsView()
    last_end: Incident | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that identify the tailnet."""
        return () if self.snapshot is None else names_of(self.snapshot.tailnet)

    @property
    def folders(self) -> tuple[str, ...]:
        """Return every folder that is written to."""
        settings = self.plan.settings
        found = [self.plan.state_folder, *self.app_folders.values()]
        if settings.backup is not None and settings.backup.in_folder:
            found.append(settings.backup.repository)
        return (*dict.fromkeys([*found, settings.run_dir]),)

    @property
    def app_folders(self) -> dict[str, str]:
        """Return the app's config and data folder, by these names; empty if the app is not Moltis."""
        app = self.plan.app
        if app is None or not self.plan.runs_moltis:
            return {}
        return moltis.folders(app.env, app.env.get("HOME", "/"))


def of_settings(environ: Mapping[str, str], alone: str) -> Subject:
    """Return what the settings give without a running supervisor; ``with_kept`` adds the rest."""
    host = Host()
    plan, diags = examine(environ, host=host)
    secrets = []
    for source in plan.settings.secrets:
        # An unreadable one is among the problems.
        with suppress(ConfigError):
            secrets.append(source.read().reveal())
    problems = tuple(dict.fromkeys(diags.problems))
    return _now(Subject(environ, plan, host, Redactor(secrets), problems, None, alone))


def with_kept(subject: Subject) -> Subject:
    """Return the input with what previous runs have left in the state folder."""
    plan = subject.plan
    files = IncidentFiles(plan.state_folder)
    content = files.load()
    kept = tuple(content.incidents)
    locks = [os.path.join(folder, dirs.LOCK_FILE) for folder in (plan.settings.run_dir, plan.state_folder)]
    last_end = None if any(map(dirs.is_locked, locks)) else _last_end(files, kept)
    return subject._replace(kept_incidents=IncidentsView(kept, unread=content.unread), last_end=last_end)


def with_problems(subject: Subject, *problems: str) -> Subject:
    """Return the input with more problems of the settings."""
    return subject._replace(problems=(*subject.problems, *problems))


def _last_end(files: IncidentFiles, kept: tuple[Incident, ...]) -> Incident | None:
    """Return the end of the last run, also of one that was killed and could not record it; None if there was none."""
    record = files.read_run(RunRecord) or record_of_end(kept)
    if record is None:
        return None
    own = own_end(kept, record.run)
    if own is not None and own.code is not None:
        return own
    end = after_incidents(end_of(record, own, Lookout(machine())), kept, record.run)
    return end_of_run(end, "") if own is None else judged(own, end, "")


def of_run(plan: Plan, snapshot: Snapshot, redactor: Redactor) -> Subject:
    """Return the input from a running supervisor."""
    return _now(Subject(os.environ, plan, Host(), redactor, (), snapshot))


def _now(subject: Subject) -> Subject:
    return subject._replace(now_s=time.monotonic(), epoch_s=datetime.now(UTC).timestamp())
