"""Measures: their declaration, and the table of all of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers import Peer

INTERRUPTED = 128 + signal.SIGINT


class Bench(NamedTuple):
    """The input of measures: the compiled programs, the peers that are installed, and the number of rounds."""

    programs: dict[str, str]
    peers: tuple[Peer, ...]
    rounds: int
    quick: bool


class Result(NamedTuple):
    """One peer's figure, with a ``note``."""

    value: float | None
    note: str = ""


def at_most(found: dict[str, Result], most: float) -> bool:
    """Return a judgement: whether ours has a figure of at most this."""
    value = found["ours"].value
    return value is not None and value <= most


class Measure(NamedTuple):
    """One row of the table. ``target`` is our target as text; ``reached`` returns whether it is met."""

    name: str
    title: str
    unit: str
    target: str
    reached: Callable[[dict[str, Result]], bool]
    take: Callable[[Bench], dict[str, Result]]
    digits: int = 1


def take(measure: Measure, bench: Bench) -> dict[str, Result]:
    """Return the results; the failure of one measure does not affect the others."""
    try:
        return measure.take(bench)
    except (OSError, AssertionError, LookupError, ValueError, subprocess.SubprocessError) as error:
        return {"ours": Result(None, f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")}


def interrupted(measure: Measure) -> int:
    """Tell that a measure was interrupted; return the exit code."""
    sys.stderr.write(f"interrupted while measuring {measure.name}: the rows above are complete\n")
    return INTERRUPTED
