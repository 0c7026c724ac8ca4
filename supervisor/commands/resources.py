"""The resources of a run: its folders, locks, port and control socket, acquired before anything is started."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from supervisor.config.plan import EVERYWHERE, Address, port_settings
from supervisor.config.users import family_of, free_port
from supervisor.errors import ConfigError, remedy_for_resources
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.config.plan import Plan

HTTP_FILE = "http"
# The kernel caps it. In a full one clients wait a second, as their connection is dropped without telling them.
_BACKLOG = 4096
_FIRST_FREE_PORT = 1024
_TRIES = 10
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class RunResources:
    """The resources that this run holds until it ends.

    ``address`` is the supervisor's HTTP address with its actual port, ``control`` the listening control socket.
    ``warnings`` are to be logged.
    """

    def __init__(self, plan: Plan) -> None:
        """Acquire everything. On failure release it all and raise ConfigError with every problem."""
        self._run_fd = -1
        self._is_locked = False
        self._fds: list[int] = []
        self.warnings: list[str] = []
        self.sockets: list[socket.socket] = []
        self.control: socket.socket | None = None
        self.address = plan.listen
        # Listeners on the app's own port, for the time that it is held.
        self.placeholders: list[socket.socket] = []
        self._give_way: list[Callable[[], None]] = []
        problems: list[str] = []
        steps = (
            self._take_run_folder,
            self._take_socket_folder,
            self._take_state_folder,
            self._take_backup_folder,
            self._listen,
            self._hold_place,
            self._listen_for_control,
        )
        for step in steps:
            try:
                step(plan)
            except ConfigError as error:
                problems += error.problems
        if problems:
            self.close()
            raise ConfigError(problems)

    def close(self) -> None:
        """Remove the port file and the control socket, and close the listeners; the locks end with the process."""
        if self._is_locked:
            dirs.remove_file(self._run_fd, HTTP_FILE)
            dirs.remove_socket(self._run_fd, dirs.CONTROL_SOCKET)
        if self.control is not None:
            self.control.close()
            self.control = None
        for listener in self.sockets:
            listener.close()
        self.sockets.clear()
        self.give_way()

    def give_way(self) -> None:
        """Release the app's own port to the app."""
        for listener in self.placeholders:
            listener.close()
        self.placeholders.clear()
        for close in self._give_way:
            close()
        self._give_way.clear()

    def when_giving_way(self, close: Callable[[], None]) -> None:
        """Call ``close`` when the port is released to the app; immediately if it has been already."""
        if self.placeholders:
            self._give_way.append(close)
        else:
            close()

    def announce(self) -> None:
        """Write the port file, which the container's health check reads."""
        host, port = self.address
        if host == EVERYWHERE:
            host = "127.0.0.1" if free_port("127.0.0.1") else "::1"
        dirs.put_file(self._run_fd, HTTP_FILE, f"{host} {port}\n")

    def _take_run_folder(self, plan: Plan) -> None:
        path = plan.settings.run_dir
        taken = (
            f"cannot use {path}: another supervisor runs there; stop it, or set SUPERVISOR_RUN_DIR to another folder"
        )
        self._run_fd = dirs.run_folder(path, plan.tailscale_user, taken)
        self._fds.append(self._run_fd)
        if not self._lock(self._run_fd, path, taken) and _is_listened_on(os.path.join(path, dirs.CONTROL_SOCKET)):
            raise ConfigError(taken)
        self._is_locked = True

    def _take_socket_folder(self, plan: Plan) -> None:
        # Without the run folder's lock, the folder may be another supervisor's.
        if plan.tailscaled is None or not self._is_locked:
            return
        folder = os.path.dirname(plan.settings.tailnet.socket)
        if folder == os.path.join(plan.settings.run_dir, "tailscale") or not os.path.exists(folder):
            self._fds.append(dirs.owned_folder(folder, plan.tailscale_user, "TS_SOCKET"))

    def _take_state_folder(self, plan: Plan) -> None:
        tailnet = plan.settings.tailnet
        if tailnet.mode != "embedded":
            # The run can do without it: it contains little but the owner's choice and incidents.
            dirs.offer_folder(plan.state_folder)
        # State in memory uses the run folder, whose problems have been reported above.
        if plan.tailscaled is None or (tailnet.in_memory and self._run_fd < 0):
            return
        taken = (
            f"cannot use {tailnet.state_dir}: another supervisor runs a tailscaled on it, and two would ruin it; "
            "stop that one, or set TS_STATE_DIR to another folder"
        )
        fd = dirs.owned_folder(tailnet.state_dir, plan.tailscale_user, "TS_STATE_DIR", taken)
        self._fds.append(fd)
        self._lock(fd, tailnet.state_dir, taken)

    def _take_backup_folder(self, plan: Plan) -> None:
        """Lock the folder: two supervisors would put files into each other's snapshots. Raises ConfigError."""
        if plan.backup is None:
            return
        folder = plan.backup.folder
        try:
            fd = dirs.owned_folder(folder, None, "TS_STATE_DIR")
        except (OSError, ConfigError):
            # The backup service reports this and retries.
            return
        self._fds.append(fd)
        taken = (
            f"cannot use {folder}: another supervisor prepares its snapshots there, and two would mix them up; "
            "stop that one, or set TS_STATE_DIR to another folder"
        )
        self._lock(fd, folder, taken)

    def _lock(self, folder_fd: int, path: str, taken: str) -> bool:
        fd, locked = dirs.lock(folder_fd, dirs.LOCK_FILE, taken)
        self._fds.append(fd)
        if not locked:
            self.warnings.append(
                f"the file system of {path} has no locks: nothing keeps a second supervisor from using it as well"
            )
        return locked

    def _listen(self, plan: Plan) -> None:
        host, port = plan.listen
        try:
            self.sockets += _listeners(port) if host == EVERYWHERE else [_listener(Address(host, port))]
        except _ListenError as error:
            raise ConfigError(_cannot_listen(plan, error)) from error
        self.address = Address(host, self.sockets[0].getsockname()[1])

    def _hold_place(self, plan: Plan) -> None:
        """Listen on the app's own port if it is public and the app is held. Raises ConfigError."""
        is_held = plan.backup is not None and plan.backup.holds
        if plan.settings.expose != "public" or not is_held or plan.app_address is None or not plan.app_address.port:
            return
        try:
            self.placeholders.append(_listener(plan.app_address))
        except _ListenError as error:
            remedy = remedy_for_resources(error) or (
                "another program listens there, or this user may not: end it, or set PORT to another port"
            )
            raise ConfigError(f"cannot listen on {error.address}: {error.strerror}; {remedy}") from error

    def _listen_for_control(self, plan: Plan) -> None:
        # Without the folder's lock, the socket in it belongs to another supervisor.
        if not self._is_locked:
            return
        path = os.path.join(plan.settings.run_dir, dirs.CONTROL_SOCKET)
        dirs.remove_socket(self._run_fd, dirs.CONTROL_SOCKET)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            os.chmod(path, 0o600)
            # Clients can connect from here on.
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            remedy = (
                remedy_for_resources(error)
                or dirs.in_the_way(error)
                or ("set SUPERVISOR_RUN_DIR to a folder on a file system that supports sockets")
            )
            raise ConfigError(f"cannot make the socket {path}: {error.strerror or error}; {remedy}") from error
        listener.setblocking(False)
        self.control = listener


