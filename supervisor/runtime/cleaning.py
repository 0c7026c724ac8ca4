"""Ends what one life of a process left behind, and tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.counts import SUCCESS
from supervisor.system.procfs import Remains
from supervisor.system.sweeper import Sweeper

if TYPE_CHECKING:
    from supervisor.core.process import ProcessSpec
    from supervisor.core.snapshot import ExitView
    from supervisor.runtime.engine import Engine

_IN_FOREGROUND = "have it stay in the foreground (most programs have an option for that), or what it starts is ended"


class Cleaning(Sweeper):
    """The cleaning after a life that had ``pid``; it hears of every orphan reaped until it is closed."""

    def __init__(self, spec: ProcessSpec, pid: int, engine: Engine) -> None:
        remains = Remains(spec, pid, engine.log.pipes_of(spec.name))
        super().__init__(lambda: remains.find(engine.reaper.owned))
        self._name = spec.name
        self._engine = engine
        engine.cleaners.append(self)

    def close(self) -> None:
        """Hear of orphans no more."""
        self._engine.cleaners.remove(self)

    def tell(self, last: ExitView, early_s: float) -> str:
        """Log what was ended; return why the life is over, now that more is known.

        One that ended with success within ``early_s`` and left something behind seems to have gone into the background.
        """
        background = last.kind == SUCCESS and last.uptime_s < early_s
        self._engine.log.record(
            "warning",
            "ended what it left behind",
            child=self._name,
            count=len(self.seen),
            killed=len(self.killed),
            still_alive=len(self.left),
            names=sorted(set(self.seen.values())),
            what_to_do=_IN_FOREGROUND if background else None,
        )
        if not background:
            return last.reason
        left = f"left {len(self.seen)} running"
        return f"{last.reason}: it seems to have gone into the background, and {left}; {_IN_FOREGROUND}"
