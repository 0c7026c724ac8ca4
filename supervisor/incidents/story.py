"""An incident's story as JSON has it, for the log and for alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervisor.logs.format import stamp

if TYPE_CHECKING:
    from supervisor.core.incidents import Incident


def story_of(incident: Incident) -> dict[str, object]:
    """Return all that is known of it, with its times in words."""
    found = msgspec.to_builtins(incident)
    times = {name: stamp(found.pop(f"{name}_s")) for name in ("at", "until", "last") if f"{name}_s" in found}
    return {**times, **found}
