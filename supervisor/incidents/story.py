"""An incident as a JSON object, for the log and for alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervisor.logs.format import stamp

if TYPE_CHECKING:
    from supervisor.core.incidents import Incident


def story_of(incident: Incident) -> dict[str, object]:
    """Return all its fields, with times formatted."""
    found = msgspec.to_builtins(incident)
    times = {name: stamp(found.pop(f"{name}_s")) for name in ("at", "until", "last") if f"{name}_s" in found}
    return {**times, **found}
