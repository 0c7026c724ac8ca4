"""Finds the ports that every tailnet peer can reach without going through serve, and the process behind each.

Userspace networking forwards what a peer sends to the node's address to the same port of 127.0.0.1.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.process import TcpProbe
from supervisor.core.snapshot import ListenerView
from supervisor.errors import host_port
from supervisor.moltis import CLOSE_PROXY, OPEN_PROXY_PORT
from supervisor.runtime.loop_latency import TimedReader
from supervisor.runtime.probes import ask
from supervisor.runtime.store import Watch
from supervisor.system import listeners, procfs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from supervisor.core.snapshot import Snapshot
    from supervisor.runtime.engine import Engine
    from supervisor.system.listeners import Holder, ListeningSocket

_REMEDY = "have it listen on 127.0.0.2 or [::1], or close the port in the tailnet's policy"


# How long a scan may take, with thousands of processes, and how long a connection inside the container.
SCAN_S = 10.0
ANSWER_S = 1.0
# Where peers are forwarded to.
REACHED = "127.0.0.1"


class ScanInterval(NamedTuple):
    """Time between scans, and delay of the scan after a process became ready and opened its ports; in seconds."""

    every_s: float = 60.0
    settle_s: float = 2.0


class Exposure:
    """Keeps the list in the store up to date, and logs each port that appears or disappears.

    ``own`` are the supervisor's addresses. ``public_port`` is the app's port if it is public on purpose.
    With a ``sidecar`` the list is empty unless it shares this network namespace.
    """

    def __init__(
        self,
        engine: Engine,
        own: Collection[tuple[str, int]],
        public_port: int | None = None,
        interval: ScanInterval = ScanInterval(),  # noqa: B008 - immutable
        *,
        sidecar: bool = False,
    ) -> None:
        self._engine = engine
        self._own = frozenset(own)
        self._public_port = public_port
        self._interval = interval
        self._sidecar = sidecar
        self._holders: dict[int, Holder | None] = {}
        self._blind = False
        # In a thread: reading /proc is slow with many processes, and may hang with one of them.
        self._reader = TimedReader(self._scan, SCAN_S)

    async def run(self) -> None:
        """Scan until cancelled."""
        with closing(Watch(self._engine.store, _openers)) as watch:
            while True:
                await asyncio.sleep(self._interval.settle_s)
                await self._look()
                await watch.changed(self._interval.every_s)

    async def _look(self) -> None:
        try:
            found = await self._reader.read()
        except TimeoutError:
            await self._look_blindly(f"reading /proc takes longer than {SCAN_S:g} s")
            return
        if found is None:
            await self._look_blindly("this kernel does not list who listens in /proc/net/tcp")
            return
        self._blind = False
        self._log_changes(self._engine.store.snapshot.exposed, found)
        self._engine.store.update_exposed(found, known=True)

    async def _look_blindly(self, why: str) -> None:
        """Ask for the one port through which peers reach all others."""
        self._report_blind(why)
        before = tuple(view for view in self._engine.store.snapshot.exposed if view.port == OPEN_PROXY_PORT)
        found = before or (ListenerView(REACHED, OPEN_PROXY_PORT),)
        found = found if await self._has_open_proxy() else ()
        self._log_changes(before, found)
        self._engine.store.update_exposed(found, known=False)

    async def _has_open_proxy(self) -> bool:
        """Return whether something else than the supervisor or a public app answers at the port of Moltis' proxy."""
        if OPEN_PROXY_PORT in {self._public_port, *(port for _, port in self._own)}:
            return False
        meant = self._engine.store.snapshot.tailnet.peer_api_ports
        if self._sidecar and not any([await _answers(port) for port in meant]):
            return False
        return await _answers(OPEN_PROXY_PORT)

    def _scan(self) -> tuple[ListenerView, ...] | None:
        snapshot = self._engine.store.snapshot
        return self._find(snapshot.managed, snapshot.tailnet.peer_api_ports)

    def _find(self, managed: Mapping[int, str], meant: Collection[int]) -> tuple[ListenerView, ...] | None:
        """Return the ports that peers reach, except those ``meant`` for them; None if the kernel lists no ports."""
        every = listeners.listening()
        own_inodes = listeners.own_inodes()
        own = {each for each in every if each.inode in own_inodes or (each.host, each.port) in self._own}
        if self._own and not own:
            return None
        if self._sidecar and not _reach(every, meant):
            return ()
        left_out = {self._public_port, *meant}
        reached = [each for each in every if each.by_loopback and each not in own and each.port not in left_out]
        before, self._holders = self._holders, listeners.holders({each.inode for each in reached}, self._holders)
        nameless = {inode for inode, holder in self._holders.items() if holder is None}
        if nameless - {inode for inode, holder in before.items() if holder is None}:
            # A new port without a process may have been closed during the search.
            still = {each.inode for each in listeners.listening()}
            reached = [each for each in reached if each.inode in still]
        views = {self._view(each, self._holders[each.inode], managed) for each in reached}
        return tuple(sorted(views, key=lambda view: (view.port, view.host, view.process, view.pid or 0)))

    def _view(self, listener: ListeningSocket, holder: Holder | None, managed: Mapping[int, str]) -> ListenerView:
        if holder is None:
            return ListenerView(listener.host, listener.port, self._of_user(listener.uid))
        owner = procfs.owner_of(holder.pid, managed)
        program = procfs.name_of(holder.pid)
        if managed.get(holder.pid):
            program = ""
        process = f"{owner} ({program})" if owner and program else owner or program
        return ListenerView(listener.host, listener.port, process, holder.pid)

    def _of_user(self, uid: int) -> str:
        """Return the processes that run as a socket's owner; root in a container may be unable to see its holder."""
        specs = [child.spec for child in self._engine.children.values()]
        return " or ".join(spec.name for spec in specs if spec.user is not None and spec.user.uid == uid)

    def _log_changes(self, before: tuple[ListenerView, ...], after: tuple[ListenerView, ...]) -> None:
        """Log each change once; a restarted process with the same ports counts as the same entry."""
        old, new = ({(view.host, view.port, view.process): view for view in views} for views in (before, after))
        for key, view in new.items():
            if key not in old:
                self._engine.log.record(
                    "warning",
                    "a port is open to every tailnet peer",
                    listen=host_port(view.host, view.port),
                    whose=view.process or "unknown",
                    pid=view.pid,
                    what_to_do=CLOSE_PROXY if view.port == OPEN_PROXY_PORT else _REMEDY,
                )
        for key, view in old.items():
            if key not in new:
                self._engine.log.record(
                    "info",
                    "a port is no longer open to every tailnet peer",
                    listen=host_port(view.host, view.port),
                    whose=view.process or "unknown",
                )

    def _report_blind(self, why: str) -> None:
        if not self._blind:
            self._blind = True
            self._engine.log.record(
                "warning",
                "cannot tell which ports are open to every tailnet peer",
                why=why,
                what_to_do="keep everything off 127.0.0.1 and 0.0.0.0, or close ports in the tailnet's policy",
            )


def _reach(every: Iterable[ListeningSocket], peer_api_ports: Collection[int]) -> bool:
    """Return whether a tailscaled with userspace networking listens here, and so forwards peers here.

    It then serves PeerAPI on every address, otherwise on the tailnet addresses only (tailscale.com/ipn/ipnlocal).
    """
    return any(each.by_loopback and each.port in peer_api_ports for each in every)


async def _answers(port: int) -> bool:
    return await ask(TcpProbe(REACHED, port), ANSWER_S) is None


def _openers(snapshot: Snapshot) -> tuple[frozenset[int], tuple[int, ...]]:
    """Return what determines the open ports: the ready processes, and tailscaled's own ports."""
    ready = frozenset(view.pid for view in snapshot.processes if view.pid is not None and view.ready)
    return ready, snapshot.tailnet.peer_api_ports
