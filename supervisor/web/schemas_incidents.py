"""Responses of the API about incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from supervisor.core.incidents import INCIDENT_KINDS, INCIDENT_LEVELS
from supervisor.logs.format import stamp
from supervisor.web.schemas import Body, Count, Moment, Texts

if TYPE_CHECKING:
    from supervisor.core.incidents import Incident
    from supervisor.core.snapshot import Snapshot

IncidentKind = Annotated[str, Meta(extra_json_schema={"enum": list(INCIDENT_KINDS)})]
IncidentLevel = Annotated[str, Meta(extra_json_schema={"enum": list(INCIDENT_LEVELS)})]


class IncidentBody(Body):
    """An incident without its last log lines."""

    id: str
    at: Moment
    kind: IncidentKind
    subject: str
    level: IncidentLevel
    what: str
    why: str | None
    cause: str | None
    done: str | None
    code: int | None
    signal: str | None
    uptime_s: float | None
    peak_bytes: int | None
    limit_bytes: int | None
    until: Moment | None
    open: bool
    times: Count
    last: Moment | None
    run: str
    version: str
    by: str | None


class IncidentStoryBody(Body):
    """An incident with the last log lines before it; ``report`` is the text for a bug report."""

    incident: IncidentBody
    last_lines: Texts
    report: str


class IncidentsBody(Body):
    """The stored incidents, the newest first; ``why_not`` is why they are not stored on disk."""

    incidents: Annotated[list[IncidentBody], Meta(max_length=100)]
    why_not: str | None
    unread: Texts


RESPONSES = (IncidentsBody, IncidentStoryBody)


def incidents(snapshot: Snapshot) -> IncidentsBody:
    """Return all incidents, the newest first."""
    view = snapshot.incidents
    return IncidentsBody.of(view, incidents=list(map(_body, reversed(view.known))))


def story(incident: Incident, report: str) -> IncidentStoryBody:
    """Return an incident with its details."""
    return IncidentStoryBody(_body(incident), incident.last_lines, report)


def _body(incident: Incident) -> IncidentBody:
    return IncidentBody.of(
        incident,
        at=stamp(incident.at_s),
        until=_moment(incident.until_s),
        last=_moment(incident.last_s),
        open=incident.is_open,
    )


def _moment(at_s: float | None) -> str | None:
    return None if at_s is None else stamp(at_s)