def _is_listened_on(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # A full backlog also means that a process is listening.
        return probe.connect_ex(path) in {0, errno.EAGAIN}


class _ListenError(OSError):
    """The supervisor cannot listen on an address."""

    def __init__(self, address: Address, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.address = address


def _listeners(port: int) -> list[socket.socket]:
    """Return sockets that listen on all addresses of the machine's families, IPv4 and IPv6, on the same port.

    There is one socket per family, so that client addresses have their own family's form. Raises _ListenError.
    """
    for left in reversed(range(_TRIES)):
        try:
            first = _listener(Address("0.0.0.0", port))  # noqa: S104 - what is asked for
        except _ListenError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise
            return [_listener(Address("::", port))]
        try:
            return [first, _listener(Address("::", first.getsockname()[1]), paired=True)]
        except _ListenError as error:
            if error.errno in _NO_SUCH_FAMILY:
                return [first]
            first.close()
            # A port that is free for one family may be in use for the other.
            if port or not left:
                raise
    raise AssertionError("the last try returns or raises")


def _listener(address: Address, *, paired: bool = False) -> socket.socket:
    """Return a socket that listens on an address; `::` alone accepts both families. Raises _ListenError."""
    try:
        listener = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    except OSError as error:
        raise _ListenError(address, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(paired))
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _ListenError(address, error) from error
    listener.setblocking(False)
    return listener


def _cannot_listen(plan: Plan, error: _ListenError) -> str:
    setting, _ = port_settings(plan.settings)
    if error.errno == errno.EADDRINUSE:
        remedy = f"another program listens there; end it, or set {setting} to another port"
    elif error.errno == errno.EACCES and plan.listen.port < _FIRST_FREE_PORT:
        remedy = f"ports below {_FIRST_FREE_PORT} are for root; set {setting} to a higher one"
    else:
        remedy = remedy_for_resources(error) or f"set {setting} to a port that this machine can give"
    return f"cannot listen on {error.address}: {error.strerror}; {remedy}"
