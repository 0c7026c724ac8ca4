"""Ending the processes that are left behind, a few at a time."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.system import sweeper as module
from supervisor.system.procfs import Process, look
from supervisor.system.sweeper import Headcount, Sweeper
from tests.support.processes import freeze
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """A function that starts children, which are ended afterwards."""
    pids = []

    def begin(*words: str, blocked: tuple[int, ...] = ()) -> int:
        env = {"PATH": os.environ["PATH"]}
        pids.append(os.posix_spawn("/bin/sh", ["sh", "-c", *words], env, setsid=True, setsigmask=blocked))
        return pids[-1]

    yield begin
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def living(*pids: int) -> Iterator[Process | None]:
    """Yield these processes as finders do."""
    return (look(pid) for pid in pids)


def a_pass(cleaner: Sweeper) -> None:
    """Make it look, and send its signals, once: on a busy machine a step may end in the middle of that."""
    wait_until(lambda: cleaner.work() or cleaner.left)


def test_each_turn_is_short_however_much_there_is_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which each look takes a millisecond, no turn takes more than a few."""
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 1000)
    cleaner = Sweeper(lambda: iter([None] * 1000))
    turns = 0
    over = False
    while not over:
        begun = next(clock)
        over = cleaner.work()
        turns += 1
        assert next(clock) - begun < 20
    assert turns > 100


def test_many_are_not_ended_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands that end at once would use up the processors: more follow when these were reaped, or later."""
    sent: list[int] = []
    monkeypatch.setattr(module, "send", lambda pid, _number: sent.append(pid))
    found = [Process(pid, "x", stopped=False, parent=1, group=1, session=1, born=1, folder="") for pid in range(1000)]
    cleaner = Sweeper(lambda: iter(found), term_grace_s=0.0)
    wait_until(lambda: cleaner.work() or len(sent) >= module._CROWD)
    assert len(sent) == module._CROWD
    for pid in sent[: module._CROWD * 3 // 4]:
        cleaner.forget(pid)
    # On a crowded machine a step may end before the first of them.
    wait_until(lambda: cleaner.work() or len(sent) > module._CROWD)
    assert module._CROWD < len(sent) < 2 * module._CROWD
    wait_until(lambda: cleaner.work() or len(sent) == 1000)
    assert cleaner.killed == set(range(1000))


def test_an_orphan_reaped_is_reason_to_look_at_once(start: Callable[..., int]) -> None:
    """If nothing is left, nobody has to wait for the next look."""
    pid = start("exec sleep 300")
    cleaner = Sweeper(lambda: living(pid))
    a_pass(cleaner)
    os.waitpid(pid, 0)
    cleaner.forget(pid)
    assert cleaner.due_s == 0.0
    wait_until(cleaner.work)
    assert (set(cleaner.seen), cleaner.killed) == ({pid}, set())


def test_what_is_known_is_killed_before_another_look(start: Callable[..., int]) -> None:
    """A look at thousands takes seconds on a busy machine, and by then the time is over."""
    pid = start("exec sleep 300", blocked=(signal.SIGTERM,))
    killed_by_look = []

    def find() -> Iterator[Process | None]:
        killed_by_look.append(len(cleaner.killed))
        return living(pid)

    cleaner = Sweeper(find, term_grace_s=300)
    assert not cleaner.work()
    cleaner.escalate()
    wait_until(lambda: cleaner.work() or len(killed_by_look) > 1)
    assert killed_by_look == [0, 1]
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_what_another_one_has_begun_is_gone_on_with(start: Callable[..., int]) -> None:
    """What has ended by then counts as ended here; what lives gets no second TERM, and is killed without a look."""
    pids = start("exec sleep 300"), start("exec sleep 300", blocked=(signal.SIGTERM,))
    earlier = Sweeper(lambda: living(*pids), term_grace_s=300)
    a_pass(earlier)
    os.waitpid(pids[0], 0)
    earlier.forget(pids[0])
    cleaner = Sweeper(lambda: iter(()), term_grace_s=0.0)
    cleaner.take_over(earlier)
    wait_until(lambda: cleaner.work() or cleaner.killed)
    assert os.WTERMSIG(os.waitpid(pids[1], 0)[1]) == signal.SIGKILL
    cleaner.forget(pids[1])
    wait_until(cleaner.work)
    assert (set(cleaner.seen), cleaner.killed, cleaner.left) == (set(pids), {pids[1]}, {})


def test_term_comes_once(monkeypatch: pytest.MonkeyPatch, start: Callable[..., int]) -> None:
    """Many programs take a second one for an order to exit without saving."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "send", lambda pid, number: sent.append((pid, number)))
    pid = start("exec sleep 300")
    looks: list[int] = []

    def find() -> Iterator[Process | None]:
        looks.append(len(sent))
        return living(pid)

    cleaner = Sweeper(find, term_grace_s=300)
    wait_until(lambda: cleaner.work() or len(looks) == 3)
    assert sent == [(pid, signal.SIGTERM)]


