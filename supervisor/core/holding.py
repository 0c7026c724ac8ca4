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
    has released it, ``whole`` if its last snapshot was taken. ``owner`` identifies the files of the generation, which
    are others than ``files`` while a new holder has not decided yet; ``last`` is the order of the last snapshot that is
    known to be complete, None if unknown. Both are carried over at each take-over until the new holder has its own.
    """

    instance: str
    generation: int = 0
    counter: int = 0
    files: str = ""
    released: bool = False
    whole: bool = False
    owner: str = ""
    last: tuple[int, int] | None = None


class Flaw(Enum):
    """Why an object cannot be read: its version is unknown, or it was not written with this password."""

    UNKNOWN = "it is of a version that is not known here"
    FORGED = "it was not written with this password"


class Unreadable(NamedTuple):
    """An object that cannot be read, and why; ``instance`` and ``counter`` are what it says, true or not."""

    flaw: Flaw
    instance: str = ""
    counter: int = 0


Seen = LeaseRecord | Unreadable | None


class Claim(Enum):
    """The action of a new instance."""

    TAKE = "take"
    WAIT = "wait"
    ASK = "ask"


class LeaseWatch(NamedTuple):
    """What a waiting instance saw last, for how long it was seen unchanged, and when it looked.

    ``looked_s`` is in seconds of its own monotonic clock, and None before the first look. ``moves`` is whether it was
    seen to change, and has not been silent since.
    """

    seen: Seen = None
    still_s: float = 0.0
    looked_s: float | None = None
    moves: bool = False

    @property
    def is_silent(self) -> bool:
        """Return whether a holder would have renewed it meanwhile."""
        return self.still_s >= SILENCE_S


def observe(watch: LeaseWatch, seen: Seen, files: str, now_s: float, *, fresh: bool = True) -> tuple[LeaseWatch, Claim]:
    """Return the updated watch and what to do; ``files`` identifies the files here, and is empty if there are none.

    A released object, and one of an earlier run on the same files, may be taken at once; so may a missing one if the
    repository is ``fresh``: if there are snapshots, its holder may be alive, and will write it again.
    """
    first, still_s, moves = watch.looked_s is None, 0.0, watch.moves
    if watch.looked_s is not None:
        if seen == watch.seen:
            still_s = watch.still_s + min(now_s - watch.looked_s, MOST_LOOK_S)
        else:
            moves = True
    watch = LeaseWatch(seen, still_s, now_s, moves and still_s < SILENCE_S)
    if isinstance(seen, Unreadable):
        return watch, Claim.ASK
    still = watch.is_silent
    if seen is None:
        return watch, Claim.TAKE if still or (first and fresh) else Claim.WAIT
    mine = bool(files) and seen.files == files
    return watch, Claim.TAKE if seen.released or mine or still else Claim.WAIT


class Standing(Enum):
    """The result of a holder's look at its object."""

    MINE = "mine"
    GONE = "gone"
    RIVAL = "rival"
    LOST = "lost"


def stand(seen: Seen, instance: str, rival: Unreadable | None = None) -> Standing:
    """Return whether a holder still holds, finds no usable object (and rewrites it), or has been replaced.

    RIVAL is the first content that names another instance and was written with another password; pass it as ``rival``
    from then on. It is overwritten: a single write by somebody who lacks the password must not stop a holder. Another
    such content is a second holder's. Of two that both rewrite the object, one finds that before the other.
    """
    if seen is None:
        return Standing.GONE
    if isinstance(seen, LeaseRecord):
        return Standing.MINE if seen.instance == instance else Standing.LOST
    if seen.flaw is Flaw.UNKNOWN:
        return Standing.LOST
    if seen.instance in {"", instance}:
        return Standing.GONE
    return Standing.RIVAL if rival in {None, seen} else Standing.LOST
