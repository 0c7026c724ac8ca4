"""Fetches through the tailnet repeatedly, and counts the results."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY_S = 0.2


class Traffic:
    """The results so far: the number of fetches, the failures, and the longest time without a success."""

    def __init__(self, fetch: Callable[[], object]) -> None:
        self._fetch = fetch
        self._ended = threading.Event()
        self.count = 0
        self.failures: list[str] = []
        self.longest_gap_s = 0.0

    def run(self) -> None:
        """Fetch until stopped."""
        last_s = time.monotonic()
        while not self._ended.wait(EVERY_S):
            self.count += 1
            try:
                self._fetch()
            except (OSError, AssertionError) as error:
                self.failures.append(str(error))
                continue
            now_s = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now_s - last_s)
            last_s = now_s

    def end(self) -> None:
        """Stop fetching."""
        self._ended.set()


@contextlib.contextmanager
def traffic(fetch: Callable[[], object]) -> Iterator[Traffic]:
    """Fetch for the duration of a block."""
    found = Traffic(fetch)
    thread = threading.Thread(target=found.run)
    thread.start()
    try:
        yield found
    finally:
        found.end()
        thread.join()
