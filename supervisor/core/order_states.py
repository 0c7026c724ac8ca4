"""The states of an order; a module of its own, as the backups' view is loaded before the first child is started."""

from __future__ import annotations

UNDER_WAY, WAITING, DONE, FAILED, REPLACED = "under way", "waiting", "done", "failed", "replaced"
# The first two can change.
ORDER_STATES = (UNDER_WAY, WAITING, DONE, FAILED, REPLACED)
