"""A model of containers that follow each other on one repository: no start that is not asked for loses what is known.

Each has a disk of its own, which may return later. Snapshots may be missing from the list for a while, come late from
a container that was replaced, or be unknown to the lease's object, as their container was killed just after them.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.backup import Course, Files, Head, Marker, SnapshotView, decide, judge, last_order, newest

REPOSITORY = "a repository"


class Disk(NamedTuple):
    """A disk: its marker, and the work on it."""

    marker: Marker | None = None
    work: frozenset[int] = frozenset()


class World:
    """The repository, the lease's object, and the disks; ``runs`` is the name of the disk at work, if any is."""

    def __init__(self) -> None:
        self.head = Head()
        self.snapshots: dict[str, tuple[SnapshotView, frozenset[int]]] = {}
        self.hidden: set[str] = set()
        self.late: set[str] = set()
        self.disks = dict.fromkeys("abc", Disk())
        self.runs = self.last = ""
        self._count = 0

    def start(self, name: str) -> None:
        """Start a container on a disk, after the one at work was killed."""
        self.runs, disk = "", self.disks[name]
        found = judge([view for key, (view, _) in self.snapshots.items() if key not in self.hidden], self.head)
        files = Files.SOME if disk.marker else Files.NONE
        course, _ = decide(disk.marker, files, found, REPOSITORY, self.head)
        if course in {Course.ASK, Course.MISSED}:
            return
        known = [work for view, work in self.snapshots.values() if view.order == self.head.last]
        if course is Course.GO_ON and disk.marker is not None:
            assert name == self.last
            generation, instance, last = disk.marker.generation, disk.marker.instance, self.head.last
        else:
            chosen = newest(found)
            assert chosen is None or chosen.id not in self.late
            work = self.snapshots[chosen.id][1] if chosen is not None else frozenset()
            generation, last = max([self.head.generation, *(each.generation for each in found)]) + 1, (0, 0)
            instance = self._new()
            disk = Disk(Marker(REPOSITORY, generation, instance), work)
        assert all(work <= disk.work for work in known)
        self.head = Head(generation, instance, max(last or (0, 0), last_order(found)))
        self.disks[name], self.runs, self.last = disk, name, name

    def work(self) -> None:
        """Add work to the disk of the container at work."""
        if self.runs:
            disk = self.disks[self.runs]
            self.disks[self.runs] = disk._replace(work=disk.work | {int(self._new())})

    def snapshot(self, name: str, *, known: bool) -> None:
        """Take a snapshot: of the container at work, or late, of one that was replaced."""
        marker, work = self.disks[name]
        if marker is None:
            return
        own = [view.sequence for view, _ in self.snapshots.values() if view.generation == marker.generation]
        view = SnapshotView(self._new(), "", marker.generation, max(own, default=0) + 1, instance=marker.instance)
        self.snapshots[view.id] = (view, work)
        if marker.instance != self.head.instance:
            self.late.add(view.id)
        elif known:
            self.head = self.head._replace(last=view.order)

    def hide(self) -> None:
        """Have the list lack the newest snapshot that is known."""
        there = [view for key, (view, _) in self.snapshots.items() if key not in self.hidden | self.late]
        self.hidden |= {max(there, key=lambda view: view.order).id} if there else set()

    def _new(self) -> str:
        self._count += 1
        return str(self._count)


STEPS = st.tuples(
    st.sampled_from(["start", "start", "work", "snapshot", "snapshot", "unknown", "hide", "bring back"]),
    st.sampled_from("abc"),
)


@settings(max_examples=400)
@given(st.lists(STEPS, max_size=40))
def test_no_life_begins_without_what_is_known(steps: list[tuple[str, str]]) -> None:
    """The files of a start that was not asked for contain all that was in the last known snapshot."""
    world = World()
    for step, name in steps:
        if step == "start":
            world.start(name)
        elif step == "work":
            world.work()
        elif step == "snapshot":
            world.snapshot(name, known=True)
        elif step == "unknown":
            # It is killed before it can say so.
            world.snapshot(name, known=False)
            world.runs = "" if name == world.runs else world.runs
        elif step == "hide":
            world.hide()
        else:
            world.hidden.clear()
