"""Standard input, output and error: open, and fit for every text."""

from __future__ import annotations

import io
import os
import sys


def mend() -> None:
    """Open what is closed on /dev/null, before a file of ours takes its number; let any text be printed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may hold bytes that are no text, and a terminal may know fewer characters than we use.
        sys.stdout.reconfigure(errors="backslashreplace")
