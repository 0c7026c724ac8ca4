"""Runs all checks, and creates the report."""

from __future__ import annotations

import asyncio
import platform
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from supervisor import __version__
from supervisor.doctor import (
    app_checks,
    backup_checks,
    facts,
    machine_checks,
    path_checks,
    rights_checks,
    settings_checks,
    tailnet_checks,
)
from supervisor.doctor.facts import Credentials, LoneParent
from supervisor.doctor.finding import GROUPS, OK, DoctorBody, worst
from supervisor.doctor.masking import ReportMask
from supervisor.doctor.subject import of_run, of_settings, with_kept, with_problems
from supervisor.runtime.loop_latency import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from supervisor.backup.programs import ProgramParent
    from supervisor.config.plan import Plan
    from supervisor.core.snapshot import Snapshot
    from supervisor.doctor.finding import Check, Diagnosis, SettingInForce
    from supervisor.doctor.subject import Subject
    from supervisor.logs.redact import Redactor

PARTS = (
    *(settings_checks, rights_checks, machine_checks, tailnet_checks, path_checks),
    *(app_checks, backup_checks),
)
CHECKS: tuple[Check, ...] = tuple(
    sorted((check for part in PARTS for check in part.CHECKS), key=lambda check: GROUPS.index(check.group))
)
# How long a part may look at files: their disk may hang.
LOOK_S = 5.0
_UNREAD = "the file of a secret cannot be read: its disk does not answer; check the disk that it is on"
_UNSET = (
    "the settings cannot be read: the disk of their file, of a secret's file, or of a folder that they name does not "
    "answer; this report is about the defaults"
)
_UNKEPT = "the state folder cannot be read: its disk does not answer; check the disk that it is on"
_HANGS = ("it could not be looked at: a disk does not answer", "check the disks, and what is mounted from a network")
T = TypeVar("T")
# Concurrent requests are processed one after the other.
_turn = asyncio.Lock()


async def examine_run(
    plan: Plan, snapshot: Snapshot, redactor: Redactor, parent: ProgramParent, peer: str = ""
) -> DoctorBody:
    """Check everything around this running supervisor. ``peer`` is the client's address."""
    async with _turn:
        return await _examine(of_run(plan, snapshot, redactor), parent, peer)


async def examine_alone(environ: Mapping[str, str], alone: str) -> DoctorBody:
    """Check what can be checked without a running supervisor; ``alone`` is why none was asked."""
    async with LoneParent().reaping() as parent:
        subject = await _in_time("given settings", partial(of_settings, environ, alone))
        if subject is None:
            # Without any of them, the rest can be told all the same.
            subject = with_problems(of_settings({"PATH": environ.get("PATH", "")}, alone), _UNSET)
        kept = await _in_time("kept incidents", partial(with_kept, subject))
        return await _examine(kept or with_problems(subject, _UNKEPT), parent, "")


async def _examine(subject: Subject, parent: ProgramParent, peer: str) -> DoctorBody:
    """Collect the facts and run the checks; slow parts run in threads."""
    given = await _in_time("credentials", partial(facts.credentials, subject))
    if given is None:
        given, subject = Credentials(), with_problems(subject, _UNREAD)
    tailnet, app, owners, key = await asyncio.gather(
        facts.of_tailnet(subject, peer),
        facts.of_app(subject, parent),
        facts.of_policy(subject, given),
        facts.of_auth_key(subject, given),
    )
    subject = subject._replace(tailnet=tailnet, app=app, tag_owners=owners, auth_key=key)
    subject = subject._replace(is_client_secret=given.client is not None and given.key is None)
    versions = await facts.of_programs(subject, parent)
    subject = subject._replace(network=await run_in_thread(path_checks.look, subject))
    found = [each for part in PARTS for each in await _findings(part, subject)]
    settings = await _in_time("settings in force", lambda: list(settings_checks.in_force(subject)))
    return await run_in_thread(_report, subject, found, settings or [], versions)


async def _findings(part: ModuleType, subject: Subject) -> list[Diagnosis]:
    """Return a part's findings, or that its disk hangs: what is looked at elsewhere is told all the same."""
    found: list[Diagnosis] | None = await _in_time(part.__name__, lambda: list(part.findings(subject)))
    return [part.CHECKS[0].problem(*_HANGS)] if found is None else found


async def _in_time(name: str, look: Callable[[], T]) -> T | None:
    """Return what ``look`` returns, in a thread; None if it takes too long, or if the one before still hangs."""
    with suppress(TimeoutError):
        return await facts.read_in_time(name, look, LOOK_S)
    return None


def _report(
    subject: Subject, found: list[Diagnosis], settings: list[SettingInForce], versions: dict[str, str]
) -> DoctorBody:
    findings = sorted(found, key=lambda each: GROUPS.index(each.group))
    body = DoctorBody(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        level=worst(findings),
        running=subject.snapshot is not None,
        findings=findings,
        settings=settings,
        versions=_versions(subject, versions),
        text="",
    )
    mask = ReportMask(subject.redactor, subject.names)
    masked: DoctorBody = mask.every(body)
    masked.text = "\n".join(_lines(masked)) + "\n"
    return masked


def _versions(subject: Subject, programs: dict[str, str]) -> dict[str, str]:
    found = {"moltis-supervisor": __version__, "python": platform.python_version()}
    status = subject.tailnet.status
    if status is not None:
        found["tailscaled"] = status.version.partition("-")[0]
    return found | programs | {"kernel": platform.release(), "machine": platform.machine()}


def _lines(body: DoctorBody) -> Iterator[str]:
    """Yield the lines of the report as plain text, for a bug report; the body has to be masked already."""
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
