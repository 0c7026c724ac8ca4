"""`doctor`: shows the report of the running supervisor, or of the checks that need none."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

from supervisor.characters import printable
from supervisor.client.control import NoSupervisorError, NotPermittedError, SkewError
from supervisor.client.render import BAD, BOLD, DOUBTFUL, FAINT, GOOD, Cell, entry
from supervisor.doctor.finding import GROUPS, OK, PROBLEM, DoctorBody
from supervisor.doctor.report import examine_alone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.arguments import ParsedArguments
    from supervisor.client.render import Console
    from supervisor.doctor.finding import Diagnosis

DOCTOR = "/api/doctor"
EX_PROBLEM = 1
_COLORS = {"ok": GOOD, "note": DOUBTFUL, "problem": BAD}
_MARGIN = 10
_ALIVE, _ALIVE_S, _UNWELL = "/healthz", 5.0, 503
# Reports that were requested earlier are made first.
_ANSWER_S = 30.0


def doctor(args: ParsedArguments, console: Console) -> int:
    """Show the report; return 1 if it has a problem."""
    report = _report(console)
    if "--json" in args.options:
        console.write_json(msgspec.to_builtins(report))
    else:
        console.write_lines(_lines(console, report))
    return EX_PROBLEM if report.level == PROBLEM else 0


def _report(console: Console) -> DoctorBody:
    try:
        # Detects a hung supervisor sooner than the time limit of a report would.
        console.control.get(_ALIVE, answer_s=_ALIVE_S, also=(_UNWELL,))
        told = console.control.get(DOCTOR, answer_s=_ANSWER_S)
        return msgspec.convert(told, DoctorBody)
    except (NoSupervisorError, NotPermittedError, SkewError, msgspec.ValidationError) as error:
        return asyncio.run(examine_alone(os.environ, str(error)))


def _lines(console: Console, report: DoctorBody) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    yield console.paint(printable(versions), FAINT)
    for group in GROUPS:
        found = [each for each in report.findings if each.group == group]
        if found:
            yield ""
            yield console.paint(group, BOLD)
        for each in found:
            yield from _finding(console, each)
    yield ""
    yield console.paint("settings in force", BOLD)
    for setting in report.settings:
        if setting.origin != "default":
            yield printable(f"{setting.name}={setting.value}  ({setting.origin})")
    yield ""
    yield from _summary(console, report)


def _finding(console: Console, found: Diagnosis) -> Iterator[str]:
    title = console.paint(f"{found.level:<{_MARGIN}}", _COLORS[found.level])
    lines = [Cell(printable(f"{found.check}: {found.found}"))]
    if found.level != OK:
        lines.append(Cell(printable(f"looked at: {found.looked_at}; it matters because {found.why}"), FAINT))
    if found.what_to_do:
        page = f" (docs/{found.page})" if found.page else ""
        lines.append(Cell(printable(f"to do: {found.what_to_do}{page}")))
    for number, line in enumerate(entry(console, "", lines, _MARGIN)):
        yield title + line[_MARGIN:] if not number else line


def _summary(console: Console, report: DoctorBody) -> Iterator[str]:
    counts = {level: sum(each.level == level for each in report.findings) for level in _COLORS}
    told = ", ".join(f"{count} {level}{'' if level == OK or count == 1 else 's'}" for level, count in counts.items())
    yield console.paint(told, _COLORS[report.level])
