"""What the checks look at: the settings, and what a running supervisor knows besides."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from supervisor import moltis
from supervisor.config.build import examine
from supervisor.config.users import Host
from supervisor.errors import ConfigError
from supervisor.logs.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.config.plan import Plan
    from supervisor.core.snapshot import Snapshot


class Subject(NamedTuple):
    """Everything that is looked at.

    ``problems`` are those of the settings; with them the plan has defaults in their place. ``snapshot`` is None where
    no supervisor runs, and ``alone`` then says why none was asked. ``now_s`` is of the monotonic clock.
    """

    environ: Mapping[str, str]
    plan: Plan
    host: Host
    redactor: Redactor
    problems: tuple[str, ...] = ()
    snapshot: Snapshot | None = None
    alone: str = ""
    now_s: float = 0.0

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
    return Subject(environ, plan, host, Redactor(secrets), problems, None, alone, time.monotonic())


def of_run(plan: Plan, snapshot: Snapshot, redactor: Redactor) -> Subject:
    """Return what a running supervisor looks at."""
    return Subject(os.environ, plan, Host(), redactor, (), snapshot, "", time.monotonic())
