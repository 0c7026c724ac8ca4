"""Who is at the other end of a unix socket: whoever descends from the supervisor may give it no orders."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from supervisor.system import processes

if TYPE_CHECKING:

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


def why_refused(connection: Socket) -> str:
    """Return why whoever connected may give no orders; empty where it may: our user or root, and not one of ours."""
    try:
        pid, uid = _credentials(connection)
        descends = pid != os.getpid() and _certainly_descends(pid, connection)
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


def user_of(connection: Socket) -> int:
    """Return the user at the other end; for one that connected, whoever listens there."""
    return _credentials(connection)[1]


def _credentials(connection: Socket) -> tuple[int, int]:
    pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return pid, uid


def _certainly_descends(pid: int, connection: Socket) -> bool:
    """Tell whether a connection's peer is below this process. Raises OSError where that cannot be told."""
    pidfd = _pidfd(connection)
    try:
        descends = _descends(pid)
        if descends is None or not _lives(pidfd):
            raise ProcessLookupError(pid)
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return descends


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


def _descends(pid: int) -> bool | None:
    """Tell whether a process is below this one; None where that cannot be told.

    Orphans are handed to us, so they are below us as well. What `docker exec` starts has no parent that can be seen,
    also where we are process 1.
    """
    for _ in range(_LOOKS):
        found = _walk_up(pid)
        if found is not None:
            return found
    return None


def _walk_up(pid: int) -> bool | None:
    """Do so once; None where a process was gone before its parent was known, or where there is no end to it."""
    # 0 stands for one that cannot be seen from here, at the beginning as at the end.
    own = os.getpid()
    at: int | None = pid or None
    for _ in range(_MOST_GENERATIONS):
        if at is None:
            return None
        if at == own:
            return True
        if at == 0:
            return False
        at = processes.parent(at)
    return None
