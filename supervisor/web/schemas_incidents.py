"""What the API answers about incidents."""

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
    """One incident, without its last lines."""

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
    """One incident with the last lines before it; ``report`` is all of it as text fit for a bug report."""

    incident: IncidentBody
    last_lines: Texts
    report: str


class IncidentsBody(Body):
    """Those that are kept, the newest first; ``why_not`` says why they are not kept on the disk."""

    incidents: Annotated[list[IncidentBody], Meta(max_length=100)]
    why_not: str | None
    unread: Texts


RESPONSES = (IncidentsBody, IncidentStoryBody)


def incidents(snapshot: Snapshot) -> IncidentsBody:
    """Return all, the newest first."""
    view = snapshot.incidents
    return IncidentsBody.of(view, incidents=list(map(_body, reversed(view.known))))


def story(incident: Incident, report: str) -> IncidentStoryBody:
    """Return one with all that is known of it."""
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
