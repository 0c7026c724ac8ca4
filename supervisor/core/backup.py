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

COMPONENT = "backup"
# Maximum age of the last good snapshot, in intervals.
STALE_INTERVALS = 3
RESULTS = ("ok", "partial", "failed")
# Minimum length of an abbreviated id.
LEAST_ID = 8


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

        It then stays ready until some time after the take-over; otherwise a platform would end both instances.
        """
        return self.rehearsed and (self.ready_until_s is None or now_s < self.ready_until_s)

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


class Files(Enum):
    """The content of the folders: none, some, or files whose markers differ, are incomplete or cannot be parsed."""

    NONE = "none"
    SOME = "some"
    MIXED = "mixed"
    DAMAGED = "damaged"


class Course(Enum):
    """What a start does before the app runs."""

    GO_ON = "go on"
    RESTORE = "restore"
    BEGIN = "begin"
    ADOPT = "adopt"
    ASK = "ask"


def newest(snapshots: Iterable[SnapshotView]) -> SnapshotView | None:
    """Return the newest snapshot that counts and has all folders; if there is none, the newest one that counts.

    A file that cannot be read does not make it older: it may stay unreadable, and everything else is newer.
    """
    counting = (each for each in snapshots if not each.replaced)
    return max(counting, key=lambda each: (each.complete, *each.order), default=None)


def judge(snapshots: Iterable[SnapshotView], generation: int, instance: str) -> tuple[SnapshotView, ...]:
    """Return the snapshots, those that another instance than the holder's took in its generation marked as replaced.

    ``instance`` identifies the files of the holder of this generation, and is empty if it is unknown. Two instances of
    one generation can only be where the server ignores conditions: the one that was in the lease last counts.
    """
    return tuple(
        each._replace(replaced=True)
        if instance and each.generation == generation and each.instance != instance
        else each
        for each in snapshots
    )


def find(snapshots: Iterable[SnapshotView], text: str) -> SnapshotView | None:
    """Return the snapshot whose id begins with a text; None if there is none, or more than one."""
    found = [each for each in snapshots if each.id.startswith(text)]
    return found[0] if len(found) == 1 and len(text) >= LEAST_ID else None


def decide(  # noqa: PLR0911 - a table: one return a row
    marker: Marker | None, files: Files, snapshots: tuple[SnapshotView, ...], repository: str
) -> tuple[Course, str]:
    """Return what a start does, and why if the owner has to choose: the contract's table, total.

    ``repository`` is the id of the one that the snapshots are in.
    """
    last = max((each for each in snapshots if not each.replaced), key=lambda each: each.order, default=None)
    if files is Files.MIXED:
        return Course.ASK, "only some of the folders hold what was backed up from here: is a volume missing?"
    if files is Files.DAMAGED:
        return Course.ASK, "the marker of the files here is damaged, so what they belong to is not known"
    if marker is not None and marker.repository != repository:
        return Course.ASK, "the files here belong to another repository"
    if marker is not None:
        if last is None or marker.generation > last.generation:
            return Course.GO_ON, ""
        if marker.generation == last.generation and marker.instance == last.instance:
            return Course.GO_ON, ""
        return Course.ASK, "the repository holds newer snapshots than these files, from another instance"
    if snapshots and last is None:
        return Course.ASK, "the only snapshots are those of an instance that was replaced"
    if files is Files.NONE:
        return (Course.RESTORE if last is not None else Course.BEGIN), ""
    if last is None:
        return Course.ADOPT, ""
    return Course.ASK, "there are files here that belong to no known snapshot, and snapshots in the repository"


def to_forget(snapshots: Iterable[SnapshotView], keep: Mapping[str, int]) -> tuple[str, ...]:
    """Return the ids of the snapshots to remove, counted as `restic forget --keep-*` does, but in their own order.

    The newest with all folders, the newest whole one, the newest of all, and the last one before each change of
    programs are always kept.
    """
    ordered = sorted(snapshots, key=lambda each: each.order, reverse=True)
    whole = [each for each in ordered if each.whole]
    kept = {found.id for found in (newest(ordered), *whole[:1], *ordered[:1]) if found is not None}
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
