"""The backups' view, the orders to them, and the decision at a start. Pure."""

from __future__ import annotations

import itertools
from enum import Enum
from typing import TYPE_CHECKING

from supervisor.core.order_states import DONE, FAILED, UNDER_WAY
from supervisor.core.process import State
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from supervisor.core.counts import Counts
    from supervisor.core.holding import LeaseRecord

COMPONENT = "backup"
# Maximum age of the last good snapshot, in intervals.
STALE_INTERVALS = 3
RESULTS = ("ok", "partial", "failed")
# Minimum length of an abbreviated id.
LEAST_ID = 8
# Instead of the last snapshot's order, as told by earlier supervisors: there was one, but it is not known which.
SOME_SNAPSHOT = (0, 1)


class BackupState(Enum):
    """The current activity of the backups; the values appear in the API and the panel."""

    OFF = "off"
    STARTING = "starting"
    STANDBY = "standby"
    RESTORING = "restoring"
    HELD = "held"
    CHOOSE = "held: choose"
    IDLE = "idle"
    SNAPSHOT = "snapshot"
    MAINTENANCE = "maintenance"
    WITHOUT = "without"
    REPLACED = "replaced"


# The state in which a process waits meanwhile, if it is held; what is not here passes within seconds.
_HOLDS = {
    BackupState.RESTORING: State.RESTORING,
    BackupState.STANDBY: State.STANDBY,
    BackupState.HELD: State.HELD,
    BackupState.CHOOSE: State.CHOOSE,
    BackupState.REPLACED: State.HELD,
}


def hold_of(state: BackupState) -> State:
    """Return the state in which the starts that are held wait."""
    return _HOLDS.get(state, State.WAITING)


class SnapshotView(NamedTuple):
    """One snapshot. Order is by generation and sequence; ``at`` is the wall-clock time, for display only.

    ``whole`` is False if part of the data could not be read, ``complete`` if a whole folder is missing. ``programs``
    identifies the version of the app and of tailscaled. ``size_bytes`` is the size of its content, ``added_bytes``
    what it added to the repository. ``staged`` is the path of the manifest within it. ``replaced`` is whether it was
    taken by an instance that another one had replaced: only the owner may choose it.
    """

    id: str
    at: str = ""
    generation: int = 0
    sequence: int = 0
    whole: bool = True
    complete: bool = True
    reason: str = ""
    programs: str = ""
    instance: str = ""
    size_bytes: int = 0
    added_bytes: int = 0
    files: int = 0
    duration_s: float = 0.0
    staged: str = ""
    replaced: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Return the sort key: the newer of two is greater."""
        return self.generation, self.sequence


class BackupOrderView(NamedTuple):
    """An ordered backup, or an ordered restore of ``snapshot``; ``by`` is where the order came from.

    ``why`` is the reason if it failed.
    """

    at_s: float
    snapshot: str = ""
    by: str = ""
    id: str = ""
    state: str = UNDER_WAY
    why: str = ""

    @property
    def kind(self) -> str:
        """The kind of the order."""
        return "restore" if self.snapshot else "backup"


class BackupView(NamedTuple):
    """The state of the backups. ``why`` is the current problem, ``what_to_do`` its remedy.

    ``warning`` is about the last snapshot. ``progress`` is from 0 to 1, or None if unknown. ``holds`` is true
    while the processes wait. ``last_good_s`` is when the last whole snapshot ended, ``next_s`` when the next is due.
    ``rehearsed`` is true if a take-over was rehearsed, ``ready_until_s`` is until when it counts as ready after one.
    ``orders`` are the latest orders. ``released`` is true if the previous holder released the repository in order,
    ``held_until_s`` is when it last renewed its hold, in seconds since the epoch.
    """

    state: BackupState = BackupState.OFF
    since_s: float = 0.0
    why: str = ""
    what_to_do: str = ""
    warning: str = ""
    holds: bool = False
    repository: str = ""
    generation: int = 0
    progress: float | None = None
    interval_s: float = 0.0
    last_good_s: float | None = None
    next_s: float | None = None
    snapshots: tuple[SnapshotView, ...] = ()
    taken: Counts = ()
    restores: Counts = ()
    rehearsed: bool = False
    ready_until_s: float | None = None
    orders: tuple[BackupOrderView, ...] = ()
    released: bool = False
    held_until_s: float | None = None

    def stands_in(self, now_s: float) -> bool:
        """Return whether this instance counts as ready before anything runs: a take-over was rehearsed.

        It then stays ready until some time after the take-over, or after something has come between; otherwise a
        platform would end both instances.
        """
        if not self.rehearsed or self.state is BackupState.REPLACED:
            return False
        return self.ready_until_s is None or now_s < self.ready_until_s

    @property
    def holding(self) -> str:
        """Return why processes are held, how far it is, and what to do, as text."""
        return "; ".join(filter(None, [self.progressing, self.what_to_do]))

    @property
    def progressing(self) -> str:
        """Return why processes are held, and how far it is, as text."""
        progress = "" if self.progress is None else f"{self.progress:.0%} of it is done"
        return "; ".join(filter(None, [self.why, progress])) or f"backups: {self.state.value}"

    @property
    def newest(self) -> SnapshotView | None:
        """Return the newest snapshot."""
        return newest(self.snapshots)


class BackUp(NamedTuple):
    """Take a snapshot now; ``by`` is where the order came from, ``order`` its own id."""

    by: str = ""
    order: str = ""


class Restore(NamedTuple):
    """Restore the app's folders from this snapshot; ``by`` is where the order came from, ``order`` its own id."""

    id: str
    by: str = ""
    order: str = ""


