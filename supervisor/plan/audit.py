"""Looks whether the app's user could change what root reads: a file, or a folder on the way to it."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.core.model import User

_WRITE = 2
_READ = 4
_PASS = 1
MOST_LINKS = 40


class Auditor:
    """Answers for one user; every path is asked for once."""

    def __init__(self, user: User, groups: frozenset[int]) -> None:
        self._user = user
        self._groups = groups
        self._checked: dict[str, bool] = {}

    def writable(self, path: str) -> str | None:
        """Return the first of a path, its parents, and what links on the way lead to that the user could change."""
        return next((step for step in _steps(path) if self._may_change(step)), None)

    def readable(self, path: str) -> bool:
        """Tell whether the user could read a file."""
        try:
            *folders, file = list(_steps(path))
            return self._may(os.stat(file), _READ) and all(self._may(os.stat(folder), _PASS) for folder in folders)
        except (OSError, ValueError):
            return False

    def _may_change(self, path: str) -> bool:
        known = self._checked.get(path)
        if known is None:
            known = self._checked[path] = self._look(path)
        return known

    def _look(self, path: str) -> bool:
        try:
            status = os.lstat(path)
        except OSError:
            return False
        if stat.S_ISLNK(status.st_mode):
            # Who may replace a link is a matter of its folder.
            return False
        if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and status.st_uid != self._user.uid:
            # Like /tmp: others' files in it are safe from the user.
            return False
        owns = status.st_uid == self._user.uid
        return (owns or self._may(status, _WRITE)) and not _read_only(path)

    def _may(self, status: os.stat_result, right: int) -> bool:
        if self._user.uid == 0:
            return True
        if status.st_uid == self._user.uid:
            return bool(status.st_mode >> 6 & right)
        if status.st_gid in self._groups:
            return bool(status.st_mode >> 3 & right)
        return bool(status.st_mode & right)


def own_code() -> Iterable[str]:
    """Return what this process runs: its interpreter, where it looks for modules, and the modules it has."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return dict.fromkeys([sys.executable, *(path for path in sys.path if path), *(file for file in files if file)])


def _steps(path: str) -> Iterator[str]:
    """Yield what is passed on the way to a file, from the root on, links and what they lead to included."""
    yield "/"
    here = "/"
    rest = [part for part in os.path.abspath(path).split("/") if part]
    links = 0
    while rest:
        here = os.path.join(here, rest.pop(0))
        yield here
        try:
            target = os.readlink(here)
        except OSError:
            continue
        links += 1
        if links > MOST_LINKS:
            return
        there = os.path.normpath(os.path.join(os.path.dirname(here), target))
        rest = [part for part in there.split("/") if part] + rest
        here = "/"


def _read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
