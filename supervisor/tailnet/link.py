"""Follows tailscaled: asks for its status and keeps the board up to date."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio

from supervisor.plan.model import TAILSCALED
from supervisor.tailnet import states
from supervisor.tailnet.localapi import LocalApi, LocalApiError, UnreachableError

if TYPE_CHECKING:
    from supervisor.logs.hub import LogHub
    from supervisor.plan.model import Plan
    from supervisor.runtime.board import Board
    from supervisor.runtime.engine import Engine

# An outage raises no event on tailscaled's bus for minutes; its status tells at once, and costs 2 ms.
LOOK_EVERY_S = 2.0
LOOK_EARLY_S = 0.1
_YOUNG_S = 15.0
_INTERFACE_UP = 1


class Link:
    """The one place that knows how the tailnet is."""

    def __init__(self, plan: Plan, board: Board, hub: LogHub, engine: Engine) -> None:
        self._plan = plan
        self._board = board
        self._hub = hub
        self._engine = engine

    async def run(self) -> None:
        """Follow until cancelled."""
        async with LocalApi(self._plan.settings.tailnet.socket) as api:
            while True:
                begin_s = time.monotonic()
                meaning = await self._look(api)
                self._put(meaning)
                # Until the first answer a look is cheap, and people wait for it.
                wait_s = LOOK_EARLY_S if meaning.state == "starting" and self._is_young() else LOOK_EVERY_S
                await anyio.sleep(max(0.0, begin_s + wait_s - time.monotonic()))

    async def _look(self, api: LocalApi) -> states.Meaning:
        try:
            return states.of_status(await api.status(), has_network=has_network())
        except UnreachableError as error:
            return states.down(str(error), begun=self._is_young())
        except LocalApiError as error:
            return states.down(str(error), begun=False)

    def _put(self, meaning: states.Meaning) -> None:
        before = self._board.snapshot.tailnet
        after = states.view(meaning, before, time.monotonic())
        if after.state != before.state:
            self._hub.record(
                "info" if after.up else "warning",
                f"tailnet: {after.state}",
                why=after.why or None,
                what_to_do=after.what_to_do or None,
            )
        self._board.put_tailnet(after)

    def _is_young(self) -> bool:
        """Tell whether tailscaled has only just been started, so that no answer is no news."""
        view = self._board.snapshot.process(TAILSCALED)
        started_s = view.started_s if view is not None else self._board.snapshot.started_s
        alive = view is None or view.pid is not None
        return alive and started_s is not None and time.monotonic() - started_s < _YOUNG_S


def has_network() -> bool:
    """Tell whether any interface but the loopback is up; true where the kernel does not say."""
    try:
        names = os.listdir("/sys/class/net")
    except OSError:
        return True
    return any(_is_up(name) for name in names if name != "lo")


def _is_up(name: str) -> bool:
    try:
        with open(f"/sys/class/net/{name}/flags", encoding="ascii") as file:
            return bool(int(file.read(), 16) & _INTERFACE_UP)
    except (OSError, ValueError):
        return False
