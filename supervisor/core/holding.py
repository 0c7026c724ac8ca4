"""Which instance holds a repository: the content of its lease object, and the decision that follows. Pure.

One instance at a time works on the files in a repository. It rewrites a small object every few seconds; a new one
waits until its counter stops changing, measured by its own clock only, or until the holder has released it.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

RENEW_S = 15.0
# How long the object may stay unchanged before it counts as abandoned: four missed renewals.
SILENCE_S = 60.0
# Upper limit to the time counted between two looks: time in which the bucket was unreachable, or in which this
# program did not run, does not count as silence of the holder.
MOST_LOOK_S = 10.0
VERSION = 1


class LeaseRecord(NamedTuple):
    """The object's content: the instance that holds it, its ``generation``, and a counter that each renewal increments.

    ``files`` identifies the files that the holder works on, also after a restart. ``released`` is true once the holder
    has released it, ``whole`` if its last snapshot was taken.
    """

    instance: str
    generation: int = 0
    counter: int = 0
    files: str = ""
    released: bool = False
    whole: bool = False


class Unreadable(Enum):
    """Why an object cannot be read: its version is unknown, or it was not written with this password."""

    UNKNOWN = "it is of a version that is not known here"
    FORGED = "it was not written with this password"


Seen = LeaseRecord | Unreadable | None


class Claim(Enum):
    """The action of a new instance."""

    TAKE = "take"
    WAIT = "wait"
    ASK = "ask"


class LeaseWatch(NamedTuple):
    """What a waiting instance saw last, for how long it was seen unchanged, and when it looked.

    ``looked_s`` is in seconds of its own monotonic clock, and None before the first look.
    """

    seen: Seen = None
    still_s: float = 0.0
    looked_s: float | None = None


def observe(watch: LeaseWatch, seen: Seen, files: str, now_s: float, *, fresh: bool = True) -> tuple[LeaseWatch, Claim]:
    """Return the updated watch and what to do; ``files`` identifies the files here, and is empty if there are none.

    A released object, and one of an earlier run on the same files, may be taken at once; so may a missing one if the
    repository is ``fresh``: if there are snapshots, its holder may be alive, and will write it again.
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
    """The result of a holder's look at its object."""

    MINE = "mine"
    GONE = "gone"
    LOST = "lost"


def stand(seen: Seen, instance: str) -> Standing:
    """Return whether a holder still holds, finds no usable object (and rewrites it), or has been replaced."""
    if seen is None or seen is Unreadable.FORGED:
        return Standing.GONE
    if isinstance(seen, Unreadable) or seen.instance != instance:
        return Standing.LOST
    return Standing.MINE
