"""The finding of a check, and the report that consists of them."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

import msgspec

Level = Literal["ok", "note", "problem"]
OK: Final = "ok"
NOTE: Final = "note"
PROBLEM: Final = "problem"
Group = Literal["settings", "rights", "machine", "tailnet", "app", "backups", "incidents"]
# In the report's order.
GROUPS: tuple[Group, ...] = ("settings", "rights", "machine", "tailnet", "app", "backups", "incidents")
_WORSE = {OK: 0, NOTE: 1, PROBLEM: 2}


class Diagnosis(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The finding of one check. ``page`` is a path in the documentation's folder, or null.

    ``what_to_do`` is null if all is well.
    """

    group: Group
    check: str
    level: Level
    looked_at: str
    found: str
    why: str
    what_to_do: str | None
    page: str | None


class SettingInForce(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One setting: its value as text, and its source: default, environment, command line, or a file."""

    name: str
    value: str
    origin: str


class DoctorBody(msgspec.Struct, forbid_unknown_fields=True):
    """The report; ``level`` is that of the worst finding. ``running`` is true if a supervisor runs.

    ``text`` is the whole report as text, for a bug report. Secrets and addresses are masked everywhere.
    """

    at: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    level: Level
    running: bool
    findings: list[Diagnosis]
    settings: list[SettingInForce]
    versions: dict[str, str]
    text: str


class Check(NamedTuple):
    """The declaration of a check: what it looks at, and why that matters."""

    group: Group
    name: str
    looked_at: str
    why: str
    page: str | None = None

    def ok(self, found: str) -> Diagnosis:
        """Return a finding of level ok."""
        return self._said(OK, found, None)

    def note(self, found: str, what_to_do: str) -> Diagnosis:
        """Return a finding that is worth knowing, but no problem; ``what_to_do`` may say that nothing is."""
        return self._said(NOTE, found, what_to_do)

    def problem(self, found: str, what_to_do: str) -> Diagnosis:
        """Return a finding that needs a change."""
        return self._said(PROBLEM, found, what_to_do)

    def _said(self, level: Level, found: str, what_to_do: str | None) -> Diagnosis:
        return Diagnosis(self.group, self.name, level, self.looked_at, found, self.why, what_to_do, self.page)


def worst(findings: list[Diagnosis]) -> Level:
    """Return the level of the worst finding."""
    return max((found.level for found in findings), key=_WORSE.__getitem__, default="ok")


def split_remedy(text: str, otherwise: str = "see the page") -> tuple[str, str]:
    """Split a message into the problem and its remedy, which follows the last semicolon (see Diagnostics)."""
    found, _, remedy = text.rpartition("; ")
    return (found, remedy) if found else (text, otherwise)
