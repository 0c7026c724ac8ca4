"""Refuses each place in the code that asks the kernel for something, once with each error that it can give.

    python -m tests.chaos.refused_sites [MODULE …]

Lives are played first with everything written down that is asked, so that it is known which life comes by which place.
Then they are played again with some places of different modules refused in each. Where that goes wrong, each of them is
refused alone. Unlike strace (refusals.py), this reaches every thread and the helper for databases, and the very place.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import supervisor
from tests.chaos.refusal_table import ERRORS, HARMLESS, KERNEL, METHODS, UNREAL, Site, calls_of, sites
from tests.chaos.refused_lives import COMMANDS, LIVES, WORKERS, Outcome, Way, crashes, end_shared, wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PROGRAM = (sys.executable, "-I", str(Path(__file__).with_name("refusing.py")))
_PACKAGE = str(Path(supervisor.__file__).parent)
_AT_ONCE = 6
# Python itself asks again then, and no code of ours hears of it.
_UNHEARD = "EINTR"


class Refusal(NamedTuple):
    """A place, and the error that it is to hear."""

    site: Site
    error: str


def refusals_of(site: Site) -> list[Refusal]:
    """Return all that a place may hear."""
    never = {_UNHEARD, UNREAL.get((site.module, site.name))}
    errors = [error for call_name in calls_of(site.name) for error in ERRORS[call_name] if error not in never]
    if "clone3" in calls_of(site.name):
        errors = ["no thread"]
    return [Refusal(site, error) for error in dict.fromkeys(errors)]


def play(life: str, refused: Iterable[Refusal] = ()) -> tuple[Outcome, set[Site], set[Refusal]]:
    """Play a life; return how it went, which places it came by, and what was refused."""
    with tempfile.TemporaryDirectory(prefix="refused-") as folder:
        log = Path(folder) / "log"
        # The helper for databases writes there as the app's user.
        log.touch()
        log.chmod(0o666)
        Path(folder).chmod(0o755)
        told = {
            "names": sorted(set(KERNEL) - HARMLESS),
            "methods": sorted(METHODS),
            "package": _PACKAGE,
            "log": str(log),
            "refuse": [{**_short(site)._asdict(), "error": error} for site, error in refused],
        }
        outcome = (LIVES | COMMANDS)[life](Way(program=_PROGRAM, env={"CHAOS_REFUSING": json.dumps(told)}))
        seen = [json.loads(line) for line in log.read_text().splitlines()]
    reached = {_whole(Site(*each[:3])) for each in seen}
    return outcome, reached, {Refusal(_whole(Site(*each[:3])), each[3]) for each in seen if each[3]}


def _short(site: Site) -> Site:
    return site._replace(module=site.module.removeprefix("supervisor."))


def _whole(site: Site) -> Site:
    return site._replace(module=f"supervisor.{site.module}")


def groups(refusals: Sequence[Refusal]) -> Iterable[list[Refusal]]:
    """Put refusals of different modules together."""
    left = [*refusals]
    while left:
        group: dict[str, Refusal] = {}
        for each in left:
            if len(group) < _AT_ONCE:
                group.setdefault(each.site.module, each)
        yield [*group.values()]
        left = [each for each in left if group.get(each.site.module) != each]


class Trial:
    """Tries refusals, and counts what came of them."""

    def __init__(self) -> None:
        self.refused: set[Refusal] = set()
        self.bad = 0
        self._counting = threading.Lock()

    def try_all(self, life: str, wanted: Sequence[Refusal]) -> None:
        """Try these in a life that comes by their places."""
        with ThreadPoolExecutor(WORKERS) as pool:
            for _ in pool.map(lambda group: self._try_group(life, group), groups(wanted)):
                pass

    def _try_group(self, life: str, group: list[Refusal]) -> None:
        outcome, _, refused = play(life, group)
        self.refused |= refused
        alone = [each for each in group if each not in refused or wrong(outcome) or crashes(outcome)]
        if len(group) > 1:
            for each in alone:
                self._judge(life, each)
        elif alone:
            self._tell(life, group[0], outcome)

    def _judge(self, life: str, refusal: Refusal) -> None:
        outcome, _, refused = play(life, [refusal])
        self.refused |= refused
        self._tell(life, refusal, outcome)

    def _tell(self, life: str, refusal: Refusal, outcome: Outcome) -> None:
        what = wrong(outcome)
        with self._counting:
            self.bad += bool(what)
        for word in [what] if what else [f"lived with: {each}" for each in crashes(outcome)]:
            site = refusal.site
            print(f"  {site.module}:{site.line} {site.name} {refusal.error}, {life}: {word}", flush=True)


def main() -> int:
    """Try all places, or those of the modules named; return how often something was wrong."""
    begun_s = time.monotonic()
    own = sorted({site for site in sites() if site.calls and calls_of(site.name)})
    chosen = [site for site in own if not sys.argv[1:] or site.module.removeprefix("supervisor.") in sys.argv[1:]]
    trial = Trial()
    left = set(chosen)
    for life in LIVES | COMMANDS:
        outcome, reached, _ = play(life)
        assert not outcome.short, f"nothing was refused, and yet the life {life} was cut short: {outcome.short}"
        here = sorted(left & reached)
        left -= reached
        wanted = [refusal for site in here for refusal in refusals_of(site)]
        print(f"{life}: comes by {len(reached)} places, {len(wanted)} refusals", flush=True)
        # All first errors, then all second ones: those of one place are never together.
        wanted.sort(key=lambda each: (refusals_of(each.site).index(each), each.site.line))
        trial.try_all(life, wanted)
    print(
        f"{len(trial.refused)} refusals at {len(chosen) - len(left)} of {len(chosen)} places, {trial.bad} not as they "
        f"should be; {time.monotonic() - begun_s:.0f} s"
    )
    for site in sorted(left):
        print(f"  no life comes by {site.module}:{site.line} {site.name}")
    return trial.bad


if __name__ == "__main__":
    try:
        status = main()
    finally:
        end_shared()
    sys.exit(1 if status else 0)
