"""When a tailnet that is away gets help, and which. Pure."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

SOFT_AFTER_S = 60.0
_SOFT_LONGEST_S = 900.0
# A restart drops every connection, and direct ones may still work: late, and seldom.
RESTART_AFTER_S = 1800.0
# Of two seconds each: a busy machine is no hung daemon.
MOST_SILENCES = 3


class Remedy(Enum):
    """What helps."""

    SOFT = "restart the control client"
    RESTART = "restart tailscaled"


class Outage(NamedTuple):
    """An outage under way: since when, what was tried, and when the next try is due."""

    since_s: float
    softs: int = 0
    next_s: float = 0.0
    restarted: bool = False


def follow(
    outage: Outage | None, now_s: float, *, away: bool, removed: bool = False
) -> tuple[Outage | None, Remedy | None]:
    """Return the outage as it is now, and what is due to be tried.

    ``removed`` is a sign that control does not know the device any more: then the first remedy shows it at once.
    """
    if not away:
        return None, None
    if outage is None:
        outage = Outage(now_s, next_s=now_s + SOFT_AFTER_S)
    if removed and not outage.softs:
        return outage._replace(softs=1, next_s=now_s + SOFT_AFTER_S), Remedy.SOFT
    if not outage.restarted and now_s - outage.since_s >= RESTART_AFTER_S:
        return outage._replace(restarted=True), Remedy.RESTART
    if now_s < outage.next_s:
        return outage, None
    wait_s = min(_SOFT_LONGEST_S, SOFT_AFTER_S * 2.0 ** min(outage.softs, 10))
    return outage._replace(softs=outage.softs + 1, next_s=now_s + wait_s), Remedy.SOFT
