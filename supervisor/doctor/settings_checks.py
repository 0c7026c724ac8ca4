"""Checks the settings: their problems, and each one in force with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config.load import origins
from supervisor.config.settings import BY_SPELLING, SETTINGS
from supervisor.doctor.finding import Check, SettingInForce, split_remedy
from supervisor.secret import REDACTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.config.parsers import SecretSource
    from supervisor.doctor.finding import Diagnosis
    from supervisor.doctor.subject import Subject

_PAGE = "reference/settings.md"
PROBLEMS = Check(
    "settings", "settings", "every setting, as `check` reads it", "with an invalid one nothing is started", _PAGE
)
WARNINGS = Check(
    "settings",
    "warnings",
    "what `check` warns about",
    "the supervisor starts, but something is exposed, has no effect or cannot be reached",
    _PAGE,
)
RUNNING = Check(
    "settings",
    "supervisor",
    "whether a running supervisor can be queried (SUPERVISOR_RUN_DIR)",
    "only it knows its processes and its tailnet",
    "reference/commands.md",
)
CHECKS = (RUNNING, PROBLEMS, WARNINGS)


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield the findings about the settings."""
    alone = subject.alone
    yield RUNNING.note(*split_remedy(alone)) if alone else RUNNING.ok("one runs, and made this report")
    for text in subject.problems:
        yield PROBLEMS.problem(*split_remedy(text))
    if not subject.problems:
        yield PROBLEMS.ok(f"{len(subject.plan.settings.given)} given, all valid")
    for text in subject.plan.warnings:
        yield WARNINGS.problem(*split_remedy(text))
    if not subject.plan.warnings:
        yield WARNINGS.ok("nothing")


def in_force(subject: Subject) -> Iterator[SettingInForce]:
    """Yield every setting in the order of the reference page; of a secret only its file is shown."""
    settings = subject.plan.settings
    given = origins(subject.environ, settings.config_path)
    files = {BY_SPELLING[source.name].name: source for source in settings.secrets}
    for row in SETTINGS:
        text, origin = given.get(row.name, (row.default_text, "default"))
        if row.name in settings.given and row.name not in given:
            text, origin = "(given there)", "command line"
        elif origin != "default" and row.parser.private:
            text = _where(files.get(row.name))
        yield SettingInForce(row.name, text, origin)


def _where(source: SecretSource | None) -> str:
    return f"from {source.path}" if source is not None and source.path is not None else REDACTED
