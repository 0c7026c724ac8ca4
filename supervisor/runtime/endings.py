"""How a life ended, in words for people; whoever knows the facts hands them in."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from supervisor.core.counts import ASKED, EXIT_CODE, HUNG, NOT_STARTED, OUT_OF_MEMORY, SIGNAL, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.lifecycle import Ending

_OUT_OF_MEMORY = "killed by the kernel: out of memory"
_LAUNCHER = "setpriv: "
_CANNOT_START = "cannot start"
_LAUNCHER_CODES = frozenset({1, 126, 127})


def describe(
    ending: Ending, last_lines: Sequence[str], *, killed_by_us: bool, ran_out_of_memory: Callable[[], bool | None]
) -> str:
    """Return why a process is gone.

    ``ran_out_of_memory`` is asked only where it may be the reason, and answers None where nobody knows.
    """
    if ending.signal is None:
        refused = last_lines[-1] if last_lines and last_lines[-1].startswith(_LAUNCHER) else ""
        if refused and ending.code in _LAUNCHER_CODES:
            return f"{_CANNOT_START}: {refused.removeprefix(_LAUNCHER)}"
        return f"exit code {ending.code}"
    name = signal_name(ending.signal)
    if ending.signal != signal.SIGKILL or killed_by_us:
        return f"ended by {name}"
    out_of_memory = ran_out_of_memory()
    if out_of_memory:
        return _OUT_OF_MEMORY
    return f"ended by {name} from outside" + ("" if out_of_memory is False else ", perhaps out of memory")


def kind_of(ending: Ending, why: str, *, asked: bool, hung: bool) -> str:
    """Return what an end comes down to; ``why`` is what ``describe`` said of it."""
    if asked or hung:
        return ASKED if asked else HUNG
    if why == _OUT_OF_MEMORY:
        return OUT_OF_MEMORY
    if ending.signal is not None:
        return SIGNAL
    if why.startswith(_CANNOT_START):
        return NOT_STARTED
    return SUCCESS if ending.success else EXIT_CODE


def signal_name(number: int | None) -> str | None:
    """Return a signal's name, as SIGTERM; None where there was none."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
