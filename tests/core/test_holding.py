"""Who holds a repository: as pure functions, and as a model of instances with unreliable clocks and messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.holding import (
    MOST_LOOK_S,
    SILENCE_S,
    Claim,
    Flaw,
    LeaseRecord,
    LeaseWatch,
    Seen,
    Standing,
    Unreadable,
    observe,
    stand,
)

OTHER = LeaseRecord("other", 3, 7, "their files")
UNKNOWN = Unreadable(Flaw.UNKNOWN, "other", 7)
FOREIGN = Unreadable(Flaw.FORGED, "other", 7)
RUBBISH = Unreadable(Flaw.FORGED)


@pytest.mark.parametrize(
    ("seen", "files", "still_s", "verdict"),
    [
        (None, "", 0.0, Claim.TAKE),
        (OTHER, "", 0.0, Claim.WAIT),
        (OTHER, "", SILENCE_S - 1, Claim.WAIT),
        (OTHER, "", SILENCE_S, Claim.TAKE),
        (OTHER._replace(released=True), "", 0.0, Claim.TAKE),
        (OTHER, "their files", 0.0, Claim.TAKE),
        (OTHER._replace(files=""), "", 0.0, Claim.WAIT),
        (UNKNOWN, "", SILENCE_S * 9, Claim.ASK),
        (FOREIGN, "", SILENCE_S * 9, Claim.ASK),
    ],
)
def test_what_a_new_instance_does(seen: Seen, files: str, still_s: float, verdict: Claim) -> None:
    """A free or released one is taken at once, a silent one in time, an unreadable one never automatically."""
    watch, first = observe(LeaseWatch(), seen, files, 100.0)
    assert verdict is (first if still_s == 0 else looked(watch, seen, still_s)[1])


def looked(watch: LeaseWatch, seen: Seen, for_s: float) -> tuple[LeaseWatch, Claim]:
    """Look every second for this long; return the result of the last look."""
    now_s = watch.looked_s or 0.0
    verdict = Claim.WAIT
    for second in range(1, int(for_s) + 1):
        watch, verdict = observe(watch, seen, "", now_s + second)
    return watch, verdict


def test_one_that_is_gone_is_waited_for_where_there_are_snapshots() -> None:
    """Its holder writes it again at the next renewal; only if none does, it is free."""
    watch, verdict = observe(LeaseWatch(), None, "", 0.0, fresh=False)
    assert verdict is Claim.WAIT
    assert looked(watch, None, SILENCE_S - 1)[1] is Claim.WAIT
    assert looked(watch, None, SILENCE_S)[1] is Claim.TAKE
    watch, _ = observe(LeaseWatch(), OTHER, "", 0.0)
    assert observe(watch, None, "", 1.0)[1] is Claim.WAIT


def test_time_in_which_nothing_was_seen_is_no_silence() -> None:
    """The bucket may have been away for both, or this program did not run: the holder gets time to renew."""
    watch, _ = observe(LeaseWatch(), OTHER, "", 0.0)
    watch, verdict = observe(watch, OTHER, "", 10_000.0)
    assert verdict is Claim.WAIT
    assert looked(watch, OTHER, SILENCE_S - MOST_LOOK_S - 1)[1] is Claim.WAIT


def test_a_counter_that_moves_begins_the_wait_anew() -> None:
    """Silence is measured from the counter's last change, by the watcher's own clock."""
    watch, _ = observe(LeaseWatch(), OTHER, "", 0.0)
    watch, verdict = looked(watch, OTHER, SILENCE_S - 1)
    assert verdict is Claim.WAIT
    moved = OTHER._replace(counter=8)
    watch, verdict = observe(watch, moved, "", SILENCE_S)
    assert verdict is Claim.WAIT
    assert looked(watch, moved, SILENCE_S - 1)[1] is Claim.WAIT
    assert looked(watch, moved, SILENCE_S)[1] is Claim.TAKE


@pytest.mark.parametrize("rival", [None, FOREIGN, FOREIGN._replace(instance="third")])
@pytest.mark.parametrize(
    ("seen", "standing"),
    [
        (LeaseRecord("me"), Standing.MINE),
        (LeaseRecord("me", released=True), Standing.MINE),
        (OTHER, Standing.LOST),
        (OTHER._replace(released=True), Standing.LOST),
        (UNKNOWN, Standing.LOST),
        (UNKNOWN._replace(instance="me"), Standing.LOST),
        (None, Standing.GONE),
        (RUBBISH, Standing.GONE),
        (RUBBISH._replace(counter=9), Standing.GONE),
        # Its own, as it was before its password was changed.
        (FOREIGN._replace(instance="me"), Standing.GONE),
    ],
)
def test_how_a_holder_stands(seen: Seen, rival: Unreadable | None, standing: Standing) -> None:
    """What is gone or nobody's is written again; another's, and what may be another's, is not touched."""
    assert stand(seen, "me", rival) is standing


