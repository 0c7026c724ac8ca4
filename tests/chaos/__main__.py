"""Injects random faults into the supervisor and prints violated conditions: `python -m tests.chaos --help`."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos import plan, prober, surroundings, world
from tests.chaos.boxed import playable
from tests.chaos.catalogue import FLAVOURS, IMAGES, KINDS, PHASES, has, pairs
from tests.chaos.crew import outcomes
from tests.chaos.rounds import Violation, play
from tests.chaos.surroundings import end_shared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.plan import Life


def main() -> int:
    """Play lives until there were enough rounds or the time is up; return 1 if there was a violation."""
    # TERM also ends everything that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options()
    world.package = options.package
    surroundings.built = options.built
    # Measured before any fault.
    prober.slowness()
    if options.life:
        return _play_one(plan.parse(options.life))
    options.flavours = _playable(options.flavours)
    options.seed = options.seed or secrets.token_hex(4)
    print(f"seed {options.seed}", flush=True)
    count = Count()
    with contextlib.closing(outcomes(_chosen(options, count), options.at_once, shrinks=options.shrink)) as played:
        for life, outcome in played:
            count.met += outcome.met
            count.late += outcome.late
            if outcome.violation:
                count.violations += 1
                print(f"VIOLATION in `{life}` of seed {options.seed}: {outcome.violation}", flush=True)
                _tell(plan.parse(outcome.smallest))
                if count.violations >= options.most:
                    break
    if options.table:
        _print_table(count.met, options.flavours)
    print(
        f"seed {options.seed}: {count.rounds} rounds, {count.lives} lives, {count.violations} violations; "
        f"{count.late} lives were late, or short of last lines, and not when played again"
    )
    return 1 if count.violations else 0


class Count:
    """What was played so far; ``met`` counts the faults by kind and phase."""

    def __init__(self) -> None:
        self.met: Counter[tuple[str, str]] = Counter()
        self.rounds = self.lives = self.violations = self.late = 0


def _chosen(options: argparse.Namespace, count: Count) -> Iterator[Life]:
    """Yield the lives to play, and count them, until there were enough or the time is up."""
    begun_s = time.monotonic()
    for life in (
        [plan.storm(options.seed, options.deploys)] if options.deploys else plan.lives(options.seed, options.flavours)
    ):
        passed_s = time.monotonic() - begun_s
        enough = count.rounds >= options.rounds and not _lacking(count.met, options.met, options.flavours)
        if enough or (options.seconds and passed_s > options.seconds):
            return
        count.lives += 1
        count.rounds += len(life.rounds)
        if options.verbose:
            print(f"{passed_s:8.1f} s  {life}", flush=True)
        yield life


def _playable(flavours: list[str]) -> list[str]:
    """Return those that can be played here, and print the others."""
    missing = {flavour for flavour in flavours if flavour in IMAGES and not playable([flavour])}
    if missing:
        print(f"not played, as this engine has no runtime runsc: {', '.join(missing)}", flush=True)
    return [flavour for flavour in flavours if flavour not in missing]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", default="", help="determines everything; random by default")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--flavours", type=lambda text: text.split(","), default=[*FLAVOURS], help="kinds of lives")
    parser.add_argument(
        "--image",
        dest="flavours",
        action="store_const",
        const=[*IMAGES],
        help="the lives in the image, which need an engine",
    )
    parser.add_argument("--built", default="", help="the image, if it is built already")
    parser.add_argument("--deploys", type=int, default=0, help="play one life with this many deploys in a row instead")
    parser.add_argument("--met", type=int, default=0, help="continue until each kind has met each phase this often")
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no life after this time")
    parser.add_argument("--life", default="", help="play only this life, as printed after a violation")
    parser.add_argument("--package", default="", help="the folder of another copy of the package")
    parser.add_argument(
        "--at-once", type=int, default=1, help="play this many lives at a time (as root, and without an image)"
    )
    parser.add_argument("--most", type=int, default=5, help="end after this many violations")
    parser.add_argument("--verbose", action="store_true", help="print each life before it is played")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    parser.add_argument("--no-table", dest="table", action="store_false")
    options = parser.parse_args()
    if options.at_once > 1 and {*options.flavours} & {*IMAGES}:
        parser.error("lives in the image cannot be played at once: each needs the engine's network")
    return options


def _play_one(life: Life) -> int:
    try:
        play(life, Counter())
    except Violation as violation:
        print(f"VIOLATION: {violation}")
        return 1
    print("it held")
    return 0


def _tell(life: Life) -> None:
    task = "chaos-image" if life.flavour in IMAGES else "chaos"
    print(f"repeat it with: make {task} LIFE='{life}'", flush=True)


def _lacking(met: Counter[tuple[str, str]], often: int, flavours: list[str]) -> list[str]:
    """Return the kinds that have met a phase less often than that, if they can in these flavours."""
    return [f"{kind} in {phase}" for kind, phase in sorted(pairs(flavours)) if met[kind, phase] < often]


def _print_table(met: Counter[tuple[str, str]], flavours: list[str]) -> None:
    possible = pairs(flavours)
    phases = [phase for phase in PHASES if any(phase == other for _, other in possible)]
    kinds = {name: kind for name, kind in KINDS.items() if {*has(kind)} & {*flavours}}
    print(f"{'kind':24}" + "".join(f"{phase:>10}" for phase in phases))
    for name in kinds:
        print(
            f"{name:24}" + "".join(f"{met[name, phase] if (name, phase) in possible else '-':>10}" for phase in phases)
        )
    for name, kind in kinds.items():
        for why in dict.fromkeys(kind.cannot.values()):
            print(f"never {name} in {', '.join(phase for phase in kind.cannot if kind.cannot[phase] == why)}: {why}")
    for name, kind in KINDS.items():
        for why in dict.fromkeys(kind.lacks.values()):
            without = [flavour for flavour in flavours if kind.lacks.get(flavour) == why]
            if without:
                print(f"never {name} in {', '.join(without)}: {why}")
    if "hand-over" in phases:
        print(f"{met['no last snapshot', 'hand-over']} ends in order had no last snapshot to take over")
    lacking = _lacking(met, plan.ENOUGH, flavours)
    print(f"{len(possible)} pairs, {len(lacking)} of them met less than {plan.ENOUGH} times: {', '.join(lacking[:20])}")


if __name__ == "__main__":
    try:
        status = main()
    finally:
        end_shared()
    sys.exit(status)
