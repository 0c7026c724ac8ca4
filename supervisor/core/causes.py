"""Determines the cause of a process's exit from the evidence. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core import incidents as kinds
from supervisor.core.counts import HUNG, NOT_STARTED, OUT_OF_MEMORY, SIGNAL, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.snapshot import ExitView

KILL = 9
# Share of the limit: the kernel kills a process before all of it is used.
NEAR = 0.85
# How programs announce a panic; a trace follows, and its first lines say most.
_PANICS = (
    *("panic: ", "fatal error: ", "unexpected fault"),
    *("SIGABRT: ", "SIGSEGV: ", "SIGBUS: ", "SIGILL: ", "SIGQUIT: "),
)
_THREAD, _PANICKED = "thread '", "panicked at"
HEAD_LINES = 12
# HUP, INT and TERM: no defect raises them.
_SENT = frozenset({1, 2, 15})
_SENT_BY_OTHERS = (
    "another process sent it that signal; if the supervisor was stopped at the same moment, the platform signals all "
    "processes at once, as Heroku and systemd do (KillMode=mixed prevents it)"
)
_PORT_TAKEN = ("address already in use", "address in use", "eaddrinuse")
_PORT_HINT = "; a port that it wants is taken, perhaps by the supervisor: HOST and PORT in its environment name its own"
# Prefixes of causes that quote a process's output.
PANICKED, LAST_WORDS = "it panicked", "its last words"
_KINDS = {
    HUNG: kinds.HANG,
    OUT_OF_MEMORY: kinds.OUT_OF_MEMORY,
    NOT_STARTED: kinds.NOT_STARTED,
    SUCCESS: kinds.EXIT,
}


class Evidence(NamedTuple):
    """What is known when a process exits, in addition to the exit itself.

    ``limit_bytes`` is the container's; ``others_bytes`` is the memory used by everything else in it, ``used_bytes`` its
    total at the last look. ``counts`` is true if the kernel counts the processes that it kills for lack of memory.
    ``probe`` is the probe that a hung process did not answer, ``state`` what it was doing. ``head`` are the first lines
    of its panic.
    """

    limit_bytes: int | None = None
    others_bytes: int = 0
    used_bytes: int | None = None
    counts: bool = False
    probe: str = ""
    state: str = ""
    head: tuple[str, ...] = ()


def head_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the first lines of the last panic in the output; empty if there is no panic."""
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if line.startswith(_PANICS) or (line.startswith(_THREAD) and _PANICKED in line):
            return tuple(lines[at : at + HEAD_LINES])
    return ()


def kind_of_end(end: ExitView, evidence: Evidence) -> str:
    """Return the kind of incident for an exit."""
    if is_kill(end):
        return kinds.OUT_OF_MEMORY if not evidence.counts and _was_near(end, evidence) else kinds.KILLED
    return _KINDS.get(end.kind, kinds.CRASH)


def is_kill(end: ExitView) -> bool:
    """Return whether a process was ended by SIGKILL, which is also what the kernel does when memory is used up."""
    return end.kind == SIGNAL and end.signal == KILL


def _was_near(end: ExitView, evidence: Evidence) -> bool:
    """Return whether memory was nearly used up, by the peak of the process or by the total at the last look."""
    if evidence.limit_bytes is None:
        return False
    most = max((end.peak_bytes or 0) + evidence.others_bytes, evidence.used_bytes or 0)
    return most >= NEAR * evidence.limit_bytes


def cause_of_end(kind: str, end: ExitView, evidence: Evidence) -> str:
    """Return the likely cause of an exit of this kind."""
    causes = {
        kinds.OUT_OF_MEMORY: _out_of_memory,
        kinds.KILLED: _killed,
        kinds.HANG: _hang,
        kinds.EXIT: _success,
        kinds.NOT_STARTED: _not_started,
    }
    return causes.get(kind, _crash)(end, evidence)


def _out_of_memory(end: ExitView, evidence: Evidence) -> str:
    told = "the kernel counted an out-of-memory kill"
    if end.kind != OUT_OF_MEMORY:
        told = "the KILL came from outside the supervisor, and memory was nearly used up"
    limit = "" if evidence.limit_bytes is None else f" of {megabytes(evidence.limit_bytes)} in all"
    peak = "" if end.peak_bytes is None else f"; its peak was {megabytes(end.peak_bytes)}{limit}"
    return f"{told}{peak}; give the container more memory, or reduce what it uses"


def _killed(_end: ExitView, evidence: Evidence) -> str:
    told = "the KILL came from outside the supervisor"
    if evidence.counts:
        return f"{told}, and the kernel counted no out-of-memory kill"
    if evidence.limit_bytes is None:
        return f"{told}; this kernel does not tell whether memory was the reason"
    return f"{told}, and there was memory left"


def _hang(_end: ExitView, evidence: Evidence) -> str:
    asked = f"it no longer answered {evidence.probe or 'its probe'}"
    return f"{asked}; {evidence.state}" if evidence.state else asked


def _success(_end: ExitView, _evidence: Evidence) -> str:
    return "it exited with success although it should keep running: it exited by itself, or was sent TERM, INT or HUP"


def _not_started(end: ExitView, _evidence: Evidence) -> str:
    return end.reason


def _crash(end: ExitView, evidence: Evidence) -> str:
    if evidence.head:
        return f"{PANICKED}: {evidence.head[0]}"
    if end.signal in _SENT:
        return _SENT_BY_OTHERS
    if end.signal is not None:
        return "a signal that it did not handle: a defect of its own, or sent by another process"
    if not end.last_lines:
        return "it printed nothing"
    taken = any(words in line.lower() for line in end.last_lines for words in _PORT_TAKEN)
    return f"{LAST_WORDS}: {end.last_lines[-1]}{_PORT_HINT if taken else ''}"


def megabytes(size_bytes: int) -> str:
    """Format a size for people."""
    return f"{size_bytes / 2**20:.0f} MiB"


def without_output(cause: str) -> str:
    """Return a cause without quotes from a process's output."""
    quoting = next((words for words in (PANICKED, LAST_WORDS) if cause.startswith(f"{words}: ")), None)
    return cause if quoting is None else f"{quoting} (which the panel shows)"
