"""Peer credentials of unix sockets: a supervised process may neither give orders nor pose as the supervisor."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from supervisor.system import procfs

if TYPE_CHECKING:
    from collections.abc import Callable

    class Socket(Protocol):
        """What is asked of a socket here."""

        def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
            """Return an option's value."""


# unix(7), struct ucred: pid, uid, gid.
_CREDENTIALS = struct.Struct("=iII")
# Linux 6.5 and later; socket has no name for it yet.
_SO_PEERPIDFD = 77
_FD = struct.Struct("=i")
_MOST_GENERATIONS = 1000
_LOOKS = 3
# proc(5), cmdline: `python … -m supervisor run …`, or the script in its place. Nobody can change an ancestor's.
_SUPERVISOR = re.compile(
    rb"[^\0]*python[^\0/]*\0(?:-[XW]\0[^\0]*\0|-(?!m\0)[^\0]*\0)*(?:-m\0supervisor|(?:[^\0]*/)?moltis-supervisor)\0run\0"
)


def why_refused(connection: Socket) -> str:
    """Return why a client may not give orders; empty for our user or root, unless it runs under the supervisor."""
    try:
        pid, uid = _credentials(connection)
        descends = pid != os.getpid() and _certainly_below(pid, connection, _is_this)
    except OSError:
        return "it cannot be told which process asks: it is gone, or of another pid namespace"
    if uid not in {0, os.geteuid()}:
        return f"user {uid} may not give orders to the supervisor; use root or user {os.geteuid()}"
    if descends:
        return (
            f"process {pid} runs under the supervisor, and such a one may not give it orders; "
            "use the platform's console, or docker exec"
        )
    return ""


def why_not_trusted(connection: Socket) -> str:
    """Return why the listener at the other end is not trusted; empty where it is.

    It has to be root's or our own user's, or process 1, which all of a container trusts, and not to run under a
    supervisor: where all is one user, an app can put a socket of its own in the place of another.
    """
    try:
        pid, uid = _credentials(connection)
        supervised = pid != os.getpid() and _certainly_below(pid, connection, lambda at: at != pid and _supervises(at))
    except OSError:
        return "it cannot be told which process listens: it is gone, or of another pid namespace"
    if supervised:
        return f"process {pid}, which listens there, is no supervisor but runs under one"
    own = os.geteuid()
    if uid not in {0, own} and pid != 1:
        return f"it is user {uid}'s, neither root's nor yours" if own else f"it is user {uid}'s, not root's"
    return ""


def _credentials(connection: Socket) -> tuple[int, int]:
    pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return pid, uid


def _certainly_below(pid: int, connection: Socket, is_it: Callable[[int], bool]) -> bool:
    """Tell whether a connection's peer is, or is below, such a process. Raises OSError where that cannot be told."""
    pidfd = _pidfd(connection)
    try:
        below = _below(pid, is_it)
        if below is None or not _lives(pidfd):
            raise ProcessLookupError(pid)
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return below


def _pidfd(connection: Socket) -> int | None:
    """Return a descriptor of the process that connected; None where the kernel gives none."""
    try:
        return int(_FD.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _FD.size))[0])
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return None
        raise


def _lives(pidfd: int | None) -> bool:
    """Tell whether the pid still is the peer's, and not one that the kernel gave to another process meanwhile."""
    if pidfd is None:
        return True
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # It may not be signalled, or this kernel cannot: there is someone.
        return True
    return True


def _is_this(pid: int) -> bool:
    return pid == os.getpid()


def _supervises(pid: int) -> bool:
    return _SUPERVISOR.match(procfs.command_line(pid)) is not None


def _below(pid: int, is_it: Callable[[int], bool]) -> bool | None:
    """Tell whether a process is such a one, or below one; None where that cannot be told.

    Orphans are handed to the supervisor, so they are below it as well. What `docker exec` starts has no parent that
    can be seen, also where the supervisor is process 1.
    """
    for _ in range(_LOOKS):
        found = _walk_up(pid, is_it)
        if found is not None:
            return found
    return None


def _walk_up(pid: int, is_it: Callable[[int], bool]) -> bool | None:
    """Do so once; None where a process was gone before its parent was known, or where there is no end to it."""
    # 0 stands for one that cannot be seen from here, at the beginning as at the end.
    at: int | None = pid or None
    for _ in range(_MOST_GENERATIONS):
        if at is None:
            return None
        if at == 0:
            return False
        if is_it(at):
            return True
        at = procfs.parent(at)
    return None
