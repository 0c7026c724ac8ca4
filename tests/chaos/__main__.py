"""Injects random faults into the supervisor and prints violated conditions: `python -m tests.chaos --help`."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections import Counter

from tests.chaos import plan, prober, surroundings, world
from tests.chaos.boxed import playable
from tests.chaos.catalogue import FLAVOURS, IMAGES, KINDS, PHASES, has, pairs
from tests.chaos.rounds import CROWDED, Violation, play
from tests.chaos.shrink import shrink
from tests.chaos.surroundings import end_shared

# How often a life is replayed after a violation that a busy machine may have caused.
_REPLAYS = 3


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
    flavours = _playable(options.flavours)
    seed = options.seed or secrets.token_hex(4)
    print(f"seed {seed}", flush=True)
    begun_s = time.monotonic()
    end_s = begun_s + (options.seconds or 1e9)
    met: Counter[tuple[str, str]] = Counter()
    number = rounds = violations = late = 0
    for life in [plan.storm(seed, options.deploys)] if options.deploys else plan.lives(seed, flavours):
        if time.monotonic() > end_s or (rounds >= options.rounds and not _lacking(met, options.met, flavours)):
            break
        number += 1
        if options.verbose:
            print(f"{time.monotonic() - begun_s:8.1f} s  {life}", flush=True)
        rounds += len(life.rounds)
        try:
            play(life, met)
        except Violation as violation:
            if not _again(life, violation):
                late += 1
                continue
            violations += 1
            print(f"VIOLATION in life {number - 1} of seed {seed}: {violation}", flush=True)
            _tell(shrink(life, violation) if options.shrink else life)
            if violations >= options.most:
                break
    if options.table:
        _print_table(met, flavours)
    print(
        f"seed {seed}: {rounds} rounds, {number} lives, {violations} violations; "
        f"{late} lives were late, or short of last lines, and not when played again"
    )
    return 1 if violations else 0


def _playable(flavours: list[str]) -> list[str]:
    """Return those that can be played here, and print the others."""
    missing = {flavour for flavour in flavours if flavour in IMAGES and not playable([flavour])}
    if missing:
        print(f"not played, as this engine has no runtime runsc: {', '.join(missing)}", flush=True)
    return [flavour for flavour in flavours if flavour not in missing]


def _again(life: plan.Life, violation: Violation) -> bool:
    """Return whether a violation counts: one that a busy machine may cause has to occur in each replay of the life.

    Not every delay of such a machine can be subtracted; something that blocks the loop does so each time.
    """
    return not str(violation).startswith(CROWDED) or all(_is_crowded(life) for _ in range(_REPLAYS))


def _is_crowded(life: plan.Life) -> bool:
    try:
        play(life, Counter())
    except Violation as second:
        return str(second).startswith(CROWDED)
    return False


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
    parser.add_argument("--most", type=int, default=5, help="end after this many violations")
    parser.add_argument("--verbose", action="store_true", help="print each life before it is played")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    parser.add_argument("--no-table", dest="table", action="store_false")
    return parser.parse_args()


def _play_one(life: plan.Life) -> int:
    try:
        play(life, Counter())
    except Violation as violation:
        print(f"VIOLATION: {violation}")
        return 1
    print("it held")
    return 0


def _tell(life: plan.Life) -> None:
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
