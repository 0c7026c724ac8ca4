"""Plays a life: brings the supervisor into each phase, lets the faults happen, and looks whether everything holds."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING

from tests.chaos import checks
from tests.chaos.faults import KINDS
from tests.chaos.world import STOP_TIMEOUT_S, WRITERS, World, environment_of, pause
from tests.support.processes import below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.chaos.plan import Life, Round

# How long everything may take to be as it should: a machine that is busy with other things is no violation.
SETTLE_S = 20.0
_LOOK_S = 0.02
# What a stop may take beyond its budget: the last words, and Python's own end.
_OVERRUN_S = 1.5


class Violation(Exception):  # noqa: N818 - it is no error of whoever raises it
    """Something did not hold; the text begins with which check said so."""


def play(life: Life, met: Counter[tuple[str, str]]) -> int:
    """Play a whole life, counting in ``met`` which fault met which phase; return how many rounds. Raises Violation."""
    world = World(life.flavour)
    try:
        for number, one in enumerate(life.rounds):
            _play_round(world, one, met)
            if world.ended and number + 1 < len(life.rounds):
                raise Violation("end: it ended by itself")
        return len(life.rounds)
    except AssertionError as error:
        raise Violation(f"wait: {error}") from error
    finally:
        world.close()


def _play_round(world: World, one: Round, met: Counter[tuple[str, str]]) -> None:
    since = len(world.output.records)
    world.unread = False
    _ENTER[one.phase](world)
    begun_s = time.monotonic()
    undo = []
    for fault in one.faults:
        pause(max(0.0, begun_s + fault.at_ms / 1000 - time.monotonic()))
        if world.is_alive():
            met[fault.kind, one.phase] += 1
            undo.append(KINDS[fault.kind].act(world, random.Random(str(fault))))
    if one.phase == "stop":
        _end(world, begun_s, [each for each in undo if each is not None])
        return
    for each in reversed(undo):
        if each is not None:
            each()
    if world.killed:
        _after_kill(world)
    elif not world.is_alive():
        raise Violation(f"end: it ended by itself; it said {world.output.records[since:][-20:]} {world.errors()}")
    _settle(world)


def _enter_start(world: World) -> None:
    world.start()


def _enter_running(_world: World) -> None:
    pass


def _enter_backoff(world: World) -> None:
    since = len(world.output.records)
    world.tell("side", "exit 1")
    _see(world, "will be restarted", since, "side")


def _enter_cleaning(world: World) -> None:
    since = len(world.output.records)
    world.tell("maker", "daemons 24")
    world.tell("maker", "exit 0")
    _see(world, "exited", since, "maker")


def _see(world: World, message: str, since: int, child: str) -> None:
    with contextlib.suppress(AssertionError):
        wait_until(lambda: world.output.find(message, since, child=child), 2.0, what=message)


def _enter_stop(world: World) -> None:
    assert world.prober is not None
    # One that does not end when it is asked to, so that there is time for something to happen.
    world.tell("side", "stubborn")
    pause(0.05)
    world.prober.end()
    with contextlib.suppress(ProcessLookupError):
        os.kill(world.pid, signal.SIGTERM)


_ENTER: dict[str, Callable[[World], None]] = {
    "start": _enter_start,
    "running": _enter_running,
    "backoff": _enter_backoff,
    "cleaning": _enter_cleaning,
    "stop": _enter_stop,
}


def _settle(world: World) -> None:
    """Wait until all is well again. Raises Violation where it does not become so, or something bad was seen."""
    for name in (*WRITERS, "looper"):
        wait_until(lambda name=name: world.api("POST", f"/api/processes/{name}/start")[0] < 500, what="the API")  # type: ignore[misc]
    _hold("truth", world, checks.untruths)
    _hold("zombies", world, checks.zombies)
    _hold("lines", world, lambda each: each.output.missing())
    if world.baseline is None:
        world.baseline = checks.use(world.pid)
    _hold("leaks", world, checks.leaks)
    _look(world, "secrets", checks.secrets(world))
    _look_back(world)


def _look_back(world: World) -> None:
    assert world.prober is not None
    _look(world, "output", world.output.problems)
    _look(world, "health", world.prober.problems)
    _look(world, "defects", checks.defects(world))
    _look(world, "others", world.problems)


def _hold(name: str, world: World, check: Callable[[World], list[str]]) -> None:
    """Wait until a check finds nothing."""
    end_s = time.monotonic() + SETTLE_S
    while found := check(world):
        if time.monotonic() > end_s:
            _look(world, name, found)
        pause(_LOOK_S)


def _look(world: World, name: str, found: list[str]) -> None:
    if found:
        last = "\n".join(str(record) for record in world.output.records[-12:])
        raise Violation(f"{name}: " + "\n".join(found[:5]) + "\nthe last records:\n" + last)


def _after_kill(world: World) -> None:
    """See that its children went with it, clear away what they had started, and start it again."""
    _hold("children of a killed supervisor", world, lambda each: [str(pid) for pid in each.survivors()])
    world.clear()
    world.output.excuse()
    world.baseline = None
    world.start()


def _end(world: World, begun_s: float, undo: list[Callable[[], object]]) -> None:
    """See it end, in time, with the right code and nothing left."""
    assert world.popen is not None
    assert world.prober is not None
    with contextlib.suppress(Exception):
        world.popen.wait(STOP_TIMEOUT_S + 10)
    took_s = time.monotonic() - begun_s
    for each in reversed(undo):
        each()
    world.prober.close()
    if world.popen.returncode is None:
        raise Violation(f"stop: it still runs after {took_s:.1f} s; below it {below(world.popen.pid)}")
    if world.popen.returncode != 0:
        raise Violation(f"exit code: {world.popen.returncode} {world.errors()}")
    if took_s > STOP_TIMEOUT_S + _OVERRUN_S + SETTLE_S / 4:
        raise Violation(f"stop: it took {took_s:.1f} s")
    left = [f"{pid} {environment_of(pid)}" for pid in world.marked()]
    _look(world, "left after the stop", left)
    world.close_output()
    if not world.unread:
        _look(world, "lines", world.output.missing())
    world.ended = True
    _look(world, "files", [name for name in ("http", "control.sock") if (world.run_dir / name).exists()])
    _look_back(world)