def test_what_was_reaped_meanwhile_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pid may be another process's by then: a child's once it was reaped, that of others at any time."""
    sent: list[int] = []
    monkeypatch.setattr(module, "send", lambda pid, _number: sent.append(pid))
    own = os.getpid()
    # No process has this time of birth.
    others = [Process(own, "x", stopped=False, parent=1, group=1, session=1, born=-1, folder="")]
    children = [Process(-pid, "x", stopped=False, parent=own, group=1, session=1, born=1, folder="") for pid in (1, 2)]
    cleaner = Sweeper(lambda: iter(()), term_grace_s=0.0)
    cleaner.left = {process.pid: process for process in (*others, *children)}
    known = cleaner._kill_known()
    next(known)
    cleaner.forget(-2)
    assert list(known)
    assert sent == [-1]


def test_the_next_look_is_due_no_later_than_the_kill(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., int]
) -> None:
    """This holds however long the last look took; looks are to take a fifth of the time at most."""
    monkeypatch.setattr(module, "_REST_FACTOR", 1e9)
    pid = start("exec sleep 300", blocked=(signal.SIGTERM,))
    cleaner = Sweeper(lambda: living(pid), term_grace_s=300)
    a_pass(cleaner)
    assert cleaner.due_s == cleaner._kill_s


def test_one_that_is_stopped_gets_cont_after_term(start: Callable[..., int]) -> None:
    """It cannot handle TERM before that."""
    pid = start("exec sleep 300")
    freeze(pid)
    wait_until(lambda: getattr(look(pid), "stopped", False))
    cleaner = Sweeper(lambda: living(pid), term_grace_s=300)
    a_pass(cleaner)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM


def test_what_moves_behind_a_look_is_not_lost(monkeypatch: pytest.MonkeyPatch, start: Callable[..., int]) -> None:
    """One whose parent has just exited moves to where the look has already been: it is not taken for gone."""
    monkeypatch.setattr(module, "send", lambda _pid, _number: None)
    pid = start("exec sleep 300")
    looks = [[pid], []]
    cleaner = Sweeper(lambda: living(*looks.pop(0)))
    wait_until(lambda: cleaner.work() or (not looks and cleaner._pass is None))
    assert set(cleaner.left) == {pid}


def test_what_cannot_be_ended_is_given_up(monkeypatch: pytest.MonkeyPatch, start: Callable[..., int]) -> None:
    """What not even KILL ends is reported by the time that was set."""
    monkeypatch.setattr(module, "send", lambda _pid, _number: None)
    pid = start("exec sleep 300")
    cleaner = Sweeper(lambda: living(pid), term_grace_s=0.0, until_s=time.monotonic() + 0.2)
    wait_until(cleaner.work)
    assert set(cleaner.left) == {pid}


def test_processes_are_counted_in_small_steps_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count under way is a lower bound, and the next one replaces it; dead ones do not count."""
    monkeypatch.setattr(module, "_TURN_S", 0.0)
    alive = look(os.getpid())
    crowds = [[alive, None, alive], [alive]]
    others = Headcount(lambda: crowds.pop(0))
    counts = []
    for _ in range(6):
        others.due_s = 0.0
        others.work()
        counts.append(others.count)
    assert counts == [1, 1, 2, 2, 2, 1]
    assert not crowds


def test_a_count_rests_before_the_next_one() -> None:
    """It is begun again soon, and not before its time."""
    calls = []

    def find() -> list[None]:
        calls.append(time.monotonic())
        return []

    begun_s = time.monotonic()
    others = Headcount(find)
    others.work()
    assert others.due_s >= begun_s + 0.25
    others.due_s += 300
    others.work()
    assert len(calls) == 1
