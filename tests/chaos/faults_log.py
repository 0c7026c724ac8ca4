"""Faults of children's output, and of the log's consumer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.chaos.client import TOKEN, WRITERS
from tests.chaos.kinds import IMAGES, fault
from tests.chaos.world import SPOKEN, pause

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


@fault("burst")
def _burst(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "burst 20000")


@fault("half-a-line")
def _half_a_line(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "half")


@fault("long-line")
def _long_line(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), f"long {chance.choice((15_359, 15_360, 70_000, 1_000_000))}")


@fault("rubbish-output")
def _rubbish_output(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "rubbish 50000")


@fault("spoken-secret")
def _spoken_secret(world: World, chance: random.Random) -> None:
    name = chance.choice(WRITERS)
    world.tell(name, f"say the password is {SPOKEN}, and {TOKEN}")
    world.tell(name, f"say {'y' * chance.randint(15_300, 15_380)}{SPOKEN}{'z' * 40}")


@fault("errors-burst")
def _errors_burst(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "errors 2000")


@fault("consumer-stalls")
def _consumer_stalls(world: World, chance: random.Random) -> Undo:
    world.unread = True
    world.output.stall(chance.uniform(0.1, 1.5))
    world.tell(chance.choice(WRITERS), "burst 20000")
    return world.output.come_back


# A stop does not wait for its reader, so the record of the last snapshot may be lost with others.
@fault("log-overflows", unsaves=True)
def _log_overflows(world: World, chance: random.Random) -> Undo:
    """Stop reading the log while more arrives than the buffer of 8 MiB holds."""
    world.unread = True
    world.output.stall(10)
    for name in WRITERS:
        world.tell(name, "burst 30000")
    pause(chance.uniform(1.0, 2.0))
    return world.output.come_back


@fault(
    "consumer-goes",
    lacks=dict.fromkeys(IMAGES, "an engine reads its log, and goes with its containers"),
    unsaves=True,
)
def _consumer_goes(world: World, chance: random.Random) -> Undo:
    world.unread = True
    world.output.go_away()
    pause(chance.uniform(0, 0.4))
    return world.output.come_back


@fault("output-does-not-block", lacks=dict.fromkeys(IMAGES, "nobody but the engine has the other end of its output"))
def _output_does_not_block(world: World, chance: random.Random) -> None:
    """Make standard output non-blocking, as another process that shares it may do."""
    os.set_blocking(world.shared_output, False)
    world.unread = True
    world.output.stall(0.3)
    world.tell(chance.choice(WRITERS), "burst 5000")
