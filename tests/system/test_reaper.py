"""The reaper, the only part that waits for children."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from supervisor.core.process import ExitStatus
from supervisor.system import kernel
from supervisor.system.reaper import Exit, Reaper, decode
from tests.support.waiting import wait_until


def child(code: int) -> int:
    """Start a process that exits with a code, and return its pid."""
    return os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {})


def is_zombie(pid: int) -> bool:
    """Return whether a process has exited and waits to be reaped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"


def reap_all(reaper: Reaper, pids: list[int]) -> None:
    """Reap until none of these is left."""
    wait_until(
        lambda: not reaper.reap(lambda _pid: None) and not any(os.path.exists(f"/proc/{pid}") for pid in pids),
        what="the ends",
    )


def test_owners_are_told_and_others_counted() -> None:
    """Each owner is notified of its own child, once."""
    reaper, exits = Reaper(), list[Exit]()
    mine, other = child(7), child(3)
    reaper.own(mine, exits.append)
    assert reaper.owned == {mine}
    reap_all(reaper, [mine, other])
    assert exits == [Exit(mine, ExitStatus(code=7))]
    assert (reaper.orphans, [*reaper.owned]) == (1, [])


def test_many_at_once_are_taken_in_turns() -> None:
    """Many dead processes do not delay the loop: the reaper returns that there are more."""
    reaper, orphans = Reaper(), list[int]()
    pids = [child(0) for _ in range(5)]
    for pid in pids:
        wait_until(partial(is_zombie, pid), what="a zombie")
    assert reaper.reap(orphans.append, most=3)
    assert reaper.orphans == 3
    assert not reaper.reap(orphans.append)
    assert reaper.orphans == 5 == len(orphans)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN])
def test_signals_are_told_apart_from_codes(number: int) -> None:
    """A process that was killed by a signal has no exit code."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "300"], {})
    os.kill(pid, number)
    assert decode(os.waitpid(pid, 0)[1]) == ExitStatus(signal=number)


def test_what_this_kernel_can_do() -> None:
    """On Linux with util-linux it supports everything; this is detected rather than assumed."""
    assert kernel.launcher()[1:] == ("--pdeathsig", "KILL", "--no-new-privs")
