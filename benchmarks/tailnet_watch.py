"""Records when something becomes true, seen from outside."""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOK_EVERY_S = 0.02
_NOT_YET = (OSError, LookupError, TypeError, ValueError, http.client.HTTPException, AssertionError)


class Watch:
    """Polls several conditions every 20 ms, each in a thread of its own, for the duration of a block."""

    def __init__(self, looks: Mapping[str, Callable[[], object]]) -> None:
        self.began_at: dict[str, float] = {}
        self.at: dict[str, float] = {}
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=pair) for pair in looks.items()]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait(self, deadline_s: float) -> None:
        """Wait until all have been true, or for this time."""
        end_s = time.monotonic() + deadline_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def _look(self, name: str, is_true: Callable[[], object]) -> None:
        while not self._end.is_set():
            began_s = time.monotonic()
            try:
                if is_true():
                    self.began_at[name], self.at[name] = began_s, time.monotonic()
                    return
            except _NOT_YET:
                pass
            self._end.wait(max(0.0, began_s + LOOK_EVERY_S - time.monotonic()))
