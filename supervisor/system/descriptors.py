"""The limit of open files: raised as far as permitted for this process, unchanged for its children.

A reserve lets it start a process and accept a client when all other descriptors are in use.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# A start needs ten at a time: six for its pipes, two for Popen, /dev/null, and the program file being checked.
FOR_A_START = 12
RESERVED = 24


class Descriptors:
    """The reserve, and the limits of this process; nothing is reserved or raised before ``claim``."""

    def __init__(self) -> None:
        # Copies of one descriptor: it is closed and refilled for a start and for a burst of clients; files are slow.
        self._original = -1
        self._reserve: list[int] = []
        self._size = 0
        self._soft = self._hard = 0

    def claim(self) -> None:
        """Raise this process's own limit as far as permitted, and open the reserve."""
        # Imported here, because no start needs it.
        import resource

        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            self._limit(self._hard)
        except (OSError, ValueError):
            # A sandbox may report a limit that it does not grant.
            self._hard = self._soft
        self._size = RESERVED
        self.refill()

    def start(self, begin: Callable[[], T]) -> T:
        """Start a child with ``begin``, under the limit that this process began with.

        If all other descriptors are in use, the reserve is released and ``begin`` is called again.
        """
        # The limit applies to descriptor numbers: the child is started even if those of the reserve are above it.
        lowers = self._soft != self._hard and sum(fd < self._soft for fd in self._reserve) >= FOR_A_START
        if lowers:
            self._limit(self._soft)
        try:
            # Releasing it for each start would take 24 system calls, and twice as many with a lowered limit.
            return self._with_reserve(begin, RESERVED if lowers else FOR_A_START)
        finally:
            if lowers:
                self._limit(self._hard)
            self.refill()

    def look(self, look: Callable[[], T]) -> T:
        """Return the result of ``look``, which opens a few files and closes them.

        If all other descriptors are in use, the reserve is released and ``look`` is called again.
        """
        try:
            return self._with_reserve(look, RESERVED)
        finally:
            self.refill()

    def found(self, look: Callable[[], T], nothing: T) -> T:
        """Return the result of ``look``, which opens a file of /proc and closes it; ``nothing`` if it cannot be opened.

        For want of descriptors a search would find nothing, and what it is for would be left: the reserve is used. Only
        the event loop's thread may do so.
        """
        try:
            return look()
        except OSError as error:
            if not _is_out_of_files(error) or threading.current_thread() is not threading.main_thread():
                return nothing
        try:
            return self.look(look)
        except OSError:
            return nothing

    def _with_reserve(self, call: Callable[[], T], most: int) -> T:
        try:
            return call()
        except Exception as error:
            if not _is_out_of_files(error):
                raise
        self.give(most)
        return call()

    def give(self, most: int) -> int:
        """Close up to ``most`` descriptors of the reserve; return how many."""
        given, self._reserve = self._reserve[:most], self._reserve[most:]
        for fd in given:
            os.close(fd)
        return len(given)

    def give_spare(self, most: int) -> int:
        """Close up to ``most``, but keep those that a start needs; return how many."""
        return self.give(max(0, min(most, len(self._reserve) - FOR_A_START)))

    def refill(self) -> None:
        """Refill the reserve as far as possible."""
        try:
            if self._size and self._original < 0:
                self._original = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            while len(self._reserve) < self._size:
                self._reserve.append(os.dup(self._original))
        except OSError:
            return

    def _limit(self, soft: int) -> None:
        if self._soft != self._hard:
            import resource

            # An operator may have lowered the hard limit meanwhile (prlimit(1)): raising it would fail, or undo that.
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
            )


def _is_out_of_files(error: BaseException) -> bool:
    reason = error.__cause__ or error
    return isinstance(reason, OSError) and reason.errno == errno.EMFILE


DESCRIPTORS = Descriptors()


def limit() -> int:
    """Return the number of files that this process may open."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def left() -> int:
    """Return how many more it may open, as far as the kernel reports."""
    try:
        return limit() - len(os.listdir("/proc/self/fd"))
    except OSError:
        return limit()
