"""Loads what the first child does not need: in a thread, one part after the other, and the login's first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from supervisor.core.tailnet import CONNECTING, STARTING
from supervisor.runtime.turns import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.snapshot import Snapshot
    from supervisor.runtime.board import Board
    from supervisor.runtime.loop import Service

# Where the control server is far away a login takes longer, and little of this machine's time.
_LOGIN_FIRST_S = 0.15
_LOGGING_IN = frozenset({STARTING, CONNECTING})


class Late:
    """Makes services of parts that are loaded late; ``parts`` holds each one as long as it runs, by its name."""

    def __init__(self, board: Board) -> None:
        self._board = board
        # Two threads that load would take each other's time, and both be late.
        self._one = anyio.Lock()
        self.parts: dict[str, Any] = {}

    def part(self, name: str, module: str, make: Callable[[Any], Any]) -> Service:
        """Return a service that loads a module, makes its part and runs it."""

        async def service() -> None:
            async with self._one:
                found = await load(module)
            self.parts[name] = make(found)
            try:
                await self.parts[name].run()
            finally:
                del self.parts[name]

        return service

    def heavy_part(self, name: str, module: str, make: Callable[[Any], Any]) -> Service:
        """Return the same for a part that takes a tenth of a second to load: the login is let go first."""
        part = self.part(name, module, make)

        async def service() -> None:
            await self._let_login_go_first()
            await part()

        return service

    def after_release(self, service: Service) -> Service:
        """Return a service that begins when nothing is held any more."""

        async def waiting() -> None:
            await self._until(lambda snapshot: not snapshot.backup.holds)
            await service()

        return waiting

    async def _until(self, holds: Callable[[Snapshot], bool]) -> None:
        """Wait until something holds."""
        settled = anyio.Event()

        def look(snapshot: Snapshot) -> None:
            if holds(snapshot):
                settled.set()

        leave = self._board.watch(look)
        look(self._board.snapshot)
        try:
            await settled.wait()
        finally:
            leave()

    async def _let_login_go_first(self) -> None:
        """Wait until the device is logged in, or is not going to be just now; but not for long."""
        with anyio.move_on_after(_LOGIN_FIRST_S):
            await self._until(lambda snapshot: snapshot.tailnet.state not in _LOGGING_IN)
