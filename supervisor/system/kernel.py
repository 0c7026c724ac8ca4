"""Features of the running kernel, detected instead of assumed: gVisor and small containers lack parts of Linux."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PR_SET_PDEATHSIG = 1
_PR_GET_PDEATHSIG = 2
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_NO_NEW_PRIVS = 39
# mallopt(3); the second has its default value, but does not grow with freed memory.
_M_TRIM_THRESHOLD = -1
_M_ARENA_MAX = -8
_TRIM_ABOVE_BYTES = 128 * 1024
# A program's name cannot contain the slash, and no other process can change it (proc(5), comm): at most 15 bytes.
SUPERVISOR_NAME = b"supervisor/run"
# How gVisor identifies itself in /proc/version, whatever Linux it claims to be: a date on which it never changes, and
# a word in newer ones. A real Linux 4.4.0 has another date.
_GVISOR = (b" #1 SMP Sun Jan 10 15:06:54 PST 2016", b"-gvisor")
SETPRIV_PATHS = ("/usr/bin/setpriv", "/bin/setpriv")


def _prctl(option: int, value: int | bytes = 0) -> int:
    libc = ctypes.CDLL(None)
    first = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    return int(libc.prctl(option, first, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def adopt_orphans() -> bool:
    """Make this process the child subreaper; return whether it is.

    Process 1 of a container has that role already.
    """
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1) == 0 or os.getpid() == 1


def set_undumpable() -> bool:
    """Protect memory and environment from processes of the same user; return whether that worked."""
    return _prctl(_PR_SET_DUMPABLE, 0) == 0


def take_name() -> bool:
    """Name the calling thread, which has to be the first of its process; return whether that worked."""
    return _prctl(_PR_SET_NAME, SUPERVISOR_NAME) == 0


def shows_processes() -> bool:
    """Return whether /proc is mounted and belongs to this pid namespace."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def is_gvisor() -> bool:
    """Return whether this is gVisor, which shows no limits of the container."""
    version = read("/proc/version")
    return any(sign in version for sign in _GVISOR)


@contextmanager
def reading_as(uid: int, gid: int) -> Iterator[None]:
    """Read files as a user, in this thread and for the duration of a block, which must not await.

    The kernel shows descriptors and environment of another user's process to nobody without CAP_SYS_PTRACE, root in a
    container included, but to its own user (ptrace(2), access mode FSCREDS; setfsuid(2)).
    """
    libc = ctypes.CDLL(None)
    libc.setfsgid(ctypes.c_uint(gid))
    libc.setfsuid(ctypes.c_uint(uid))
    try:
        yield
    finally:
        libc.setfsuid(ctypes.c_uint(os.geteuid()))
        libc.setfsgid(ctypes.c_uint(os.getegid()))


def keep_heaps_few() -> None:
    """Let all threads share one malloc arena, and trim its free end; no effect on musl.

    Python's lock lets one thread allocate at a time, so an arena per thread only wastes memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_ABOVE_BYTES)


def give_back_memory() -> None:
    """Return freed memory from the C library to the kernel; no effect if that is not supported (musl)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def launcher() -> tuple[str, ...]:
    """Return the command prefix by which a child dies with its parent and gains no privileges.

    It is util-linux's setpriv, if it and the kernel support both: no Python code then runs between fork and exec, and
    the parent-death signal is set after the change of user, which would clear it (prctl(2)). Empty otherwise: busybox's
    setpriv does not support the parent-death signal.
    """
    setpriv = next((path for path in SETPRIV_PATHS if os.access(path, os.X_OK)), None)
    if setpriv is None or os.path.basename(os.path.realpath(setpriv)) != "setpriv":
        return ()
    signal_now = ctypes.c_int(0)
    libc = ctypes.CDLL(None)
    if libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(signal_now), 0, 0, 0) != 0:
        return ()
    if _prctl(_PR_SET_PDEATHSIG, signal_now.value) != 0 or _prctl(_PR_GET_NO_NEW_PRIVS) < 0:
        return ()
    return (setpriv, "--pdeathsig", "KILL", "--no-new-privs")


_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class OomCounter:
    """Attributes the kernel's out-of-memory kills to processes that have exited; each explains one exit."""

    def __init__(self) -> None:
        self._explained = _kills()

    def rose(self) -> bool | None:
        """Return whether there is a kill that explains no exit yet; it then explains one.

        None if the kernel does not count them (gVisor, no control group).
        """
        kills = _kills()
        if kills is None or self._explained is None:
            return None
        if kills <= self._explained:
            return False
        self._explained += 1
        return True

    def left(self) -> int:
        """Return how many kills explain no exit: they hit processes that are not managed."""
        return max(0, (_kills() or 0) - (self._explained or 0))

    def explain(self, count: int) -> None:
        """Count this many kills as explained."""
        if self._explained is not None:
            self._explained += count


def counts_kills() -> bool:
    """Return whether the kernel reports out-of-memory kills."""
    return _kills() is not None


def _kills() -> int | None:
    for path in _COUNTERS:
        for line in read(path).splitlines():
            key, _, value = line.partition(b" ")
            if key == b"oom_kill" and value.isdigit():
                return int(value)
    return None


# capabilities(7).
_CAP_SETPCAP = 8
# Read folders that are closed to others.
CAP_READ = ("dac_override",)
# The same, and change the owners of files.
CAP_RESTORE = ("dac_override", "chown", "fowner")


def only_capabilities(wanted: tuple[str, ...], launcher: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command prefix that limits a child to these capabilities.

    Empty unless this process is root, may drop capabilities, and util-linux's setpriv is available.
    """
    if os.geteuid() != 0 or not launcher or not (effective_capabilities() or 0) >> _CAP_SETPCAP & 1:
        return ()
    kept = "".join(f",+{name}" for name in wanted)
    return (launcher[0], "--inh-caps=-all", f"--bounding-set=-all{kept}", "--")


def missing_ids(uid: int, gids: Iterable[int]) -> tuple[str, ...]:
    """Return what a user namespace lacks for a process of these ids: `uid N`, `gid N`, or `setgroups`."""
    found = [f"uid {uid}"] if not _is_mapped("/proc/self/uid_map", uid) else []
    found += [f"gid {gid}" for gid in gids if not _is_mapped("/proc/self/gid_map", gid)]
    if read("/proc/self/setgroups").strip() == b"deny":
        found.append("setgroups")
    return tuple(found)


def _is_mapped(path: str, number: int) -> bool:
    """Return whether an id exists in this user namespace (user_namespaces(7)); true if that is unknown."""
    try:
        ranges = [tuple(int(word) for word in line.split()) for line in read(path).splitlines()]
        return not ranges or any(first <= number < first + count for first, _, count in ranges)
    except ValueError:
        return True


def read(path: str) -> bytes:
    """Return the content of a file in /proc; empty if it is gone or not readable."""
    try:
        return content(path)
    except OSError:
        return b""


def content(path: str) -> bytes:
    """Return the content of a file in /proc. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def effective_capabilities() -> int | None:
    """Return the mask of this process's effective capabilities; None if unknown."""
    try:
        return int(read("/proc/self/status").partition(b"\nCapEff:")[2].split(maxsplit=1)[0], 16)
    except (ValueError, IndexError):
        return None
