"""Faults of the machine: shortages, disks and the clock."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import TYPE_CHECKING

from tests.chaos.client import WRITERS
from tests.chaos.kinds import IMAGES, KEEPING, MissingError, fault
from tests.chaos.world import pause

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World

_NO_GROUPS = {"image-gvisor": "the tests' engine starts sandboxes without groups"}
_IN_MEMORY = dict.fromkeys(("image-read-only", "image-gvisor"), "what is written there is in memory")


@fault("few-descriptors", unsaves=True)
def _few_descriptors(world: World, chance: random.Random) -> Undo | None:
    limits: list[int] = []
    pid = world.pid
    with contextlib.suppress(OSError):
        limits = world.sight.limit_files(pid, -chance.randint(0, 8))

    def restore() -> None:
        with contextlib.suppress(OSError):
            world.sight.restore_files(pid, limits)

    return restore if limits else None


@fault("few-processes", lacks=_NO_GROUPS, unsaves=True)
def _few_processes(world: World, chance: random.Random) -> Undo:
    """Limit processes and threads so that none can be started."""
    group = world.group("pids")
    if group is None:
        raise MissingError
    # A container that has just ended has no group any more.
    with contextlib.suppress(OSError):
        group.limit(max(1, group.used() + chance.randint(-2, 3)))
    world.signal(chance.choice(WRITERS), 9)
    pause(chance.uniform(0, 0.3))
    return group.restore


@fault("little-memory", lacks=_NO_GROUPS, ends=True, unsaves=True)
def _little_memory(world: World, chance: random.Random) -> Undo:
    """Have a child use all memory; the kernel chooses which process to kill."""
    group = world.group("memory")
    if group is None:
        raise MissingError
    world.may_be_killed = True
    # Waiting for memory is the kernel's fault, not the supervisor's.
    assert world.prober is not None
    world.prober.excuse(1)
    with contextlib.suppress(OSError):
        group.limit(group.used() + 30_000_000)
    world.tell(chance.choice(WRITERS), "eat 200000000")
    pause(0.2)

    def undo() -> None:
        group.restore()
        if world.prober is not None:
            world.prober.excuse(-1)

    return undo


@fault("full-disk", unsaves=True)
def _full_disk(world: World, _chance: random.Random) -> Undo:
    """Fill the file system of the run folder and the state."""
    if not world.has_small_disk:
        raise MissingError
    path = world.filler
    with contextlib.suppress(OSError):
        world.sight.fill(path)

    def undo() -> None:
        with contextlib.suppress(OSError):
            world.sight.remove(path)

    return undo


@fault("read-only-disk", lacks={"image-gvisor": "the sandbox mounts its disks itself, once"}, unsaves=True)
def _read_only_disk(world: World, _chance: random.Random) -> Undo:
    """Make the same file system read-only."""
    if not world.has_small_disk:
        raise MissingError
    world.remount("ro")
    pause(0.1)
    # At the end of a stop the files that announce it must be removable.
    world.remount("rw")
    return lambda: world.remount("rw")


@fault("slow-disk", lacks=_IN_MEMORY, unsaves=True)
def _slow_disk(world: World, chance: random.Random) -> Undo:
    """Delay every write to the same file system by up to half a second."""
    if not world.may_freeze:
        raise MissingError
    over = threading.Event()

    def slow() -> None:
        while not over.wait(0.01):
            world.freeze_disk(chance.uniform(0.05, 0.5))

    thread = threading.Thread(target=slow)
    thread.start()
    pause(chance.uniform(0.3, 1.0))

    def undo() -> None:
        over.set()
        thread.join()

    return undo


@fault(
    "clock-jumps",
    ("clock", *KEEPING),
    lacks=dict.fromkeys(IMAGES, "the library that moves the clock is this machine's"),
    unsaves=True,
)
def _clock_jumps(world: World, chance: random.Random) -> Undo:
    """Move the wall clock by up to a year; it is set back afterwards, as a bucket rejects requests meanwhile."""
    clock = world.around.clock
    if clock is None or not clock.jumps:
        raise MissingError
    for _ in range(3):
        clock.set(chance.choice((-1, 1)) * chance.choice((1, 61, 3600, 86_400, 31_000_000)))
        pause(0.05)
    return lambda: clock.set(0)


@fault("busy-machine")
def _busy_machine(_world: World, chance: random.Random) -> Undo:
    """Keep the processors busy with other work."""
    spinners = [subprocess.Popen(["sh", "-c", "while :; do :; done"], cwd="/") for _ in range(chance.randint(1, 3))]
    pause(0.1)

    def undo() -> None:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()

    return undo
