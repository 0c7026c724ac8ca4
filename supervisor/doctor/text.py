"""The report as plain text, for a bug report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.doctor.finding import GROUPS, OK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.doctor.finding import Diagnosis, DoctorBody


def as_text(body: DoctorBody) -> str:
    """Return the report as text; the body has to be masked already."""
    return "\n".join(_lines(body)) + "\n"


def _lines(body: DoctorBody) -> Iterator[str]:
    state = "with a running supervisor" if body.running else "without a running supervisor"
    yield f"moltis-supervisor doctor, {body.at}, {state}: {body.level}"
    yield ", ".join(f"{name} {version}" for name, version in body.versions.items())
    for group in GROUPS:
        found = [each for each in body.findings if each.group == group]
        if found:
            yield from ("", f"## {group}")
        for each in found:
            yield from _finding(each)
    given = [each for each in body.settings if each.origin != "default"]
    yield from ("", "## settings that were given")
    yield from (f"{each.name}={each.value} ({each.origin})" for each in given)


def _finding(found: Diagnosis) -> Iterator[str]:
    yield f"- {found.level}: {found.check}: {found.found}"
    if found.level != OK:
        yield f"  looked at: {found.looked_at}"
        yield f"  why it matters: {found.why}"
        if found.what_to_do:
            yield f"  what to do: {found.what_to_do}"