def test_what_names_another_one_and_cannot_be_read_counts_if_it_changes() -> None:
    """Anybody may write it once, and the same again; only another instance with another password keeps writing it."""
    moved = FOREIGN._replace(counter=8)
    assert stand(FOREIGN, "me") is stand(FOREIGN, "me", FOREIGN) is Standing.RIVAL
    assert stand(moved, "me", FOREIGN) is stand(FOREIGN._replace(instance="third"), "me", FOREIGN) is Standing.LOST


def test_what_cannot_be_read_is_watched() -> None:
    """It moves from its first change until it is silent: an object that nobody renews has no holder that lives."""
    watch, verdict = observe(LeaseWatch(), FOREIGN, "", 0.0)
    assert (verdict, watch.moves, watch.is_silent) == (Claim.ASK, False, False)
    watch, verdict = observe(watch, FOREIGN._replace(counter=8), "", 1.0)
    assert (verdict, watch.moves, watch.is_silent) == (Claim.ASK, True, False)
    watch, verdict = looked(watch, watch.seen, SILENCE_S - 1)
    assert (verdict, watch.moves, watch.is_silent) == (Claim.ASK, True, False)
    watch, verdict = looked(watch, watch.seen, 1)
    assert (verdict, watch.moves, watch.is_silent) == (Claim.ASK, False, True)


class Instance:
    """A model of an instance: it looks when it is its turn, and may be frozen for any time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.watch = LeaseWatch()
        self.holds = False
        self.generation = 0

    def turn(self, world: dict[str, LeaseRecord], now_s: float) -> None:
        """Look at the object and act, in one step, as by a conditional write."""
        seen = world.get("object")
        if self.holds:
            if stand(seen, self.name) is Standing.LOST:
                self.holds = False
            else:
                counter = 0 if seen is None else seen.counter + 1
                world["object"] = LeaseRecord(self.name, self.generation, counter)
            return
        self.watch, verdict = observe(self.watch, seen, "", now_s)
        if verdict is Claim.TAKE:
            self.generation = (0 if seen is None else seen.generation) + 1
            self.holds = True
            world["object"] = LeaseRecord(self.name, self.generation, 0 if seen is None else seen.counter + 1)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 70.0)), max_size=60))
def test_never_two_of_one_generation(turns: list[tuple[str, float]]) -> None:
    """However long any is frozen, two that believe they hold it differ in generation, and the newer one counts."""
    world: dict[str, LeaseRecord] = {}
    instances = {name: Instance(name) for name in "abc"}
    now_s = 0.0
    for name, passes_s in turns:
        now_s += passes_s
        instances[name].turn(world, now_s)
        holders = [each for each in instances.values() if each.holds]
        generations = [each.generation for each in holders]
        assert len(set(generations)) == len(generations)
        if "object" in world:
            assert world["object"].generation == max(each.generation for each in instances.values())
