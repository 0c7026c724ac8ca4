"""Backups: checks their settings against each other, and determines the folders to copy, and who may change these."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from supervisor import moltis
from supervisor.config import permissions
from supervisor.config.parsers import InvalidValueError
from supervisor.config.permissions import AuditedPath
from supervisor.config.plan import DEFAULT_PATH, BackupPlan, BackupSource, common_environment
from supervisor.config.settings import BackupSettings, rows
from supervisor.config.tailscale_env import DAEMON, parse_client_secret, seals
from supervisor.core.process import ProcessSpec
from supervisor.errors import ConfigError
from supervisor.namedtuples import NamedTuple
from supervisor.system import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.config.permissions import Person
    from supervisor.config.plan import Plan
    from supervisor.config.settings import Settings, TailnetSettings
    from supervisor.config.users import Host
    from supervisor.errors import Diagnostics

PROGRAM = "restic"
LEAST_VERSION = (0, 17)
FOLDER = "moltis-supervisor-backup"
_REPOSITORY = "SUPERVISOR_BACKUP_REPOSITORY"
_PASSWORD = "SUPERVISOR_BACKUP_PASSWORD"  # noqa: S105 - the name of one
_KEYS = ("SUPERVISOR_BACKUP_ACCESS_KEY_ID", "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY")
_LEAST_STOP_S = 30.0


def add_settings(settings: Settings, values: dict[str, Any], diags: Diagnostics) -> Settings:
    """Return the settings with those of backups, unless there is no repository."""
    if _REPOSITORY not in settings.given:
        names = sorted(row.name for row in rows(BackupSettings).values() if row.name in settings.given)
        diags.warn(*(f"{name} has no effect without {_REPOSITORY}" for name in names))
        return settings
    # An invalid repository has been reported; the rest is checked nevertheless.
    is_valid = values["repository"] is not None
    backup = BackupSettings(**{**values, "repository": values["repository"] or "/"})
    if _PASSWORD not in settings.given:
        why = "it encrypts the repository, and one that is lost cannot be replaced"
        diags.problem(f"use {_REPOSITORY} without {_PASSWORD}", why, "set it, and keep a copy of it elsewhere")
    if is_valid:
        _check_keys(backup, settings.given, diags)
    if is_valid and backup.in_folder:
        _check_folder(backup, diags)
    if settings.tailnet.mode == "embedded":
        _check_identity(settings.tailnet, diags)
        # The device is restored with its identity, so keys that an OAuth client makes are for permanent devices.
        tailnet = settings.tailnet._replace(ephemeral=False, keeps_identity=True)
        settings = settings._replace(tailnet=tailnet)
    return settings._replace(backup=backup)


def _check_keys(backup: BackupSettings, given: frozenset[str], diags: Diagnostics) -> None:
    for name in _KEYS:
        if name in given and backup.in_folder:
            diags.warn(f"{name} has no effect: the repository is a folder")
        elif name not in given and not backup.in_folder:
            diags.problem(f"use {_REPOSITORY} without {name}", "a bucket requires it", "set it")


def _check_folder(backup: BackupSettings, diags: Diagnostics) -> None:
    for path in backup.paths or ():
        if _overlap(backup.repository, path):
            what = f"use {_REPOSITORY}={backup.repository}"
            why = f"it overlaps with the backed-up folder {path}"
            diags.problem(what, why, "choose a folder outside of all that is backed up")


def _check_identity(tailnet: TailnetSettings, diags: Diagnostics) -> None:
    """Report settings that would make each start another device, or log it out at a stop."""
    why = "with backups the device keeps its identity"
    if tailnet.ephemeral:
        diags.problem("honour TS_EPHEMERAL=true", why, "remove it, or the backups")
    if tailnet.in_memory:
        diags.problem("honour TS_STATE_DIR=mem:", why, "set it to a folder, or leave it out")
    for flag in seals(tailnet.extra_args):
        sealed = "the TPM of this machine would seal the device's identity, which no other one could restore"
        diags.problem(f"honour --{flag} in {DAEMON}", sealed, "remove it, or the backups")
    for source in (tailnet.auth_key, tailnet.client_secret):
        try:
            ephemeral = source is not None and parse_client_secret(source.read().reveal()).ephemeral
        except (ConfigError, InvalidValueError):
            continue
        if source is not None and ephemeral:
            diags.problem(f"honour ephemeral=true in {source.name}", why, "remove that attribute")


def _overlap(one: str, other: str) -> bool:
    """Tell whether two folders are the same, or one is inside the other, by their names."""
    one, other = (f"{path.rstrip('/')}/" for path in (one, other))
    return one.startswith(other) or other.startswith(one)


class BackupPlanner(NamedTuple):
    """Plans the backups, and reports problems with their settings."""

    plan: Plan
    settings: BackupSettings
    environ: Mapping[str, str]
    command: Sequence[str]
    host: Host
    diags: Diagnostics

    def build(self) -> BackupPlan:
        """Return the plan of the backups."""
        settings, tailnet, user = self.plan.settings, self.plan.settings.tailnet, self.plan.tailscale_user
        backup = BackupPlan(
            program=self._program(),
            folder=os.path.join(os.path.dirname(tailnet.state_dir), FOLDER),
            sources=tuple(self._sources()),
            identity=BackupSource("tailscale", tailnet.state_dir, user) if tailnet.mode == "embedded" else None,
            holds=settings.app.enabled and tailnet.mode != "attach",
        )
        self._check_places(backup)
        self._warn_of_one_user()
        # Whoever runs here besides root, even if there is no app.
        persons = permissions.persons_of(self.plan, self.host)
        permissions.report(self._audited(backup, persons), permissions.Auditor(), self.diags)
        if not backup.holds and self.settings.restore not in {"auto", "never"}:
            self.diags.warn("SUPERVISOR_BACKUP_RESTORE has no effect without an app of its own; use `backup restore`")
        if backup.holds and settings.stop_timeout_s < _LEAST_STOP_S:
            self.diags.warn(
                f"SUPERVISOR_STOP_TIMEOUT is less than {_LEAST_STOP_S:g} s: it may be too short for a last snapshot; "
                "raise it and the platform's grace period together"
            )
        return backup

    def _program(self) -> str:
        try:
            return spawn.find_program(PROGRAM, self.environ.get("PATH") or DEFAULT_PATH, "/")
        except spawn.SpawnError as error:
            least = ".".join(map(str, LEAST_VERSION))
            self.diags.problem(f"use {_REPOSITORY}", error.why, f"{PROGRAM} {least} or newer is needed")
        return PROGRAM

    def _sources(self) -> Iterator[BackupSource]:
        owner, app, environ = self.plan.app_user, self.plan.settings.app, self.environ
        if self.settings.paths is not None:
            yield from (BackupSource(path, path, owner) for path in self.settings.paths)
            return
        built_in = not self.command or self.command[0].startswith("-")
        program = app.command[0] if built_in else self.command[0]
        if not app.enabled or os.path.basename(program) != moltis.PROGRAM:
            why = "only Moltis' own folders are known, and this is another app"
            self.diags.problem("back up without SUPERVISOR_BACKUP_PATHS", why, "name the folders to back up")
            return
        home = owner.home if owner is not None else environ.get("HOME") or self.host.home
        yield from (BackupSource(name, path, owner) for name, path in moltis.folders(environ, home).items())

    def _check_places(self, backup: BackupPlan) -> None:
        """Report folders that are backed up and overlap with those that backups use."""
        used = {"the folder for staged files": backup.folder}
        if backup.identity is not None:
            used["tailscaled's state"] = backup.identity.path
        if self.settings.in_folder and self.settings.paths is None and self.settings.repository != "/":
            used[_REPOSITORY] = self.settings.repository
        for what, path in used.items():
            for source in backup.sources:
                if _overlap(path, source.path):
                    why = f"{what} ({path}) overlaps with it"
                    remedy = "choose other SUPERVISOR_BACKUP_PATHS, or set TS_STATE_DIR to a folder outside of them"
                    self.diags.problem(f"back up {source.path}", why, remedy)

    def _warn_of_one_user(self) -> None:
        """Report what runs as the supervisor's user without having been given it on purpose."""
        if self.plan.app_user is not None:
            return
        same = ["the app"] if self.plan.settings.app.enabled else []
        same += [each.name for each in self.plan.settings.processes if each.user is None or self.host.uid != 0]
        if same:
            runs, they = ("runs", "it") if len(same) == 1 else ("run", "they")
            self.diags.warn(
                f"{' and '.join(same)} {runs} as the same user as the supervisor: {they} can read the backups' "
                "password and keys from restic's memory while that runs, and change staged files; start as root, with "
                "a user for each"
            )

    def _audited(self, backup: BackupPlan, persons: tuple[Person, ...]) -> Iterator[AuditedPath]:
        """Yield what no other user may change: restic, the repository, the folder that root stages files in."""
        restic = ProcessSpec("the supervisor", (PROGRAM,), common_environment(self.environ, "/", None))
        yield from permissions.programs(restic, persons)
        folders = {os.path.dirname(backup.folder): "the supervisor stages snapshots in"}
        if self.settings.in_folder and self.settings.repository != "/":
            folders[self.settings.repository] = "the supervisor keeps the repository in"
        for path, role in folders.items():
            remedy = "give it to root, with write access for no one else, or choose another folder"
            yield AuditedPath(path, role, persons, wanted=True, remedy=remedy)
