"""Has everything checked, and makes the report."""

from __future__ import annotations

import asyncio
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from supervisor import __version__
from supervisor.doctor import machine_checks, rights_checks, settings_checks
from supervisor.doctor.finding import DoctorBody, worst
from supervisor.doctor.masking import ReportMask
from supervisor.doctor.subject import of_run
from supervisor.doctor.text import as_text
from supervisor.runtime.loop_latency import run_in_thread

if TYPE_CHECKING:
    from supervisor.config.plan import Plan
    from supervisor.core.snapshot import Snapshot
    from supervisor.doctor.finding import Check, Diagnosis
    from supervisor.doctor.subject import Subject
    from supervisor.logs.redact import Redactor

_GROUPS = (settings_checks, rights_checks, machine_checks)
CHECKS: tuple[Check, ...] = tuple(check for group in _GROUPS for check in group.CHECKS)


# However many ask, their checks are made one after the other.
_turn = asyncio.Lock()


async def examine_run(plan: Plan, snapshot: Snapshot, redactor: Redactor) -> DoctorBody:
    """Check everything around a running supervisor: this one."""
    async with _turn:
        return await examine(of_run(plan, snapshot, redactor))


async def examine(subject: Subject) -> DoctorBody:
    """Check everything; what takes its time is done in threads."""
    return await run_in_thread(_report, subject)


def _report(subject: Subject) -> DoctorBody:
    findings: list[Diagnosis] = [found for group in _GROUPS for found in group.findings(subject)]
    body = DoctorBody(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        level=worst(findings),
        running=subject.snapshot is not None,
        findings=findings,
        settings=list(settings_checks.in_force(subject)),
        versions=_versions(),
        text="",
    )
    mask = ReportMask(subject.redactor, subject.names)
    masked: DoctorBody = mask.every(body)
    masked.text = as_text(masked)
    return masked


def _versions() -> dict[str, str]:
    return {"moltis-supervisor": __version__, "python": platform.python_version(), "kernel": platform.release()}
