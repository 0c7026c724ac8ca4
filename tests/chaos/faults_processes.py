"""Faults of processes, including the supervisor."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.chaos.kinds import fault
from tests.chaos.world import NAMES, WRITERS, pause

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


@fault("kill-child")
def _kill_child(world: World, chance: random.Random) -> None:
    world.signal(chance.choice(NAMES), signal.SIGKILL)


@fault("segv-child")
def _segv_child(world: World, chance: random.Random) -> None:
    world.signal(chance.choice(WRITERS), signal.SIGSEGV)


@fault("term-child")
def _term_child(world: World, chance: random.Random) -> None:
    world.signal(chance.choice(WRITERS), chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))


@fault("hold-child")
def _hold_child(world: World, chance: random.Random) -> Undo:
    name = chance.choice(WRITERS)
    pid = world.pid_of(name)
    world.signal(name, signal.SIGSTOP)

    def release() -> None:
        if pid is not None:
            world.send(signal.SIGCONT, pid)

    return release


@fault("hold-supervisor", lacks={"image-gvisor": "from inside a sandbox its process 1 cannot be held still"})
def _hold_supervisor(world: World, chance: random.Random) -> None:
    assert world.prober is not None
    world.prober.excuse(1)
    world.send(signal.SIGSTOP)
    pause(chance.uniform(0.05, 0.4))
    world.send(signal.SIGCONT)
    pause(0.05)
    world.prober.excuse(-1)


@fault("kill-supervisor", ends=True, unsaves=True)
def _kill_supervisor(world: World, _chance: random.Random) -> None:
    world.kill()


@fault("exit-child")
def _exit_child(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), f"exit {chance.choice((0, 1, 2, 126, 127, 255))}")


@fault("abort-child")
def _abort_child(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "abort")


@fault("stubborn-child")
def _stubborn_child(world: World, _chance: random.Random) -> None:
    world.tell("side", "stubborn")


@fault("orphan-storm")
def _orphan_storm(world: World, chance: random.Random) -> None:
    world.tell("maker", f"zombies {chance.randint(20, 200)}")


@fault("daemons")
def _daemons(world: World, chance: random.Random) -> None:
    world.tell("maker", f"daemons {chance.randint(1, 30)}")
    world.tell("maker", f"exit {chance.choice((0, 1))}")


@fault("strangers")
def _strangers(world: World, chance: random.Random) -> None:
    world.tell("maker", f"strangers {chance.randint(1, 5)}")


@fault("spinning-child")
def _spinning_child(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "spin 0.3")
