"""Serve configurations built from their entries."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.tailnet.serve.diff import Entries
    from supervisor.tailnet.wire import Json


def config_of(found: Entries) -> Json:
    """Return the configuration with these entries."""
    config: Json = {}
    for path, value in found.items():
        inner = config
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = copy.deepcopy(value)
    return config
