"""Who holds a repository: what the object beside it says, and what follows. Pure.

One instance at a time works on the files that a repository keeps. It writes a small object anew every few seconds; a
new one waits until that moves no more, by its own clock alone, or until the holder has let go.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

RENEW_S = 15.0
# So long may the object stand still before it counts as nobody's: four renewals that did not come.
SILENCE_S = 60.0
# Two looks are seldom further apart than this. What passed beyond it was not seen: no time in which the bucket was
# away, or this program did not run, counts as silence of the holder.
MOST_LOOK_S = 10.0
VERSION = 1


class LeaseRecord(NamedTuple):
    """What the object says: which instance holds it, of which ``generation``, and a counter that moves.

    ``files`` tells whose files the holder works on, which outlives a restart. ``released`` says that it has let go,
    ``whole`` that its last snapshot was taken.
    """

    instance: str
    generation: int = 0
    counter: int = 0
    files: str = ""
    released: bool = False
    whole: bool = False


class Unreadable(Enum):
    """Why an object says nothing: it is of a version that is not known, or nobody with the password wrote it."""

    UNKNOWN = "it is of a version that is not known here"
    FORGED = "it was not written with this password"


Seen = LeaseRecord | Unreadable | None


class Claim(Enum):
    """What a new instance does."""

    TAKE = "take"
    WAIT = "wait"
    ASK = "ask"


class LeaseWatch(NamedTuple):
    """What a waiting instance has seen last, for how long it was seen not to move, and when it looked.

    ``looked_s`` is on its own monotonic clock, and None before the first look.
    """

    seen: Seen = None
    still_s: float = 0.0
    looked_s: float | None = None


def observe(watch: LeaseWatch, seen: Seen, files: str, now_s: float, *, fresh: bool = True) -> tuple[LeaseWatch, Claim]:
    """Return what is known then and what to do; ``files`` tells whose files lie here, nothing where there are none.

    One that was let go, and that of an earlier life on these very files may be taken at once; one that is not there
    where the repository is ``fresh``: beside snapshots its holder may live, and writes it anew.
    """
    first = watch.looked_s is None
    still_s = 0.0
    if watch.looked_s is not None and seen == watch.seen:
        still_s = watch.still_s + min(now_s - watch.looked_s, MOST_LOOK_S)
    watch = LeaseWatch(seen, still_s, now_s)
    if isinstance(seen, Unreadable):
        return watch, Claim.ASK
    still = still_s >= SILENCE_S
    if seen is None:
        return watch, Claim.TAKE if still or (first and fresh) else Claim.WAIT
    mine = bool(files) and seen.files == files
    return watch, Claim.TAKE if seen.released or mine or still else Claim.WAIT


class Standing(Enum):
    """How a holder stands after it has looked."""

    MINE = "mine"
    GONE = "gone"
    LOST = "lost"


def stand(seen: Seen, instance: str) -> Standing:
    """Return whether a holder still holds, finds nothing of use (and writes it anew), or has been replaced."""
    if seen is None or seen is Unreadable.FORGED:
        return Standing.GONE
    if isinstance(seen, Unreadable) or seen.instance != instance:
        return Standing.LOST
    return Standing.MINE
