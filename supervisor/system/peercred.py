"""Peer credentials of unix sockets: a supervised process may neither control nor impersonate the supervisor."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from supervisor.errors import remedy_for_resources
from supervisor.system import kernel, procfs
from supervisor.system.descriptors import DESCRIPTORS

if TYPE_CHECKING:
    from collections.abc import Callable

    # The pid and the short name of a process.
    IsIt = Callable[[int, bytes], bool]

    class Socket(Protocol):
        """The socket method that is used here."""

        def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
            """Return the value of an option."""


# unix(7), struct ucred: pid, uid, gid.
_CREDENTIALS = struct.Struct("=iII")
# Linux 6.5 and later; not in Python's socket module yet.
_SO_PEERPIDFD = 77
_FD = struct.Struct("=i")
_MOST_GENERATIONS = 1000
_LOOKS = 3


def why_refused(connection: Socket) -> str:
    """Return why a client is refused; empty for our user and root, unless it runs under the supervisor."""
    try:
        pid, uid = _credentials(connection)
        descends = pid != os.getpid() and DESCRIPTORS.look(
            lambda: _certainly_below(pid, connection, lambda at, _: at == os.getpid())
        )
    except OSError as error:
        return f"cannot determine which process is asking: {_why_unknown(error)}"
    if uid not in {0, os.geteuid()}:
        return f"user {uid} may not control the supervisor; use root or user {os.geteuid()}"
    if descends:
        return (
            f"process {pid} runs under the supervisor, and supervised processes may not control it; "
            "use the platform's console, or docker exec"
        )
    return ""


def why_not_trusted(connection: Socket) -> str:
    """Return why the listening process is not trusted; empty if it is.

    A trusted listener runs as root or as our user, or is process 1, and does not run under a supervisor: with a single
    user for everything, an app could replace the control socket with its own.
    """
    try:
        pid, uid = _credentials(connection)
        supervised = pid != os.getpid() and _certainly_below(
            pid, connection, lambda at, name: at != pid and name == kernel.SUPERVISOR_NAME
        )
    except OSError as error:
        if remedy_for_resources(error):
            raise
        return f"cannot determine which process is listening: {_why_unknown(error)}"
    if supervised:
        return f"process {pid}, which listens there, is not a supervisor but runs under one"
    own = os.geteuid()
    if uid not in {0, own} and pid != 1:
        return f"it belongs to user {uid}, not to root or to you" if own else f"it belongs to user {uid}, not to root"
    return ""


def _why_unknown(error: OSError) -> str:
    remedy = remedy_for_resources(error)
    if remedy and error.errno:
        return f"{os.strerror(error.errno).lower()}; {remedy}"
    return "it has ended, or is in another pid namespace"


def _credentials(connection: Socket) -> tuple[int, int]:
    pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return pid, uid


def _certainly_below(pid: int, connection: Socket, is_it: IsIt) -> bool:
    """Return whether a connection's peer, or an ancestor of it, satisfies ``is_it``.

    Raises OSError if that cannot be determined.
    """
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
    """Return a pidfd of the peer; None before Linux 6.5."""
    try:
        return int(_FD.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _FD.size))[0])
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return None
        raise


def _lives(pidfd: int | None) -> bool:
    """Return whether the peer is still alive, so that its pid has not been reused; True without a pidfd."""
    if pidfd is None:
        return True
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Signalling is not permitted or not supported: the process exists.
        return True
    return True


def _below(pid: int, is_it: IsIt) -> bool | None:
    """Return whether a process or an ancestor of it satisfies ``is_it``; None if that cannot be determined.

    Orphans are reparented to the supervisor and so are below it. A process started by `docker exec` has no visible
    parent, also if the supervisor is process 1.
    """
    for _ in range(_LOOKS):
        found = _walk_up(pid, is_it)
        if found is not None:
            return found
    return None


def _walk_up(pid: int, is_it: IsIt) -> bool | None:
    """Try it once; None if a process ended before its parent was read, or the walk does not end."""
    # Pid 0 stands for a process outside this namespace, as the peer and as a parent.
    if pid == 0:
        return None
    at = pid
    for _ in range(_MOST_GENERATIONS):
        if at == 0:
            return False
        found = procfs.name_and_parent(at)
        if found is None:
            return None
        name, parent = found
        if is_it(at, name):
            return True
        at = parent
    return None
