"""Plays lives, one after the other or several at a time, each of those in a process and a network of its own.

A member of the crew is this module as a program: it reads one life per line, and answers each with a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.chaos import plan, prober, world
from tests.chaos.rounds import CROWDED, Violation, play
from tests.chaos.shrink import shrink
from tests.chaos.surroundings import end_shared

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from tests.chaos.plan import Life

# How often a life is replayed after a violation that a busy machine may have caused.
_REPLAYS = 3
# Lives listen on the same addresses.
_ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


class Outcome(NamedTuple):
    """What came of a life: the violation, if any, and the smallest life that shows it.

    ``late``: there was one that a busy machine causes, and it did not occur again in most replays.
    """

    met: Counter[tuple[str, str]]
    violation: str = ""
    smallest: str = ""
    late: bool = False


def play_through(life: Life, *, shrinks: bool = False) -> Outcome:
    """Play a life, replay it if a busy machine may have caused its violation, and reduce it if asked to."""
    met: Counter[tuple[str, str]] = Counter()
    violation = _violation(life, met)
    if violation is None:
        return Outcome(met)
    counted = _replayed(life, violation) if _is_crowded(violation) else violation
    if counted is None:
        return Outcome(met, late=True)
    return Outcome(met, str(counted), str(shrink(life, counted) if shrinks else life))


def _replayed(life: Life, first: Violation) -> Violation | None:
    """Return the violation that counts: any other one of a replay, or this kind if it occurs in most of them.

    Not every delay of a busy machine can be subtracted; something that blocks the loop does so each time.
    """
    again = 0
    for done in range(_REPLAYS):
        violation = _violation(life, Counter())
        if violation is not None and not _is_crowded(violation):
            return violation
        again += violation is not None
        if again > _REPLAYS // 2:
            return first
        if done - again >= _REPLAYS // 2:
            return None
    return None


def _violation(life: Life, met: Counter[tuple[str, str]]) -> Violation | None:
    try:
        play(life, met)
    except Violation as violation:
        return violation
    return None


def _is_crowded(violation: Violation) -> bool:
    return str(violation).startswith(CROWDED)


def may_be_alone() -> bool:
    """Return whether lives can be played at the same time: that takes root and iproute2, for namespaces."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def outcomes(
    lives: Iterable[Life], at_once: int, *, shrinks: bool = False
) -> Generator[tuple[Life, Outcome], None, None]:
    """Yield each life with its outcome, of this many at a time."""
    if at_once == 1:
        for life in lives:
            yield life, play_through(life, shrinks=shrinks)
        return
    with Crew(at_once, shrinks=shrinks) as crew:
        yield from crew.play(lives)


class Crew:
    """Several processes that play lives; ending the block ends them."""

    def __init__(self, members: int, *, shrinks: bool) -> None:
        self._members = [_Member(shrinks=shrinks) for _ in range(members)]
        self._free: SimpleQueue[_Member] = SimpleQueue()
        for member in self._members:
            self._free.put(member)
        self._pool = ThreadPoolExecutor(members)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.terminate()
        self._pool.shutdown()
        for member in self._members:
            member.close()

    def play(self, lives: Iterable[Life]) -> Iterator[tuple[Life, Outcome]]:
        """Yield each life with its outcome, as they come; no life is taken from ``lives`` before a member is free."""
        coming = iter(lives)
        running = {self._pool.submit(self._play, life): life for life in islice(coming, len(self._members))}
        while running:
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()
                running |= {self._pool.submit(self._play, life): life for life in islice(coming, 1)}

    def _play(self, life: Life) -> Outcome:
        member = self._free.get()
        try:
            return member.play(life)
        finally:
            self._free.put(member)


class _Member:
    """One process of the crew."""

    def __init__(self, *, shrinks: bool) -> None:
        words = [*_ALONE, sys.executable, "-m", __spec__.name, world.package, "shrink" if shrinks else ""]
        # In a session of its own: Ctrl-C is answered by the crew's end, which lets a member remove what it made.
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def play(self, life: Life) -> Outcome:
        """Have it play a life. Raises RuntimeError if it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(life, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a process that plays lives ended with {self._process.wait()}, in: {life}")
        met, *others = json.loads(answer)
        return Outcome(Counter({(kind, phase): count for kind, phase, count in met}), *others)

    def terminate(self) -> None:
        """Have it end itself and what it started, also within a life."""
        self._process.terminate()

    def close(self) -> None:
        """Wait for its end."""
        with self._process:
            pass


def _serve(package: str, *, shrinks: bool) -> None:
    """Play the lives on standard input, and write their outcomes."""
    world.package = package
    # What else prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Measured before any fault.
    prober.slowness()
    for line in sys.stdin:
        met, *others = play_through(plan.parse(line.rstrip("\n")), shrinks=shrinks)
        print(json.dumps([[(*pair, count) for pair, count in met.items()], *others]), file=answers, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _serve(sys.argv[1], shrinks=bool(sys.argv[2]))
    finally:
        end_shared()
