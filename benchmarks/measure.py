"""What a measure is, and the table of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers import Peer


class Bench(NamedTuple):
    """What measures work with: the compiled programs, the peers that are here, and how often to repeat."""

    programs: dict[str, str]
    peers: tuple[Peer, ...]
    rounds: int
    quick: bool


class Result(NamedTuple):
    """One peer's figure; ``note`` is what else there is to say of it."""

    value: float | None
    note: str = ""


def at_most(found: dict[str, Result], most: float) -> bool:
    """Return whether there is a figure of ours, and it is no larger than this."""
    value = found["ours"].value
    return value is not None and value <= most


class Measure(NamedTuple):
    """One row of the table. ``target`` is what ours is to reach, in words; ``reached`` judges it."""

    name: str
    title: str
    unit: str
    target: str
    reached: Callable[[dict[str, Result]], bool]
    take: Callable[[Bench], dict[str, Result]]
    digits: int = 1
