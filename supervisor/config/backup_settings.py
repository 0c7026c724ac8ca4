"""Puts the settings for backups together, and finds what is wrong between them and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.config import oauth
from supervisor.config.backup_forms import DEFAULT_INTERVAL_S, DEFAULT_KEEP, is_inside
from supervisor.config.model import BackupSettings
from supervisor.config.parsers import UnfitError
from supervisor.errors import ConfigError

if TYPE_CHECKING:
    from supervisor.config.diagnostics import Report
    from supervisor.config.model import Settings, TailnetSettings

NAME = "SUPERVISOR_BACKUP_"
_REPOSITORY = f"{NAME}REPOSITORY"
_KEYS = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")


def add(settings: Settings, values: dict[str, Any], report: Report) -> Settings:
    """Return the settings with those for backups; without a repository there are none."""
    others = sorted(name for name in settings.given if name.startswith(NAME) and name != _REPOSITORY)
    repository = values[_REPOSITORY]
    if _REPOSITORY not in settings.given:
        report.warnings += [f"{name} has no effect without {_REPOSITORY}" for name in others]
        return settings
    found = BackupSettings(
        # One that is bad was told of; the rest is still to be looked at.
        repository=repository or "/",
        password=values[f"{NAME}PASSWORD"],
        access_key_id=values[f"{NAME}ACCESS_KEY_ID"],
        secret_access_key=values[f"{NAME}SECRET_ACCESS_KEY"],
        paths=values[f"{NAME}PATHS"],
        interval_s=values[f"{NAME}INTERVAL"] or DEFAULT_INTERVAL_S,
        keep=values[f"{NAME}KEEP"] or DEFAULT_KEEP,
        restore=values[f"{NAME}RESTORE"] or "auto",
    )
    _check_secrets(found, settings, values, report)
    if repository and found.in_folder:
        _check_folder(found, report)
    if settings.tailnet.mode == "embedded":
        _check_identity(settings.tailnet, report)
        # The device comes back with its identity: keys that an OAuth client makes are for devices that stay.
        settings = settings._replace(tailnet=settings.tailnet._replace(ephemeral=False))
    return settings._replace(backup=found)


def _check_secrets(found: BackupSettings, settings: Settings, values: dict[str, Any], report: Report) -> None:
    if f"{NAME}PASSWORD" not in settings.given:
        report.problem(
            f"use {_REPOSITORY} without {NAME}PASSWORD",
            "it encrypts the repository, and one that is lost cannot be replaced",
            "set it, and keep a copy of it elsewhere",
        )
    if not values[_REPOSITORY]:
        return
    for name in _KEYS:
        given = f"{NAME}{name}" in settings.given
        if given and found.in_folder:
            report.warnings.append(f"{NAME}{name} has no effect: the repository is a folder")
        elif not given and not found.in_folder:
            report.problem(f"use {_REPOSITORY} without {NAME}{name}", "a bucket asks for it", "set it")


def _check_folder(found: BackupSettings, report: Report) -> None:
    for path in found.paths or ():
        if is_inside(found.repository, path) or is_inside(path, found.repository):
            report.problem(
                f"use {_REPOSITORY}={found.repository}",
                f"it and the backed-up folder {path} lie in each other",
                "choose a folder outside of all that is backed up",
            )


def _check_identity(tailnet: TailnetSettings, report: Report) -> None:
    """Find what would make another device of each start, or log it out at a stop."""
    why = "with backups the device keeps its identity"
    if tailnet.ephemeral:
        report.problem("honour TS_EPHEMERAL=true", why, "remove it, or the backups")
    if tailnet.in_memory:
        report.problem("honour TS_STATE_DIR=mem:", why, "set it to a folder, or leave it out")
    for source in (tailnet.auth_key, tailnet.client_secret):
        try:
            said = source is not None and oauth.parse(source.read().reveal()).ephemeral
        except (ConfigError, UnfitError):
            continue
        if source is not None and said:
            report.problem(f"honour ephemeral=true in {source.name}", why, "remove that attribute")
