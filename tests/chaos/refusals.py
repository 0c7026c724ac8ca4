"""Makes one system call of the real supervisor fail once, with each of its errors, by strace's fault injection.

    python -m tests.chaos.refusals [CALL …] [LIFE …]

The calls are derived from the code (refusal_table.py). For each of them a life is traced first, and
then replayed with the call refused at one place: in the first thread from the start of our own code
on, in every other thread from its beginning, and in a new process until its exec. The supervisor may continue
as if nothing had happened, or end with one clear message and a documented exit code; never with a traceback, with a
child left, or not at all.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.refusal_table import ERRORS, calls_of, sites
from tests.chaos.refused_lives import LIVES, Outcome, Way, crashes, workers, wrong

# Marks the point in a trace where Python's startup is over and our own code runs.
_OURS = "supervisor/commands/__pycache__/run."
# How many places of a call are tried in each kind of life.
_PLACES = {"plain": 6, "keeping": 3, "in a tailnet": 3}


def _tracing(call_name: str, trace: str, more: tuple[str, ...] = ()) -> Way:
    """Return the command prefix for tracing; processes that it starts are released at their exec."""
    return Way(("strace", "-D", "-f", "-qq", "-b", "execve", "-o", trace, "-e", f"trace={call_name}", *more))


def places(call_name: str, life: str = "plain") -> list[int]:
    """Return the places in a life at which our own code makes this call, as its ordinal number within each thread.

    A number means that call of every thread; the calls of Python's startup are not among them.
    """
    with tempfile.TemporaryDirectory(prefix="refused-") as folder:
        trace = f"{folder}/trace"
        outcome = LIVES[life](_tracing(f"openat,{call_name}", trace))
        assert not outcome.short, f"nothing was refused, and yet the life {life} was cut short: {outcome.short}"
        lines = [line.split(maxsplit=1) for line in Path(trace).read_text().splitlines()]
    first = lines[0][0]
    begin = next(number for number, (thread, line) in enumerate(lines) if thread == first and _OURS in line)
    counts = {thread: 0 for thread, _ in lines}
    before = sum(thread == first and line.startswith(f"{call_name}(") for thread, line in lines[:begin])
    for thread, line in lines:
        counts[thread] += line.startswith(f"{call_name}(")
    return list(range(before + 1, max(counts.values()) + 1))


def refuse(call_name: str, error: str, place: int, life: str = "plain") -> Outcome:
    """Play a life in which this call fails at one place."""
    with tempfile.TemporaryDirectory(prefix="refused-") as folder:
        inject = ("-e", f"inject={call_name}:error={error}:when={place}")
        return LIVES[life](_tracing(call_name, f"{folder}/trace", inject))


def try_call(call_name: str, life: str) -> tuple[int, int]:
    """Try a call in one kind of life; return the number of refusals, and of those with a wrong outcome."""
    begun_s = time.monotonic()
    try:
        own = places(call_name, life)
    except AssertionError as reason:
        print(f"{call_name:15} cannot be tried, {life}: {reason}", flush=True)
        return 0, 1
    most = _PLACES[life]
    chosen = sorted(random.Random(call_name).sample(own, min(most, len(own))))
    tried = bad = 0
    for error in ERRORS[call_name]:
        for place in chosen:
            tried += 1
            outcome = refuse(call_name, error, place, life)
            what = wrong(outcome)
            bad += bool(what)
            for word in [what] if what else [f"lived with: {each}" for each in crashes(outcome)]:
                print(f"  {call_name} {error} at {place} of {own[-1]}, {life}: {word}", flush=True)
    took_s = time.monotonic() - begun_s
    tried_here = f"{len(chosen):3} of {len(own):4} places, {life}"
    print(f"{call_name:15} {tried_here:34}  {' '.join(ERRORS[call_name])}  {took_s:.0f} s", flush=True)
    return tried, bad


def main() -> int:
    """Try all calls in all lives, or those named, several at a time; return the number of wrong outcomes."""
    begun_s = time.monotonic()
    lives = [word for word in sys.argv[1:] if word in _PLACES] or [*_PLACES]
    wanted = [word for word in sys.argv[1:] if word not in _PLACES]
    wanted = wanted or sorted({each for site in sites() for each in calls_of(site.name)})
    # The long ones first, so that they do not run alone at the end.
    pairs = [(call_name, life) for life in reversed(lives) for call_name in wanted]
    with workers() as pool:
        counts = list(pool.map(try_call, *zip(*pairs, strict=True)))
    bad = sum(each for _, each in counts)
    took_s = time.monotonic() - begun_s
    print(f"{sum(each for each, _ in counts)} refusals, {bad} of them with a wrong outcome; {took_s:.0f} s")
    return bad


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
