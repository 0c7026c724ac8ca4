"""Faults of processes, including the supervisor."""

from __future__ import annotations

import contextlib
import http
import signal
import time
from typing import TYPE_CHECKING

from tests.chaos.client import APP, NAMES, WRITERS
from tests.chaos.kinds import IMAGES, fault
from tests.chaos.world import pause
from tests.support.waiting import wait_until

# Three probes in a row, and a busy machine.
_HUNG_S = 15.0

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


@fault("hang-app", lacks=dict.fromkeys(IMAGES, "it takes a minute until the image's probes tell"))
def _hang_app(world: World, _chance: random.Random) -> None:
    """Hold the app until it is no longer ready; it is not restarted yet."""
    with contextlib.suppress(OSError, AssertionError):
        # Before its first answer it is not hung but starting, and a container that takes over counts as ready.
        wait_until(lambda: world.processes()[APP]["ready"], 2.0)
        pid = world.pid_of(APP)
        if pid is not None:
            world.send(signal.SIGSTOP, pid)
            if not _is_noticed(world, pid):
                world.problems.append(f"the app is held for {_HUNG_S:g} s, and /readyz is still 200")
            world.send(signal.SIGCONT, pid)


def _is_noticed(world: World, pid: int) -> bool:
    """Wait until the app is not ready, or ends; return whether it did, or the supervisor ends."""
    end_s = time.monotonic() + _HUNG_S
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            if world.pid_of(APP) != pid or world.health("/readyz")[0] != http.HTTPStatus.OK:
                return True
        pause(0.05)
    return not world.is_alive()


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
