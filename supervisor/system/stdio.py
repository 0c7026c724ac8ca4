"""Standard output and error: able to print any text."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from supervisor.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def prepare() -> None:
    """Allow any text to be printed. A stream that was closed, so that Python has none, is on /dev/null by now."""
    if sys.stdout is None or type(sys.stdout) is io.TextIOWrapper:
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        # A path may contain bytes that are not text, and a terminal may lack characters.
        out = open(1, "wb", closefd=False)  # noqa: SIM115 - it stays open
        sys.stdout = Output(out, encoding, "backslashreplace", line_buffering=os.isatty(1))
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above


class Output(io.TextIOWrapper):
    """Standard output that raises OutputError on failures, except for a closed pipe (BrokenPipeError)."""

    def write(self, text: str, /) -> int:
        """Write. Raises OutputError."""
        with _errors_wrapped():
            return super().write(text)

    def flush(self) -> None:
        """Flush. Raises OutputError."""
        with _errors_wrapped():
            super().flush()


def give_up(stream: TextIO) -> None:
    """Discard further output: at exit Python would flush again, and print an error."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _errors_wrapped() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write the answer: {why}; make room there, or send it elsewhere") from error
