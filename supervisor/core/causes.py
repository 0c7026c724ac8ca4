"""What an end of a process comes from, worked out from what is known of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core import incidents as kinds
from supervisor.core.counts import HUNG, NOT_STARTED, OUT_OF_MEMORY, SIGNAL, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.snapshot import ExitView

KILL = 9
# Of the limit: the kernel ends somebody before all of it is used.
NEAR = 0.85
# How a program says that it gives up on itself; what follows is its trace, of which the first lines tell most.
_PANICS = (
    *("panic: ", "fatal error: ", "unexpected fault"),
    *("SIGABRT: ", "SIGSEGV: ", "SIGBUS: ", "SIGILL: ", "SIGQUIT: "),
)
_THREAD, _PANICKED = "thread '", "panicked at"
HEAD_LINES = 12
# What causes that quote a process's output begin with.
PANICKED, LAST_WORDS = "it panicked", "its last words"
_KINDS = {
    HUNG: kinds.HANG,
    OUT_OF_MEMORY: kinds.OUT_OF_MEMORY,
    NOT_STARTED: kinds.NOT_STARTED,
    SUCCESS: kinds.EXIT,
}


class Evidence(NamedTuple):
    """What is known at the end of a process beside the end itself.

    ``limit_bytes`` is the container's; ``others_bytes`` is what everything else in it uses, ``used_bytes`` what all of
    it used when it was last looked at. ``counts`` says that the kernel tells of those that it kills for memory.
    ``probe`` is what was asked of a process that hung, ``state`` what it was doing. ``head`` are the first lines of its
    panic.
    """

    limit_bytes: int | None = None
    others_bytes: int = 0
    used_bytes: int | None = None
    counts: bool = False
    probe: str = ""
    state: str = ""
    head: tuple[str, ...] = ()


def head_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the first lines of the last panic among lines of output; none where there is none."""
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if line.startswith(_PANICS) or (line.startswith(_THREAD) and _PANICKED in line):
            return tuple(lines[at : at + HEAD_LINES])
    return ()


def kind_of_end(end: ExitView, evidence: Evidence) -> str:
    """Return which kind of incident an end is."""
    if end.kind == SIGNAL and end.signal == KILL:
        return kinds.OUT_OF_MEMORY if not evidence.counts and _was_near(end, evidence) else kinds.KILLED
    return _KINDS.get(end.kind, kinds.CRASH)


def _was_near(end: ExitView, evidence: Evidence) -> bool:
    """Tell whether memory was nearly used up, by the peak of the process or by the last look at all of it."""
    if evidence.limit_bytes is None:
        return False
    most = max((end.peak_bytes or 0) + evidence.others_bytes, evidence.used_bytes or 0)
    return most >= NEAR * evidence.limit_bytes


def cause_of_end(kind: str, end: ExitView, evidence: Evidence) -> str:
    """Return the likely cause of an end of this kind."""
    causes = {
        kinds.OUT_OF_MEMORY: _out_of_memory,
        kinds.KILLED: _killed,
        kinds.HANG: _hang,
        kinds.EXIT: _success,
        kinds.NOT_STARTED: _not_started,
    }
    return causes.get(kind, _crash)(end, evidence)


def _out_of_memory(end: ExitView, evidence: Evidence) -> str:
    told = "the kernel counted an end for lack of memory"
    if end.kind != OUT_OF_MEMORY:
        told = "nobody here sent the KILL, and memory was nearly used up"
    limit = "" if evidence.limit_bytes is None else f" of {megabytes(evidence.limit_bytes)} in all"
    peak = "" if end.peak_bytes is None else f"; its peak was {megabytes(end.peak_bytes)}{limit}"
    return f"{told}{peak}; give the container more memory, or have it need less"


def _killed(_end: ExitView, evidence: Evidence) -> str:
    told = "the KILL came from outside: nobody here sent it"
    if evidence.counts:
        return f"{told}, and the kernel counted no end for lack of memory"
    if evidence.limit_bytes is None:
        return f"{told}; this kernel does not tell whether memory was the reason"
    return f"{told}, and there was memory left"


def _hang(_end: ExitView, evidence: Evidence) -> str:
    asked = f"it no longer answered {evidence.probe or 'its probe'}"
    return f"{asked}; {evidence.state}" if evidence.state else asked


def _success(_end: ExitView, _evidence: Evidence) -> str:
    return "it called that a success, and should have stayed: it ended itself, or was sent a TERM, INT or HUP"


def _not_started(end: ExitView, _evidence: Evidence) -> str:
    return end.reason


def _crash(end: ExitView, evidence: Evidence) -> str:
    if evidence.head:
        return f"{PANICKED}: {evidence.head[0]}"
    if end.signal is not None:
        return "a signal that it did not handle: a defect of its own, or sent by another process"
    return f"{LAST_WORDS}: {end.last_lines[-1]}" if end.last_lines else "it said nothing"


def megabytes(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 2**20:.0f} MiB"


def without_output(cause: str) -> str:
    """Return a cause that quotes nothing of a process's output."""
    quoting = next((words for words in (PANICKED, LAST_WORDS) if cause.startswith(f"{words}: ")), None)
    return cause if quoting is None else f"{quoting} (which the panel shows)"
