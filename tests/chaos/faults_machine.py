"""What the machine runs out of, and its clock."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from typing import TYPE_CHECKING

from tests.chaos.kinds import BEFORE_STOP, fault
from tests.chaos.surroundings import Clock
from tests.chaos.world import WRITERS, pause

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


@fault("few-descriptors", BEFORE_STOP)
def _few_descriptors(world: World, chance: random.Random) -> Undo | None:
    pid = world.pid
    with contextlib.suppress(OSError):
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(8, used - chance.randint(0, 8)), limits[1]))

        def restore() -> None:
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

        return restore
    return None


@fault("few-processes", BEFORE_STOP)
def _few_processes(world: World, chance: random.Random) -> Undo | None:
    """Nobody may start a process or a thread any more."""
    group = world.group("pids")
    if group is None:
        return None
    (group / "pids.max").write_text(str(max(1, int((group / "pids.current").read_text()) + chance.randint(-2, 3))))
    world.signal(chance.choice(WRITERS), 9)
    pause(chance.uniform(0, 0.3))

    def undo() -> None:
        (group / "pids.max").write_text("max")

    return undo


@fault("little-memory", BEFORE_STOP)
def _little_memory(world: World, chance: random.Random) -> Undo | None:
    """A child takes all that there is, and the kernel chooses whom to end for it."""
    group = world.group("memory")
    if group is None:
        return None
    world.may_be_killed = True
    # Who waits for memory waits for the kernel, and is not to blame.
    assert world.prober is not None
    world.prober.excuse(1)
    used = int((group / "memory.usage_in_bytes").read_text())
    with contextlib.suppress(OSError):
        (group / "memory.limit_in_bytes").write_text(str(used + 30_000_000))
    world.tell(chance.choice(WRITERS), "eat 200000000")
    pause(0.2)

    def undo() -> None:
        (group / "memory.limit_in_bytes").write_text("-1")
        if world.prober is not None:
            world.prober.excuse(-1)

    return undo


@fault("full-disk")
def _full_disk(world: World, _chance: random.Random) -> Undo | None:
    """The run folder's file system has no room left."""
    if not world.mounted:
        return None
    path = world.run_dir.parent / "filler"
    with contextlib.suppress(OSError), path.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()

    def undo() -> None:
        path.unlink(missing_ok=True)

    return undo


@fault("read-only-disk")
def _read_only_disk(world: World, _chance: random.Random) -> Undo | None:
    """The run folder's file system may not be written to."""
    if not world.mounted:
        return None
    folder = str(world.run_dir.parent)

    def mount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", folder], capture_output=True, check=False)

    mount("ro")
    pause(0.1)
    # At the end of a stop the files that announce it are to be removed.
    mount("rw")
    return lambda: mount("rw")


@fault("clock-jumps", flavours=("clock",))
def _clock_jumps(world: World, chance: random.Random) -> None:
    """The wall clock goes back or forth, by up to a year."""
    clock = world.around
    if isinstance(clock, Clock):
        for _ in range(3):
            clock.set(chance.choice((-1, 1)) * chance.choice((1, 61, 3600, 86_400, 31_000_000)))
            pause(0.05)


@fault("busy-machine")
def _busy_machine(_world: World, chance: random.Random) -> Undo:
    """Everything else wants the processor."""
    spinners = [subprocess.Popen(["sh", "-c", "while :; do :; done"], cwd="/") for _ in range(chance.randint(1, 3))]
    pause(0.1)

    def undo() -> None:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()

    return undo
