"""What the machine runs out of, and its clock."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
from typing import TYPE_CHECKING

from tests.chaos.kinds import KEEPING, MissingError, fault
from tests.chaos.world import WRITERS, pause

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World

_BLOCK_BYTES = 4096


@fault("few-descriptors")
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


@fault("few-processes")
def _few_processes(world: World, chance: random.Random) -> Undo:
    """Nobody may start a process or a thread any more."""
    group = world.group("pids")
    if group is None:
        raise MissingError
    (group / "pids.max").write_text(str(max(1, int((group / "pids.current").read_text()) + chance.randint(-2, 3))))
    world.signal(chance.choice(WRITERS), 9)
    pause(chance.uniform(0, 0.3))

    def undo() -> None:
        (group / "pids.max").write_text("max")

    return undo


@fault("little-memory", ends=True)
def _little_memory(world: World, chance: random.Random) -> Undo:
    """A child takes all that there is, and the kernel chooses whom to end for it."""
    group = world.group("memory")
    if group is None:
        raise MissingError
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
def _full_disk(world: World, _chance: random.Random) -> Undo:
    """The file system of the run folder and of what is kept has no room left."""
    if not world.mounted:
        raise MissingError
    path = world.run_dir.parent / "filler"
    with contextlib.suppress(OSError), path.open("ab") as file:
        size = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
        # Taken and not written, as far as that goes; the rest is written.
        while size > _BLOCK_BYTES:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            except OSError:
                size //= 2
        while True:
            file.write(bytes(_BLOCK_BYTES))
            file.flush()

    def undo() -> None:
        path.unlink(missing_ok=True)

    return undo


@fault("read-only-disk")
def _read_only_disk(world: World, _chance: random.Random) -> Undo:
    """The same file system may not be written to."""
    if not world.mounted:
        raise MissingError
    folder = str(world.run_dir.parent)

    def mount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", folder], capture_output=True, check=False)

    mount("ro")
    pause(0.1)
    # At the end of a stop the files that announce it are to be removed.
    mount("rw")
    return lambda: mount("rw")


@fault("slow-disk")
def _slow_disk(world: World, chance: random.Random) -> Undo:
    """Every write to the same file system takes up to half a second."""
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


@fault("clock-jumps", ("clock", *KEEPING))
def _clock_jumps(world: World, chance: random.Random) -> Undo:
    """The wall clock goes back or forth, by up to a year; it is set again, as a bucket takes nothing meanwhile."""
    clock = world.around.clock
    if clock is None or not clock.jumps:
        raise MissingError
    for _ in range(3):
        clock.set(chance.choice((-1, 1)) * chance.choice((1, 61, 3600, 86_400, 31_000_000)))
        pause(0.05)
    return lambda: clock.set(0)


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
