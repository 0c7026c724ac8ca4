"""Faults by orders and signals of people, platforms and programs."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from tests.chaos.client import NAMES, TOKEN, WRITERS
from tests.chaos.kinds import PHASES, fault
from tests.chaos.world import pause

# Only during a stop: at other times the first signal would begin one.
_ONLY_IN_A_STOP = {phase: "it would begin the stop" for phase in PHASES if phase not in {"again", "stop"}}
# sysexits(3).
CONFIGURATION = 78
VERBS = ("start", "stop", "restart")
_SLOWLY = 0.5
_HARMLESS = (signal.SIGHUP, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


@fault("signals")
def _signals(world: World, chance: random.Random) -> None:
    for _ in range(200):
        world.send(chance.choice(_HARMLESS))


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


def _have_them_end_slowly(world: World, chance: random.Random) -> None:
    """Half of the time, make children slow to exit, so that the next order arrives during that."""
    if chance.random() < _SLOWLY:
        for name in WRITERS:
            world.tell(name, f"slow {chance.uniform(0.1, 0.4):.2f}")


@fault("orders")
def _orders(world: World, chance: random.Random) -> None:
    _have_them_end_slowly(world, chance)
    # Few processes, so that an order often arrives while the previous one is being carried out.
    names = chance.sample(NAMES, 2)
    for _ in range(chance.randint(2, 12)):
        with contextlib.suppress(OSError):
            world.order(chance.choice(names), chance.choice(VERBS))


@fault("orders-at-once")
def _orders_at_once(world: World, chance: random.Random) -> Undo:
    """Give orders on the control socket, with the token, and as the panel does, amid signals."""

    def give(name: str, verb: str, bearer: str) -> None:
        with contextlib.suppress(OSError):
            world.order(name, verb, bearer=bearer)

    _have_them_end_slowly(world, chance)
    bearers = ["", TOKEN]
    # Refused for a while after wrong tokens.
    with contextlib.suppress(OSError):
        bearers.append(world.sign_in())
    given = [(chance.choice(NAMES), chance.choice(VERBS), chance.choice(bearers)) for _ in range(8)]
    threads = [threading.Thread(target=give, args=each) for each in given]
    for thread in threads:
        thread.start()
        world.send(chance.choice(_HARMLESS))

    def wait() -> None:
        for thread in threads:
            thread.join()

    return wait


@fault("second-supervisor")
def _second_supervisor(world: World, _chance: random.Random) -> None:
    code, said = world.second()
    # If the first has just ended, a second one may start.
    if world.is_alive() and code != CONFIGURATION:
        world.problems.append(f"a second supervisor ended with {code}: {said[-300:]!r}")
