"""What handlers work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from supervisor.logs.hub import LogHub
    from supervisor.plan.model import Plan
    from supervisor.runtime.board import Board
    from supervisor.runtime.engine import Engine


class Context(NamedTuple):
    """The parts of the program that a request may look at, or give an order to."""

    plan: Plan
    board: Board
    hub: LogHub
    engine: Engine
