"""What people, platforms and programs send."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from tests.chaos.kinds import PHASES, fault
from tests.chaos.world import NAMES, pause

# Half-way through a stop, which a hand-over is as well; before, the first of these would begin it.
_ONLY_IN_A_STOP = {phase: "it would begin the stop" for phase in PHASES if phase not in {"again", "stop"}}
# sysexits(3).
CONFIGURATION = 78

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


@fault("signals")
def _signals(world: World, chance: random.Random) -> None:
    harmless = (signal.SIGHUP, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)
    for _ in range(200):
        world.send(chance.choice(harmless))


@fault("signals-for-app")
def _signals_for_app(world: World, chance: random.Random) -> None:
    for _ in range(5):
        world.send(chance.choice((signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)))


@fault("term-again", cannot=_ONLY_IN_A_STOP)
def _term_again(world: World, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 5)):
        world.send(signal.SIGTERM)


@fault("interrupt-twice", cannot=_ONLY_IN_A_STOP, ends=True)
def _interrupt_twice(world: World, _chance: random.Random) -> None:
    for _ in range(2):
        world.send(signal.SIGINT)
        pause(0.02)


@fault("orders")
def _orders(world: World, chance: random.Random) -> None:
    for _ in range(chance.randint(2, 12)):
        with contextlib.suppress(OSError):
            world.api("POST", f"/api/processes/{chance.choice(NAMES)}/{chance.choice(('start', 'stop', 'restart'))}")


@fault("orders-at-once")
def _orders_at_once(world: World, chance: random.Random) -> Undo:
    def give(name: str, verb: str) -> None:
        with contextlib.suppress(OSError):
            world.api("POST", f"/api/processes/{name}/{verb}")

    pairs = [(chance.choice(NAMES), chance.choice(("start", "stop", "restart"))) for _ in range(8)]
    threads = [threading.Thread(target=give, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()

    def wait() -> None:
        for thread in threads:
            thread.join()

    return wait


@fault("second-supervisor")
def _second_supervisor(world: World, _chance: random.Random) -> None:
    code, said = world.second()
    # Where the first has just ended, there is room for one.
    if world.is_alive() and code != CONFIGURATION:
        world.problems.append(f"a second supervisor ended with {code}: {said[-300:]!r}")
