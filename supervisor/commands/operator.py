"""What an operator's command works with: the supervisor to ask, and the person or program it speaks to."""

from __future__ import annotations

import io
import json
import os
import time
from typing import TYPE_CHECKING, Any, TextIO

from supervisor.commands.control import Control
from supervisor.plan.host import Host
from supervisor.settings.load import Account, load
from supervisor.settings.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Asked for, but not there yet, or a person has to act first.
EX_NOT_YET = 75
SETTLE_S = 5.0
_LOOK_AGAIN_S = 0.1
_USUAL = 80
_WIDEST = 10_000


class Operator:
    """Standard streams and settings of the one who called. ``width`` is the terminal's; there is none in a pipe."""

    def __init__(self, environ: Mapping[str, str], stdin: TextIO, out: TextIO, err: TextIO) -> None:
        self.stdin = stdin
        self.out = out
        self.err = err
        self._environ = environ
        if isinstance(out, io.TextIOWrapper):
            # A terminal of another encoding shows a question mark; it is no reason to fail.
            out.reconfigure(errors="replace")
        self.on_terminal = out.isatty()
        self.color = self.on_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self.control = Control(run_folder(environ))

    @property
    def width(self) -> int:
        """Return how many columns there are to write in."""
        if not self.on_terminal:
            return _WIDEST
        try:
            # A serial console does not know, and says 0.
            return os.get_terminal_size(self.out.fileno()).columns or _USUAL
        except OSError:
            return _USUAL

    @property
    def can_ask(self) -> bool:
        """Tell whether there is a person who can be asked something."""
        return self.stdin.isatty() and self.err.isatty()

    def say(self, text: str = "") -> None:
        """Write a line of the answer."""
        self.out.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Write a line beside the answer, which no pipe gets."""
        self.out.flush()
        self.err.write(f"{text}\n")
        self.err.flush()

    def give(self, document: Mapping[str, Any]) -> None:
        """Write the answer for programs."""
        self.out.write(json.dumps(document) + "\n")

    def paint(self, text: str, code: str) -> str:
        """Return text in a colour, where colours are shown."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code and text else text


def run_folder(environ: Mapping[str, str]) -> str:
    """Return the run folder by the supervisor's own rule; settings that are wrong are the supervisor's affair."""
    host = Host()
    account = Account(host.uid, environ.get("HOME") or host.home)
    return load(environ, Report(), account=account).run_dir


def settle(look: Callable[[], bool]) -> bool:
    """Wait until ``look`` says that things have come to rest, 5 s at most; return whether they have."""
    end_s = time.monotonic() + SETTLE_S
    while not look():
        if time.monotonic() >= end_s:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
