"""Faults that an engine and a container's limits cause."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from tests.chaos.client import NAMES, WRITERS
from tests.chaos.kinds import IMAGES, fault
from tests.chaos.world import pause
from tests.support.docker import docker

if TYPE_CHECKING:
    import random

    from tests.chaos.boxed import BoxedWorld
    from tests.chaos.kinds import Undo
    from tests.chaos.world import World

_NO_LIMIT = {flavour: "it is started without such a limit" for flavour in IMAGES if flavour != "image-limits"}


def _box(world: World) -> BoxedWorld:
    from tests.chaos.boxed import BoxedWorld

    assert isinstance(world, BoxedWorld)
    return world


@fault("pause", tuple(IMAGES))
def _pause(world: World, chance: random.Random) -> None:
    """Have the engine freeze all of its processes for a while."""
    assert world.prober is not None
    name = _box(world).box.name
    world.prober.excuse(1)
    docker("pause", name, may_fail=True)
    pause(chance.uniform(0.05, 1.0))
    docker("unpause", name, may_fail=True)
    pause(0.05)
    world.prober.excuse(-1)


@fault("commands", tuple(IMAGES))
def _commands(world: World, chance: random.Random) -> Undo:
    """Give several orders at once on the control socket by `docker exec`."""
    name = _box(world).box.name
    orders = [(chance.choice(("start", "stop", "restart")), chance.choice(NAMES)) for _ in range(3)]
    world.stopped |= {process for verb, process in orders if verb == "stop"}
    running = [
        subprocess.Popen(
            ["docker", "exec", name, "moltis-supervisor", *order], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for order in (*orders, ("status", "--json"))
    ]

    def wait() -> None:
        for each in running:
            each.wait(60)
        # It is unknown which of them came last.
        world.ordered.clear()

    return wait


@fault("foreign-orphans", tuple(IMAGES))
def _foreign_orphans(world: World, chance: random.Random) -> None:
    """Leave unknown processes to process 1 from a `docker exec`; one of them stays."""
    script = f"for i in $(seq {chance.randint(1, 30)}); do (true &); (sleep 0.0$i &); done; (setsid sleep 300 &)"
    docker("exec", _box(world).box.name, "sh", "-c", script, may_fail=True)


@fault("signals-of-the-engine", tuple(IMAGES))
def _signals_of_the_engine(world: World, chance: random.Random) -> None:
    for _ in range(3):
        word = chance.choice(("HUP", "CHLD", "WINCH", "USR1", "USR2", "CONT"))
        docker("kill", "--signal", word, _box(world).box.name, may_fail=True)


@fault("processes-run-out", tuple(IMAGES), lacks=_NO_LIMIT)
def _processes_run_out(world: World, chance: random.Random) -> None:
    """Have a child start processes up to the container's limit."""
    world.tell(chance.choice(WRITERS), f"hoard {chance.uniform(0.2, 1.0):.2f}")
    with contextlib.suppress(OSError):
        world.signal(chance.choice(WRITERS), 9)


@fault("memory-runs-out", tuple(IMAGES), lacks=_NO_LIMIT)
def _memory_runs_out(world: World, chance: random.Random) -> Undo:
    """Have a child exceed the container's memory: the kernel kills the child, not the supervisor."""
    assert world.prober is not None
    world.prober.excuse(1)
    world.tell(chance.choice(WRITERS), "eat 700000000")
    pause(0.3)

    def undo() -> None:
        if world.prober is not None:
            world.prober.excuse(-1)

    return undo
