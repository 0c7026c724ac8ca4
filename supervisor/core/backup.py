"""What is known of the backups, what may be ordered of them, and what follows at a start. Pure."""

from __future__ import annotations

import itertools
from enum import Enum
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.core.counts import Counts

COMPONENT = "backup"
# How many intervals the last good snapshot may be old.
STALE_INTERVALS = 3
RESULTS = ("ok", "partial", "failed")
# The least of an id that a person has to write.
LEAST_ID = 8


class BackupState(Enum):
    """What is done about backups just now; the values are what people and the API read."""

    OFF = "off"
    STARTING = "starting"
    STANDBY = "standby"
    RESTORING = "restoring"
    HELD = "held"
    IDLE = "idle"
    SNAPSHOT = "snapshot"
    MAINTENANCE = "maintenance"
    WITHOUT = "without"
    REPLACED = "replaced"


class SnapshotView(NamedTuple):
    """One snapshot. Order is by generation and sequence; ``at`` is the clock's word, for people alone.

    ``whole`` is False where something of it could not be read. ``programs`` tells one version of the app and of
    tailscaled from another. ``size_bytes`` is what it holds, ``added_bytes`` what it added to the repository.
    ``staged`` is where in it the manifest lies.
    """

    id: str
    at: str = ""
    generation: int = 0
    sequence: int = 0
    whole: bool = True
    reason: str = ""
    programs: str = ""
    instance: str = ""
    size_bytes: int = 0
    added_bytes: int = 0
    files: int = 0
    duration_s: float = 0.0
    staged: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """Return what tells the newer of two."""
        return self.generation, self.sequence


class BackupOrderView(NamedTuple):
    """A backup, or a restore of ``snapshot``, that somebody ordered; ``by`` says from where."""

    at_s: float
    snapshot: str = ""
    by: str = ""


class BackupView(NamedTuple):
    """All that is known. ``why`` is what is not as it should be, ``what_to_do`` what helps.

    ``warning`` is about the last snapshot. ``progress`` goes from 0 to 1, None where it is not known. ``holds`` says
    that the processes wait. ``last_good_s`` is when the last whole snapshot ended, ``next_s`` when one is due.
    ``rehearsed`` says that all is there for a take-over, ``ready_until_s`` until when it counts as ready after one.
    ``orders`` are the last that were given. ``released`` says that the holder before this one let go in order,
    ``held_until_s`` when it last wrote that it holds, in seconds since the epoch.
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
        """Tell whether this instance counts as ready though nothing runs yet: a take-over was rehearsed.

        Once said this stays, or a platform would end both instances: until some time after the take-over.
        """
        return self.rehearsed and (self.ready_until_s is None or now_s < self.ready_until_s)

    @property
    def newest(self) -> SnapshotView | None:
        """Return the newest snapshot."""
        return newest(self.snapshots)


class BackUp(NamedTuple):
    """Take a snapshot now; ``by`` says from where that was ordered."""

    by: str = ""


class Restore(NamedTuple):
    """Bring the app's folders back to this snapshot; ``by`` says from where that was ordered."""

    id: str
    by: str = ""


class StartWithout(NamedTuple):
    """Start what is held though nothing was brought back; this life takes no snapshots."""


BackupOrder = BackUp | Restore | StartWithout


class Marker(NamedTuple):
    """What the files say of themselves: the repository, the generation that they belong to, and whose they are."""

    repository: str
    generation: int
    instance: str


class Files(Enum):
    """What lies in the folders: nothing, files without a marker, or files whose markers differ or lack in part."""

    NONE = "none"
    SOME = "some"
    MIXED = "mixed"


class Course(Enum):
    """What a start does before anything of the app runs."""

    GO_ON = "go on"
    RESTORE = "restore"
    BEGIN = "begin"
    ADOPT = "adopt"
    ASK = "ask"


def newest(snapshots: Iterable[SnapshotView]) -> SnapshotView | None:
    """Return the newest snapshot that is whole; where none is, the newest of the others."""
    return max(snapshots, key=lambda each: (each.whole, *each.order), default=None)


def find(snapshots: Iterable[SnapshotView], text: str) -> SnapshotView | None:
    """Return the one snapshot whose id begins with a text; None where there is none, or more than one."""
    found = [each for each in snapshots if each.id.startswith(text)]
    return found[0] if len(found) == 1 and len(text) >= LEAST_ID else None


def decide(  # noqa: PLR0911 - a table: one return a row
    marker: Marker | None, files: Files, snapshots: tuple[SnapshotView, ...], repository: str
) -> tuple[Course, str]:
    """Return what a start does, and where a person has to choose, why: the contract's table, total.

    ``repository`` is the id of the one that the snapshots are in.
    """
    last = max(snapshots, key=lambda each: each.order, default=None)
    if files is Files.MIXED:
        return Course.ASK, "only some of the folders hold what was backed up from here: is a volume missing?"
    if marker is not None and marker.repository != repository:
        return Course.ASK, "the files here belong to another repository"
    if marker is not None:
        if last is None or marker.generation > last.generation:
            return Course.GO_ON, ""
        if marker.generation == last.generation and marker.instance == last.instance:
            return Course.GO_ON, ""
        return Course.ASK, "the repository holds newer snapshots than these files, from another instance"
    if files is Files.NONE:
        return (Course.RESTORE if last is not None else Course.BEGIN), ""
    if last is None:
        return Course.ADOPT, ""
    return Course.ASK, "there are files here that no snapshot is known of, and snapshots in the repository"


def to_forget(snapshots: Iterable[SnapshotView], keep: Mapping[str, int]) -> tuple[str, ...]:
    """Return the ids of those that need not be kept, as `restic forget --keep-*` counts, but by their order.

    The newest whole one, the newest of all, and the last one before each change of programs always stay.
    """
    ordered = sorted(snapshots, key=lambda each: each.order, reverse=True)
    kept = {found.id for found in (newest(ordered), *ordered[:1]) if found is not None}
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
    """Return the hour, day … that a time lies in; times are as restic writes them, RFC 3339."""
    if name == "weekly":
        from datetime import date

        try:
            year, week, _ = date.fromisoformat(at[:10]).isocalendar()
        except ValueError:
            return at
        return f"{year}-{week}"
    return at[: {"hourly": 13, "daily": 10, "monthly": 7, "yearly": 4}[name]]
