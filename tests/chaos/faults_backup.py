"""Faults of the backups' repository and of restic."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.faults_tailnet import MODES
from tests.chaos.kinds import IMAGES, IN_BUCKETS, KEEPING, fault
from tests.chaos.surroundings import Backups, store
from tests.chaos.world import pause
from tests.support.processes import below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World

_NO_REPOSITORY = dict.fromkeys(IMAGES, "these lives have no backups")


@fault("kill-restic", KEEPING, lacks=_NO_REPOSITORY, unsaves=True)
def _kill_restic(world: World, chance: random.Random) -> None:
    for _ in range(5):
        for pid in _restics(world):
            with contextlib.suppress(OSError):
                os.kill(pid, chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)))
                return
        pause(0.05)


def _restics(world: World) -> list[int]:
    found = []
    for pid in below(world.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "restic\n":
                found.append(pid)
    return found


@fault("repository-goes", ("backup",), lacks=_NO_REPOSITORY, unsaves=True)
def _repository_goes(world: World, chance: random.Random) -> Undo:
    around = world.around
    assert isinstance(around, Backups)
    repository = Path(around.repository)
    away = repository.with_name("away")
    with contextlib.suppress(OSError):
        repository.rename(away)
    pause(chance.uniform(0.1, 0.6))

    def undo() -> None:
        if away.exists() and not (away / "config").exists():
            # A restic that is beginning the repository writes its last file, the configuration, to the old place.
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not _restics(world), 10.0, what="the end of restic")
            with contextlib.suppress(OSError):
                shutil.copytree(repository, away, dirs_exist_ok=True)
        while away.exists():
            # A restic that was at work made folders of its own there.
            shutil.rmtree(repository, ignore_errors=True)
            with contextlib.suppress(OSError):
                away.rename(repository)
        if repository.exists() and not (repository / "config").exists() and not _restics(world):
            # One that was begun and will never be finished, which is for a person to remove.
            shutil.rmtree(repository, ignore_errors=True)

    undo()
    return undo


@fault("backup-orders", KEEPING, lacks=_NO_REPOSITORY)
def _backup_orders(world: World, _chance: random.Random) -> None:
    for _ in range(3):
        with contextlib.suppress(OSError):
            world.api("POST", "/api/backups", "{}")


@fault("bucket-goes", IN_BUCKETS, lacks=_NO_REPOSITORY, unsaves=True)
def _bucket_goes(_world: World, chance: random.Random) -> Undo:
    """Kill the S3 server; it comes back."""
    store().stop()
    pause(chance.uniform(0.1, 0.6))
    return store().start


def _add_way(mode: str) -> None:
    """Add a fault in which the proxy before the bucket behaves in this mode."""

    @fault(f"bucket-{mode}", IN_BUCKETS, lacks=_NO_REPOSITORY, unsaves=True)
    def act(world: World, chance: random.Random) -> Undo:
        way = world.around.way_to_bucket
        assert way is not None
        way.mode = mode
        pause(chance.uniform(0.1, 0.5))

        def undo() -> None:
            way.mode = "pass"

        return undo


for _mode in MODES:
    _add_way(_mode)
