"""Looks for secrets in each process that a supervisor starts, also in short-lived ones."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from tests.chaos.sight import MARK, Sight

_PAUSE_S = 0.01


def leaks(sight: Sight, pid: int, secrets: dict[str, str]) -> list[str] | None:
    """Return the secrets in a process's command line and environment; None if the supervisor has not started it yet.

    ``secrets`` are the names of the processes that may have each one in their environment, by the secret.
    """
    words, environment = sight.words(pid), sight.environment(pid)
    mark = environment.get(MARK, "")
    if not mark:
        return None
    name = mark.partition(":")[0]
    found = [f"a secret on the command line {words!r}"] if any(secret in words for secret in secrets) else []
    given = [
        key for key, text in environment.items() for secret in secrets if secret in text and secrets[secret] != name
    ]
    found += [f"{mark!r} was given {key}" for key in given]
    return found


class Spy:
    """Looks at the children of a process from its own thread."""

    def __init__(self, pid: int, secrets: dict[str, str]) -> None:
        self.problems: list[str] = []
        self._pid = pid
        self._secrets = secrets
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        sight, known = Sight(), set[int]()
        while not self._over.wait(_PAUSE_S):
            now = _children(self._pid)
            known &= now
            for pid in now - known:
                found = leaks(sight, pid, self._secrets)
                if found is not None:
                    known.add(pid)
                    self.problems += found


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found |= {*map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())}
    return found
