"""Takes connections, also where this process may open no more files: asyncio's own server fills the log then."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from supervisor.system import descriptors
from supervisor.system.descriptors import DESCRIPTORS
from supervisor.web.repeats import Repeats

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from supervisor.logs.pipeline import LogPipeline
    from supervisor.web.connections import Connections

# In one turn: one that is closed gives its descriptor back in the next.
_AT_ONCE = 16
_PAUSE_S = 0.02
_LONG_PAUSE_S = 0.5
_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# What else the process opens: pipes of children that are started later, files, tailscaled's socket, probes.
_KEPT_FREE = 64
_LEAST = 8


class Door:
    """What every listener shares when there are no descriptors left: whose connections make room, and the log."""

    def __init__(self, log: LogPipeline, kinds: Sequence[Connections]) -> None:
        self._log = log
        self._kinds = kinds
        self._repeats = Repeats(self._tell)

    def make_room(self) -> float:
        """Close idle connections, or draw on the reserve; return how long to wait until the next try."""
        self._repeats.add()
        closed = sum(kind.make_room(_AT_ONCE) for kind in self._kinds)
        if closed:
            # It comes back first, as connections are let in with what is left of it.
            asyncio.get_running_loop().call_later(_PAUSE_S / 2, DESCRIPTORS.refill)
        return _PAUSE_S if closed or DESCRIPTORS.give_spare(_AT_ONCE // 4) else _LONG_PAUSE_S

    def _tell(self, count: int) -> None:
        self._log.record(
            "warning",
            "too few file descriptors",
            limit=descriptors.limit(),
            times=count,
            what_to_do="idle connections are closed; raise the limit of open files (ulimit -n, docker run --ulimit)",
        )


class Listener:
    """Takes the connections of one listening socket, which is non-blocking, until it is closed."""

    def __init__(self, listener: socket.socket, connections: Connections, make_room: Callable[[], float]) -> None:
        self._listener = listener
        self._connections = connections
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[None]] = set()
        self._resume()

    def close(self) -> None:
        """Take no more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._take)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connected, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._loop.remove_reader(self._listener)
                wait_s = self._make_room() if error.errno in _LACK else _LONG_PAUSE_S
                self._pause = self._loop.call_later(wait_s, self._resume)
                return
            beginning = self._loop.create_task(self._begin(connected))
            self._beginning.add(beginning)
            beginning.add_done_callback(self._beginning.discard)

    async def _begin(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._connections, connected)
        except OSError:
            # It is gone already, or no descriptor is left to watch it with.
            connected.close()


def shares(most: int) -> tuple[int, int]:
    """Return how many anonymous connections the port may have, and how many the control socket: ``most`` at best."""
    left = descriptors.left() - _KEPT_FREE
    return max(_LEAST, min(most, left * 3 // 4)), max(_LEAST, min(most, left // 4))
