"""Runs `logs -f` as a user does, and reads its output."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from tests.client.calling import DEADLINE_S, PROGRAM, environment
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO


class Follower:
    """A running `logs -f`; ``lines`` and ``notes`` are its output on the two streams so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.process = process
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(process.stderr, self.notes)),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        with stream:
            lines.extend(line.rstrip("\n") for line in stream)

    def wait_for(self, text: str) -> None:
        """Wait for a line with this text on either stream."""
        wait_until(
            lambda: any(text in line for line in (*self.lines, *self.notes)),
            what=f"{text!r} after {self.lines[-5:]} and {self.notes}",
        )

    def interrupt(self) -> int:
        """Send what Ctrl-C sends, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has exited, and return its exit code."""
        code = self.process.wait(DEADLINE_S)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        return code


@contextlib.contextmanager
def following(folder: Path, *words: str) -> Iterator[Follower]:
    """Follow the log for the length of a block."""
    process = subprocess.Popen(
        [*PROGRAM, "logs", "-f", *words],
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    follower = Follower(process)
    try:
        yield follower
    finally:
        process.kill()
        follower.wait()