class StartWithout(NamedTuple):
    """Start the held processes without a restore; this run takes no snapshots."""


BackupOrder = BackUp | Restore | StartWithout


def answered(orders: Iterable[BackupOrderView], ids: Collection[str], why: str) -> tuple[BackupOrderView, ...]:
    """Return the orders with a result for those of these ids without one; ``why`` is the reason if they failed."""
    state = FAILED if why else DONE
    return tuple(
        each._replace(state=state, why=why) if each.state == UNDER_WAY and each.id in ids else each for each in orders
    )


class Marker(NamedTuple):
    """The marker of the files: their repository, their generation, and the instance that owns them."""

    repository: str
    generation: int
    instance: str


class Head(NamedTuple):
    """What the lease's object says of the snapshots: the newest generation, and the instance whose files it belongs to.

    ``last`` is the order of the last snapshot that is known to be in the repository; when a generation begins, that of
    the newest one before it, zeros if there is none. ``instance`` is empty, and ``last`` None, if they are unknown.
    """

    generation: int = 0
    instance: str = ""
    last: tuple[int, int] | None = None


def head_of(record: LeaseRecord) -> Head:
    """Return what a record says of the snapshots."""
    return Head(record.generation, record.owner, record.last)


class Files(Enum):
    """The content of the folders: none, some, or files whose markers differ, are incomplete or cannot be parsed."""

    NONE = "none"
    SOME = "some"
    MIXED = "mixed"
    DAMAGED = "damaged"


class Course(Enum):
    """What a start does before the app runs; with MISSED it waits for a snapshot that the repository lacks."""

    GO_ON = "go on"
    RESTORE = "restore"
    BEGIN = "begin"
    ADOPT = "adopt"
    ASK = "ask"
    MISSED = "missed"


def newest(snapshots: Iterable[SnapshotView]) -> SnapshotView | None:
    """Return the newest snapshot that counts and has all folders; if there is none, the newest one that counts.

    A file that cannot be read does not make it older: it may stay unreadable, and everything else is newer.
    """
    counting = (each for each in snapshots if not each.replaced)
    return max(counting, key=lambda each: (each.complete, *each.order), default=None)


def last_order(snapshots: Iterable[SnapshotView]) -> tuple[int, int]:
    """Return the order of the last snapshot that counts; zeros if there is none."""
    return max((each.order for each in snapshots if not each.replaced), default=(0, 0))


def judge(snapshots: Iterable[SnapshotView], head: Head) -> tuple[SnapshotView, ...]:
    """Return the snapshots, those that an instance took after it had been replaced marked as such."""
    return tuple(each._replace(replaced=True) if _is_late(each, head) else each for each in snapshots)


def _is_late(snapshot: SnapshotView, head: Head) -> bool:
    """Return whether it came from another instance in the newest generation, or since that one has begun.

    Two instances of one generation can only be where the server ignores conditions: the one that was in the lease last
    counts.
    """
    if not head.instance or snapshot.instance == head.instance:
        return False
    since = head.last is not None and head.last != SOME_SNAPSHOT and snapshot.order > head.last
    return snapshot.generation == head.generation or (snapshot.generation < head.generation and since)


