"""Freezes and kills processes that are not children of the test."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]


def headless(first: str, then: str) -> str:
    """Return a Python program whose first thread ends alone, as by pthread_exit(3), after the line ``first``.

    The other thread then runs the line ``then``, and continues.
    """
    return (
        f"{first}\nimport ctypes, threading\ndef stay():\n"
        "    while open('/proc/self/stat').read().rpartition(') ')[2][0] != 'Z': pass\n"
        f"    {then}\n    threading.Event().wait()\n"
        f"threading.Thread(target=stay).start()\nctypes.CDLL(None).syscall({_EXIT}, 0)"
    )


def alive(pid: int) -> bool:
    """Return whether a process has a live thread, which need not be its first."""
    states = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as file:
                states.append(file.read().rpartition(") ")[2][0])
    return any(state not in "ZX" for state in states)


def below(pid: int) -> list[int]:
    """Return the descendants of a process that were not reparented away."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                for child in map(int, file.read().split()):
                    found += [child, *below(child)]
    return found


def freeze(pid: int) -> None:
    """Freeze all threads of a process: its sockets stay open, and nothing answers."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: _states(pid) - {"Z"} == {"T"}, what=f"process {pid} to stand still")


def _states(pid: int) -> set[str]:
    """Return the states of all threads; one that has ended before the others stays a zombie."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def thaw(pid: int) -> None:
    """Resume a frozen process."""
    os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process for the duration of a block."""
    freeze(pid)
    try:
        yield
    finally:
        thaw(pid)


def kill(pid: int) -> None:
    """Kill a process and wait for its end; its parent reaps it."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), what=f"the end of process {pid}")
