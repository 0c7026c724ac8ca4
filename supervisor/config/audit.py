"""Looks whether somebody could change a file, or a folder on the way to it."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

_WRITE = 2
_READ = 4
_PASS = 1
# path_resolution(7): more of them end with ELOOP.
MOST_LINKS = 40


class Person(NamedTuple):
    """A user that processes run as; ``title`` is what a problem calls that user."""

    title: str
    uid: int
    groups: frozenset[int]


class Auditor:
    """Looks at each path once, whatever and whoever is asked about."""

    def __init__(self) -> None:
        self._statuses: dict[str, os.stat_result | None] = {}
        self._ways: dict[str, tuple[str, ...]] = {}
        self._answers: dict[tuple[str, int], bool] = {}

    def changer(self, path: str, persons: tuple[Person, ...], *, wanted: bool = False) -> tuple[str, Person] | None:
        """Return the first of a path, its parents, and what links on the way lead to that somebody could change.

        ``wanted`` says that making it counts as well where it is missing: it is looked for there.
        """
        for step in self._way(os.path.abspath(path)):
            for person in persons:
                if self._may_change(step, person) or (wanted and self._may_make(step, person)):
                    return step, person
        return None

    def readable(self, path: str, person: Person) -> bool:
        """Tell whether somebody could read a file."""
        try:
            *folders, file = self._way(os.path.abspath(path))
            return _may(os.stat(file), person, _READ) and all(_may(os.stat(way), person, _PASS) for way in folders)
        except (OSError, ValueError):
            return False

    def _way(self, path: str, links: int = 0) -> tuple[str, ...]:
        """Return what is passed on the way to a file, links and what they lead to included.

        The last is the file itself, or the first on the way that is missing.
        """
        way: tuple[str, ...] = ("/",)
        here = ""
        for name in path.split("/"):
            if name in {"", "."}:
                continue
            here = f"{here}/{name}"
            known = self._ways.get(here)
            way = self._ways[here] = known if known is not None else self._after(way, name, links)
            if self._status(way[-1]) is None:
                break
        return way

    def _after(self, way: tuple[str, ...], name: str, links: int) -> tuple[str, ...]:
        if name == "..":
            return (*way, *self._way(os.path.dirname(way[-1])))
        here = os.path.join(way[-1], name)
        status = self._status(here)
        if status is None or not stat.S_ISLNK(status.st_mode) or links == MOST_LINKS:
            return (*way, here)
        try:
            target = os.path.join(way[-1], os.readlink(here))
        except OSError:
            return (*way, here)
        return (*way, here, *self._way(target, links + 1))

    def _status(self, path: str) -> os.stat_result | None:
        if path not in self._statuses:
            try:
                self._statuses[path] = os.lstat(path)
            except (OSError, ValueError):
                self._statuses[path] = None
        return self._statuses[path]

    def _may_change(self, path: str, person: Person) -> bool:
        key = (path, person.uid)
        known = self._answers.get(key)
        if known is None:
            status = self._status(path)
            known = self._answers[key] = status is not None and _gives(status, person) and not _read_only(path)
        return known

    def _may_make(self, path: str, person: Person) -> bool:
        folder = os.path.dirname(path)
        status = self._status(folder) if self._status(path) is None else None
        return status is not None and _may(status, person, _WRITE) and not _read_only(folder)


def _gives(status: os.stat_result, person: Person) -> bool:
    """Tell whether somebody may change what this is the status of."""
    if stat.S_ISLNK(status.st_mode):
        # Who may replace a link is a matter of its folder.
        return False
    if status.st_uid == person.uid:
        return True
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        # Like /tmp: others' files in it are safe.
        return False
    return _may(status, person, _WRITE)


def _may(status: os.stat_result, person: Person, right: int) -> bool:
    if status.st_uid == person.uid:
        return bool(status.st_mode >> 6 & right)
    if status.st_gid in person.groups:
        return bool(status.st_mode >> 3 & right)
    return bool(status.st_mode & right)


def _read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
