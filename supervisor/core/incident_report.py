"""An incident as text for a bug report, after identifying data was masked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.causes import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from supervisor.core.incidents import Incident

# Other incidents within this time are listed too.
NEAR_S = 3600.0


def report(incident: Incident, known: Iterable[Incident], stamp: Callable[[float], str]) -> str:
    """Return the report, with one line for each incident around it; ``stamp`` formats a time."""
    near = [each for each in known if each.id != incident.id and abs(each.at_s - incident.at_s) < NEAR_S]
    return "\n".join([*_story(incident, stamp), *_around(near, stamp)]) + "\n"


def _story(incident: Incident, stamp: Callable[[float], str]) -> Iterator[str]:
    yield f"moltis-supervisor {incident.version}: {incident.what}"
    facts = {
        "when": stamp(incident.at_s) + ("" if incident.until_s is None else f" to {stamp(incident.until_s)}"),
        "kind": f"{incident.kind} ({incident.level})",
        "why": incident.why,
        "likely cause": incident.cause,
        "what was done": incident.done,
        "end": _end(incident),
        "memory": _memory(incident),
        "times": "" if incident.last_s is None else f"{incident.times}, the last at {stamp(incident.last_s)}",
        "asked for by": incident.by,
    }
    yield from (f"{name}: {text}" for name, text in facts.items() if text)
    if incident.last_lines:
        yield "last lines:"
        yield from (f"    {line}" for line in incident.last_lines)


def _around(near: list[Incident], stamp: Callable[[float], str]) -> Iterator[str]:
    if near:
        yield "within an hour of it:"
        yield from (f"    {stamp(each.at_s)} {each.kind}: {each.what}: {each.why}" for each in near)


def _end(incident: Incident) -> str:
    how = f"signal {incident.signal}" if incident.signal else ""
    how = how or ("" if incident.code is None else f"code {incident.code}")
    return how + (f" after {incident.uptime_s} s" if how and incident.uptime_s is not None else "")


def _memory(incident: Incident) -> str:
    peak = "" if incident.peak_bytes is None else f"peak {megabytes(incident.peak_bytes)}"
    limit = "" if incident.limit_bytes is None else f"limit {megabytes(incident.limit_bytes)}"
    return ", ".join(filter(None, (peak, limit)))