def find(snapshots: Iterable[SnapshotView], text: str) -> SnapshotView | None:
    """Return the snapshot whose id begins with a text; None if there is none, or more than one."""
    found = [each for each in snapshots if each.id.startswith(text)]
    return found[0] if len(found) == 1 and len(text) >= LEAST_ID else None


def decide(  # noqa: PLR0911 - a table: one return a row
    marker: Marker | None, files: Files, snapshots: tuple[SnapshotView, ...], repository: str, head: Head
) -> tuple[Course, str]:
    """Return what a start does, and why if the owner has to choose: the contract's table, total.

    ``repository`` is the id of the one that the snapshots are in, ``head`` what its last holder left beside it.
    """
    if files is Files.MIXED:
        return Course.ASK, "only some of the folders hold what was backed up from here: is a volume missing?"
    if files is Files.DAMAGED:
        return Course.ASK, "the marker of the files here is damaged, so what they belong to is not known"
    if marker is not None and marker.repository != repository:
        return Course.ASK, "the files here belong to another repository"
    if marker is not None:
        why = _overtaken(marker, snapshots, head)
        return (Course.ASK if why else Course.GO_ON), why
    if why := missing(snapshots, head):
        return Course.MISSED, why
    if all(each.replaced for each in snapshots):
        if snapshots:
            return Course.ASK, "the only snapshots are those of an instance that was replaced"
        return (Course.BEGIN if files is Files.NONE else Course.ADOPT), ""
    if files is Files.NONE:
        return Course.RESTORE, ""
    return Course.ASK, "there are files here that belong to no known snapshot, and snapshots in the repository"


def _overtaken(marker: Marker, snapshots: Iterable[SnapshotView], head: Head) -> str:
    """Return in which way another instance has worked since these files were used; empty if none has."""
    last = max((each for each in snapshots if not each.replaced), key=lambda each: each.order, default=SnapshotView(""))
    is_last = (marker.generation, marker.instance) == (last.generation, last.instance)
    if not is_last and marker.generation <= last.generation:
        return "the repository holds newer snapshots than these files, from another instance"
    since = head.generation - marker.generation
    if marker.instance != head.instance and (since > 0 or (since == 0 and head.instance)):
        return (
            f"another instance has worked as generation {head.generation} since these files of generation "
            f"{marker.generation} were used, and has left no snapshot of that"
        )
    return ""


def missing(snapshots: Iterable[SnapshotView], head: Head) -> str:
    """Return which snapshot the repository lacks, although its last holder knew it to be there; empty if none."""
    if head.last is None or last_order(snapshots) >= head.last:
        return ""
    generation, sequence = head.last
    if head.last == SOME_SNAPSHOT:
        return "the repository has no snapshot, although its last holder left one in it"
    return f"the repository lacks its last snapshot, number {sequence} of generation {generation}"


def to_forget(snapshots: Iterable[SnapshotView], keep: Mapping[str, int]) -> tuple[str, ...]:
    """Return the ids of the snapshots to remove, counted as `restic forget --keep-*` does, but in their own order.

    The newest with all folders, the newest whole one, the newest of all, the newest that counts, and the last one
    before each change of programs are always kept.
    """
    ordered = sorted(snapshots, key=lambda each: each.order, reverse=True)
    whole = [each for each in ordered if each.whole]
    counting = [each for each in ordered if not each.replaced]
    kept = {found.id for found in (newest(ordered), *whole[:1], *ordered[:1], *counting[:1]) if found is not None}
    kept |= {older.id for newer, older in itertools.pairwise(ordered) if newer.programs != older.programs}
    for name, count in keep.items():
        last, left = "", count
        for each in ordered:
            bucket = each.id if name == "last" else _bucket(name, each.at)
            if left > 0 and bucket != last:
                kept.add(each.id)
                last, left = bucket, left - 1
    return tuple(each.id for each in ordered if each.id not in kept)


def _bucket(name: str, at: str) -> str:
    """Return the hour, day … of a time; times are RFC 3339, as restic writes them."""
    if name == "weekly":
        from datetime import date

        try:
            year, week, _ = date.fromisoformat(at[:10]).isocalendar()
        except ValueError:
            return at
        return f"{year}-{week}"
    return at[: {"hourly": 13, "daily": 10, "monthly": 7, "yearly": 4}[name]]
