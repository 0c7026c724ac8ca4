"""When credentials expire, as far as that is known, and whether to warn of it. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.snapshot import Snapshot

NODE_KEY, CERTIFICATE = "node key", "certificate"
CREDENTIALS = (NODE_KEY, CERTIFICATE)
DAY_S = 24 * 3600.0
# The second warning is for people who missed the first.
FIRST_WARNING_S, SECOND_WARNING_S = 14 * DAY_S, 3 * DAY_S
REMEDIES = {
    NODE_KEY: "connect with a new key before then, or tag the device",
    CERTIFICATE: "tailscaled should have renewed it by itself: see `status` for why it could not",
}


class Expiry(NamedTuple):
    """When a credential expires; ``left_s`` is negative once it has."""

    name: str
    epoch_s: float
    left_s: float

    @property
    def stage(self) -> str:
        """Return the stage of its warning; empty if it is too early for one."""
        if self.left_s > FIRST_WARNING_S:
            return ""
        return "expiring" if self.left_s > SECOND_WARNING_S else "expiring soon"

    @property
    def words(self) -> str:
        """Return the text of its warning."""
        days = int(self.left_s // DAY_S)
        when = f"in {days} days" if days > 1 else "in less than two days" if self.left_s > 0 else "now"
        return f"the {self.name} ends {when}; {REMEDIES[self.name]}"


def expiries(snapshot: Snapshot, now_s: float) -> Iterator[Expiry]:
    """Yield each known expiry; ``now_s`` is of the monotonic clock."""
    told = ((NODE_KEY, snapshot.tailnet.key_expiry), (CERTIFICATE, snapshot.tailnet.serve.certificate_expiry))
    for name, text in told:
        epoch_s = epoch_of(text) if text else None
        if epoch_s is not None:
            yield Expiry(name, epoch_s, epoch_s - snapshot.wall_offset_s - now_s)


@lru_cache(maxsize=8)
def epoch_of(text: str) -> float | None:
    """Return an RFC 3339 time in seconds since the epoch; None if the text is invalid."""
    # Imported if a credential expires.
    from datetime import UTC, datetime

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
