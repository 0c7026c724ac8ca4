"""What goes wrong with the repository of the backups and with restic."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.kinds import fault
from tests.chaos.surroundings import Backups
from tests.chaos.world import pause
from tests.support.processes import below

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


_BACKUP = ("backup",)


@fault("kill-restic", flavours=_BACKUP)
def _kill_restic(world: World, chance: random.Random) -> None:
    for _ in range(5):
        for pid in below(world.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "restic\n":
                    os.kill(pid, chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)))
                    return
        pause(0.05)


@fault("repository-goes", flavours=_BACKUP)
def _repository_goes(world: World, chance: random.Random) -> Undo:
    around = world.around
    assert isinstance(around, Backups)
    away = around.repository.with_name("away")
    with contextlib.suppress(OSError):
        around.repository.rename(away)
    pause(chance.uniform(0.1, 0.6))

    def undo() -> None:
        with contextlib.suppress(OSError):
            away.rename(around.repository)

    undo()
    return undo


@fault("backup-orders", flavours=_BACKUP)
def _backup_orders(world: World, _chance: random.Random) -> None:
    for _ in range(3):
        with contextlib.suppress(OSError):
            world.api("POST", "/api/backups", "{}")
