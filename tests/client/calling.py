"""Calls the command line as a person or a script does: in this process, or as a separate one on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from supervisor.cli import main

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = (sys.executable, "-I", "-m", "supervisor")
DEADLINE_S = 30.0
_calling = threading.Lock()


class Called(NamedTuple):
    """The result of a call."""

    code: int
    out: str
    err: str


def environment(folder: Path) -> dict[str, str]:
    """Return the variables that a command needs to find its supervisor."""
    return {"PATH": os.environ["PATH"], "HOME": "/", "SUPERVISOR_RUN_DIR": str(folder), "TERM": "xterm"}


def call(folder: Path, *words: str, stdin: str = "") -> Called:
    """Call the command line in this process, with pipes as its streams; one call at a time."""
    # Of two calls at once, the second to end would restore the other's environment and streams, for all later tests.
    assert not _calling.locked(), "two calls at once: have one of them be a process of its own"
    out, err = io.StringIO(), io.StringIO()
    with (
        _calling,
        patch.dict(os.environ, environment(folder), clear=True),
        patch("sys.stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(words)
    return Called(code, out.getvalue(), err.getvalue())


def on_terminal(folder: Path, *words: str, typed: str = "", asked: str = "", columns: int = 100, **env: str) -> Called:
    """Call it as a separate process on a terminal; ``out`` is its output on both streams.

    ``typed`` is typed once ``asked`` appears in its output.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*PROGRAM, *words],
        stdin=its,
        stdout=its,
        stderr=its,
        env={**environment(folder), **env},
        start_new_session=True,
    )
    os.close(its)
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        written = b""
        # Reading fails once no process has the other end of the terminal open.
        with contextlib.suppress(OSError):
            while chunk := terminal.read(65536):
                written += chunk
                if typed and asked.encode() in written:
                    terminal.write(typed.encode())
                    typed = ""
    return Called(process.wait(DEADLINE_S), written.decode().replace("\r\n", "\n"), "")
