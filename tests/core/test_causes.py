"""Which kind of incident an exit is, and its cause."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core import incidents as kinds
from supervisor.core.causes import Evidence, cause_of_end, head_of, kind_of_end
from supervisor.core.counts import HUNG, OUT_OF_MEMORY, SIGNAL, SUCCESS
from supervisor.core.incidents import END, INFO, Incident
from supervisor.core.run_record import KILLED_RUN, STOPPED, UNFINISHED, Lookout, RunRecord, end_of
from supervisor.core.snapshot import ExitView

MIB = 2**20
KILLED = ExitView(1.0, None, 9, 5.0, "ended by SIGKILL from outside", kind=SIGNAL, peak_bytes=200 * MIB)


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (Evidence(), kinds.KILLED),
        (Evidence(limit_bytes=1000 * MIB), kinds.KILLED),
        (Evidence(limit_bytes=256 * MIB, others_bytes=40 * MIB), kinds.OUT_OF_MEMORY),
        (Evidence(limit_bytes=256 * MIB, others_bytes=40 * MIB, counts=True), kinds.KILLED),
        (Evidence(limit_bytes=1000 * MIB, used_bytes=900 * MIB), kinds.OUT_OF_MEMORY),
    ],
)
def test_a_kill_that_nobody_sent(evidence: Evidence, kind: str) -> None:
    """Memory is the reason if it was nearly used up, and the kernel does not say otherwise."""
    assert kind_of_end(KILLED, evidence) == kind


def test_kinds_that_the_end_itself_tells() -> None:
    """What the kernel or the probe has reported needs no further evidence."""
    found = {kind: kind_of_end(KILLED._replace(kind=kind), Evidence()) for kind in (HUNG, OUT_OF_MEMORY, SUCCESS)}
    assert found == {HUNG: kinds.HANG, OUT_OF_MEMORY: kinds.OUT_OF_MEMORY, SUCCESS: kinds.EXIT}


def test_the_cause_of_a_crash_is_its_panic_or_its_last_words() -> None:
    """The first line of the trace says more than its last."""
    end = ExitView(1.0, 2, None, 5.0, "exit code 2", last_lines=("goroutine 9",))
    assert cause_of_end(kinds.CRASH, end, Evidence(head=("panic: boom",))) == "it panicked: panic: boom"
    assert cause_of_end(kinds.CRASH, end, Evidence()) == "its last words: goroutine 9"
    assert cause_of_end(kinds.CRASH, end._replace(last_lines=()), Evidence()) == "it printed nothing"


@pytest.mark.parametrize(
    ("signal", "words"), [(15, "all processes at once"), (1, "sent it"), (11, "a defect of its own")]
)
def test_a_signal_is_a_defect_or_was_sent(signal: int, words: str) -> None:
    """A process does not send itself TERM; a platform sends it to all processes, not only to process 1."""
    end = ExitView(1.0, None, signal, 5.0, "ended by a signal", kind=SIGNAL)
    assert words in cause_of_end(kinds.CRASH, end, Evidence())


@pytest.mark.parametrize(
    "lines",
    [
        ("OSError: [Errno 98] Address already in use",),
        (
            "Error: listen EADDRINUSE: address already in use 0.0.0.0:8080",
            "    at Server.setupListenHandle",
            "Node.js v22.1.0",
        ),
        ("listen tcp :8080: bind: address already in use",),
    ],
)
def test_a_port_that_is_taken_is_told_with_whose_it_is(lines: tuple[str, ...]) -> None:
    """Most apps listen on 8080 by default, and so does the supervisor."""
    end = ExitView(1.0, 1, None, 5.0, "exit code 1", last_lines=lines)
    cause = cause_of_end(kinds.CRASH, end, Evidence())
    assert cause.startswith(f"its last words: {lines[-1]}; a port that it wants is taken")
    assert "HOST and PORT" in cause
    assert "port" not in cause_of_end(kinds.CRASH, end._replace(last_lines=("goodbye",)), Evidence())


@pytest.mark.parametrize(
    "first",
    ["panic: runtime error", "fatal error: all goroutines", "SIGABRT: abort", "thread 'main' panicked at x.rs:1"],
)
def test_the_head_of_a_panic(first: str) -> None:
    """It is that of the last one, whatever came before, without the whole trace."""
    lines = ["panic: an older one", "hello", first, *(f"goroutine {number}" for number in range(900))]
    head = head_of(lines)
    assert head[0] == first
    assert len(head) == 12
    assert head_of(["hello", "  panic: quoted"]) == ()


RUN = RunRecord("1", began_s=100.0, alive_s=200.0, machine="m")
HERE = Lookout("m")
BEGUN = Incident("1", 205.0, END, "container", INFO, "the container was stopped", "SIGTERM received")
ENDED = msgspec.structs.replace(BEGUN, code=0)


@pytest.mark.parametrize(
    ("own", "lookout", "how", "at_s"),
    [
        (ENDED, HERE, STOPPED, 205.0),
        (None, HERE, KILLED_RUN, 200.0),
        (BEGUN, HERE, UNFINISHED, 205.0),
        (BEGUN, HERE._replace(restored=True), STOPPED, 200.0),
        (None, HERE._replace(restored=True, held_until_s=250.0), KILLED_RUN, 250.0),
        (None, HERE._replace(restored=True, released=True, held_until_s=250.0), STOPPED, 250.0),
    ],
)
def test_how_a_run_ended(own: Incident | None, lookout: Lookout, how: str, at_s: float) -> None:
    """This follows from its record and its incident, and after a restore from who holds the repository."""
    end = end_of(RUN, own, lookout)
    assert (end.how, end.at_s) == (how, at_s)
    assert own is None or own.why in end.why


def test_why_a_run_was_killed() -> None:
    """The cause is memory, a reboot of the machine, or someone."""
    full = RunRecord("1", 100.0, 200.0, machine="m", used_bytes=480 * MIB, limit_bytes=512 * MIB)
    assert end_of(full, None, HERE).cause.startswith("out of memory, most likely: 480 MiB of 512 MiB")
    assert "machine was rebooted" in end_of(RUN, None, Lookout("another")).cause
    assert "sent it KILL" in end_of(RUN, None, HERE).cause
