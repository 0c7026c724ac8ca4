"""Makes the part of the plan that backups take: restic, the folders, and who may change them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.config import audit, environment, permissions
from supervisor.config.backup_forms import is_inside
from supervisor.config.plan import BackupPlan, Source
from supervisor.system import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.config.diagnostics import Report
    from supervisor.config.host import Host
    from supervisor.config.model import BackupSettings
    from supervisor.config.plan import Plan

PROGRAM = "restic"
LEAST_VERSION = (0, 17)
IDENTITY = "tailscale"
FOLDER = "moltis-supervisor-backup"
_LEAST_STOP_S = 30.0
_MOLTIS = "moltis"


def plan(
    plan: Plan,
    settings: BackupSettings,
    environ: Mapping[str, str],
    command: Sequence[str],
    host: Host,
    report: Report,
) -> BackupPlan:
    """Return the plan for backups; what is wrong with it goes into the report."""
    tailnet = plan.settings.tailnet
    embedded = tailnet.mode == "embedded"
    found = BackupPlan(
        program=_program(environ.get("PATH") or environment.DEFAULT_PATH, report),
        folder=os.path.join(os.path.dirname(tailnet.state_dir), FOLDER),
        sources=tuple(_sources(plan, settings, environ, command, host, report)),
        identity=Source(IDENTITY, tailnet.state_dir, plan.tailscale_user) if embedded else None,
        holds=plan.settings.app.enabled and tailnet.mode != "attach",
    )
    _check_places(found, settings, report)
    _check_rights(plan, found, settings, environ, host, report)
    if found.holds and plan.settings.stop_timeout_s < _LEAST_STOP_S:
        report.warnings.append(
            f"SUPERVISOR_STOP_TIMEOUT is less than {_LEAST_STOP_S:g} s: it may be too short for a last snapshot; "
            "raise it and the platform's grace period together"
        )
    return found


def _program(env_path: str, report: Report) -> str:
    try:
        return spawn.find_program(PROGRAM, env_path, "/")
    except spawn.SpawnError as error:
        least = ".".join(map(str, LEAST_VERSION))
        report.problem("use SUPERVISOR_BACKUP_REPOSITORY", error.why, f"{PROGRAM} {least} or newer is needed")
    return PROGRAM


def _sources(
    plan: Plan,
    settings: BackupSettings,
    environ: Mapping[str, str],
    command: Sequence[str],
    host: Host,
    report: Report,
) -> Iterator[Source]:
    owner = plan.app_user
    if settings.paths is not None:
        for path in settings.paths:
            yield Source(path, path, owner)
        return
    built_in = not command or command[0].startswith("-")
    program = plan.settings.app.command[0] if built_in else command[0]
    if not plan.settings.app.enabled or os.path.basename(program) != _MOLTIS:
        report.problem(
            "back up without SUPERVISOR_BACKUP_PATHS",
            "only Moltis' own folders are known, and this is another app",
            "name the folders that hold what is to be kept",
        )
        return
    home = owner.home if owner is not None else environ.get("HOME") or host.home
    yield Source("config", os.path.normpath(environ.get("MOLTIS_CONFIG_DIR") or f"{home}/.config/moltis"), owner)
    yield Source("data", os.path.normpath(environ.get("MOLTIS_DATA_DIR") or f"{home}/.moltis"), owner)


def _check_places(found: BackupPlan, settings: BackupSettings, report: Report) -> None:
    """Find folders that lie in each other: what is backed up, and what backups are made of."""
    ours = {"the folder for what is staged": found.folder}
    if found.identity is not None:
        ours["tailscaled's state"] = found.identity.path
    if settings.in_folder and settings.paths is None and settings.repository != "/":
        ours["SUPERVISOR_BACKUP_REPOSITORY"] = settings.repository
    for what, path in ours.items():
        for source in found.sources:
            if is_inside(path, source.path) or is_inside(source.path, path):
                report.problem(
                    f"back up {source.path}",
                    f"{what} ({path}) and it lie in each other",
                    "choose other folders with SUPERVISOR_BACKUP_PATHS, or set TS_STATE_DIR to one outside of them",
                )


def _check_rights(
    plan: Plan,
    found: BackupPlan,
    settings: BackupSettings,
    environ: Mapping[str, str],
    host: Host,
    report: Report,
) -> None:
    """Find what the app's user could change: the repository, restic, the folder that root stages in."""
    if host.uid != 0 or plan.app_user is None:
        report.warnings.append(
            "the app runs as the same user as the supervisor: it can read the backups' password and keys from "
            "restic's environment while that runs, and change what is staged; start as root, with a user for each"
        )
        return
    looked_at = {
        **dict.fromkeys(_ways_to(found.program, environ), "runs it as root"),
        os.path.dirname(found.folder): "stages snapshots in it",
    }
    if settings.in_folder and settings.repository != "/":
        looked_at[settings.repository] = "keeps the repository there"
    auditor, persons = audit.Auditor(), permissions.persons_of(plan, host)
    for path, what in looked_at.items():
        changer = auditor.changer(path, persons, wanted=True)
        if changer is not None:
            step, person = changer
            report.problem(
                f"trust {step}",
                f"the supervisor {what} ({path}), and {person.title} can change it",
                "give it to root, with write access for no one else, or choose another folder",
            )


def _ways_to(program: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the program, and each file that would be run in its place if it were there."""
    for path in spawn.program_candidates(PROGRAM, environ.get("PATH") or environment.DEFAULT_PATH, "/"):
        yield path
        if path == program:
            return
