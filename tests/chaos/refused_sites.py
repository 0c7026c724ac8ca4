"""Makes each place in the code that makes a system call fail once, with each possible error.

    python -m tests.chaos.refused_sites [MODULE …]

Lives are first played with all calls recorded, to determine which life reaches which place.
Then they are replayed with refusals at several places of different modules each. If that goes wrong, each of these is
refused alone. Unlike strace (refusals.py), this reaches every thread, the helper for databases, and the exact place.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import supervisor
from tests.chaos.refusal_table import ERRORS, HARMLESS, KERNEL, METHODS, UNREAL, Site, calls_of, sites
from tests.chaos.refused_lives import COMMANDS, LIVES, Outcome, Way, crashes, workers, wrong
from tests.chaos.refused_returns import coming_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALL = {**LIVES, "coming back": coming_back, **COMMANDS}
_PROGRAM = (sys.executable, "-I", str(Path(__file__).with_name("refusing.py")))
_PACKAGE = str(Path(supervisor.__file__).parent)
_AT_ONCE = 6
# Python itself repeats the call, unnoticed by our code.
_UNHEARD = "EINTR"


class Refusal(NamedTuple):
    """A place, and the error with which it fails."""

    site: Site
    error: str


def refusals_of(site: Site) -> list[Refusal]:
    """Return all refusals of a place."""
    never = {_UNHEARD, UNREAL.get((site.module, site.name))}
    errors = [error for call_name in calls_of(site.name) for error in ERRORS[call_name] if error not in never]
    if "clone3" in calls_of(site.name):
        errors = ["no thread"]
    return [Refusal(site, error) for error in dict.fromkeys(errors)]


def play(life: str, refused: Iterable[Refusal] = ()) -> tuple[Outcome, set[Site], set[Refusal]]:
    """Play a life; return its outcome, the places reached, and what was refused."""
    with tempfile.TemporaryDirectory(prefix="refused-") as folder:
        log = Path(folder) / "log"
        # The helper for databases writes to it as the app's user.
        log.touch()
        log.chmod(0o666)
        Path(folder).chmod(0o755)
        outcome = ALL[life](refusing(refused, log))
        seen = [json.loads(line) for line in log.read_text().splitlines()]
    reached = {_whole(Site(*each[:3])) for each in seen}
    return outcome, reached, {Refusal(_whole(Site(*each[:3])), each[3]) for each in seen if each[3]}


def refusing(refused: Iterable[Refusal], log: Path) -> Way:
    """Return how to start the program with these refusals; places and refusals are written to ``log``."""
    told = {
        "names": sorted(set(KERNEL) - HARMLESS),
        "methods": sorted(METHODS),
        "package": _PACKAGE,
        "log": str(log),
        "refuse": [{**_short(site)._asdict(), "error": error} for site, error in refused],
    }
    return Way(program=_PROGRAM, env={"CHAOS_REFUSING": json.dumps(told)})


def _short(site: Site) -> Site:
    return site._replace(module=site.module.removeprefix("supervisor."))


def _whole(site: Site) -> Site:
    return site._replace(module=f"supervisor.{site.module}")


def groups(refusals: Sequence[Refusal]) -> Iterable[list[Refusal]]:
    """Group refusals of different modules."""
    left = [*refusals]
    while left:
        group: dict[str, Refusal] = {}
        for each in left:
            if len(group) < _AT_ONCE:
                group.setdefault(each.site.module, each)
        yield [*group.values()]
        left = [each for each in left if group.get(each.site.module) != each]


class Tried(NamedTuple):
    """The refusals, and the number of wrong outcomes."""

    refused: frozenset[Refusal]
    bad: int


def try_group(life: str, group: list[Refusal]) -> Tried:
    """Refuse all of these in one life; if the outcome is wrong, refuse the possible causes alone."""
    outcome, _, refused = play(life, group)
    if len(group) == 1:
        return Tried(frozenset(refused), _tell(life, group[0], outcome))
    bad = 0
    for each in [each for each in group if each not in refused or wrong(outcome) or crashes(outcome)]:
        alone, _, too = play(life, [each])
        refused |= too
        bad += _tell(life, each, alone)
    return Tried(frozenset(refused), bad)


def _tell(life: str, refusal: Refusal, outcome: Outcome) -> bool:
    what = wrong(outcome)
    for word in [what] if what else [f"lived with: {each}" for each in crashes(outcome)]:
        site = refusal.site
        print(f"  {site.module}:{site.line} {site.name} {refusal.error}, {life}: {word}", flush=True)
    return bool(what)


def main() -> int:
    """Try all places, or those of the named modules; return the number of wrong outcomes."""
    begun_s = time.monotonic()
    own = sorted({site for site in sites() if site.calls and calls_of(site.name)})
    chosen = [site for site in own if not sys.argv[1:] or site.module.removeprefix("supervisor.") in sys.argv[1:]]
    left = set(chosen)
    wanted: list[tuple[str, list[Refusal]]] = []
    with workers() as pool:
        lives = [*ALL]
        for life, (outcome, reached, _) in zip(lives, pool.map(play, lives), strict=True):
            assert not outcome.short, f"nothing was refused, and yet the life {life} was cut short: {outcome.short}"
            refusals = [refusal for site in sorted(left & reached) for refusal in refusals_of(site)]
            left -= reached
            print(f"{life}: reaches {len(reached)} places, {len(refusals)} refusals", flush=True)
            # All first errors, then all second ones: those of one place are never in one group.
            refusals.sort(key=lambda each: (refusals_of(each.site).index(each), each.site.line))
            wanted += [(life, group) for group in groups(refusals)]
        tried = list(pool.map(try_group, *zip(*wanted, strict=True)))
    refused = frozenset[Refusal]().union(*(each.refused for each in tried))
    bad = sum(each.bad for each in tried)
    print(
        f"{len(refused)} refusals at {len(chosen) - len(left)} of {len(chosen)} places, {bad} with a wrong outcome; "
        f"{time.monotonic() - begun_s:.0f} s"
    )
    for site in sorted(left):
        print(f"  no life reaches {site.module}:{site.line} {site.name}")
    return bad


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
