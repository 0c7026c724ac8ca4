"""Prints sign-in codes in the container's log, and nowhere else: whoever reads that may sign in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.config.plan import WILDCARDS

if TYPE_CHECKING:
    from supervisor.config.plan import Address
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore
    from supervisor.web.keyring import Keyring, SignInCode

LEAST_WAIT_S = 60.0


class Printer:
    """Prints at most one a minute, as anyone may ask for it. ``address`` is where the panel is found."""

    def __init__(self, keyring: Keyring, log: LogPipeline, store: SnapshotStore, address: Address) -> None:
        self._keyring = keyring
        self._log = log
        self._store = store
        self._address = address
        self._printed_s: float | None = None

    def wait_s(self) -> float:
        """Return how long until another may be printed."""
        return 0.0 if self._printed_s is None else max(0.0, self._printed_s + LEAST_WAIT_S - time.monotonic())

    def print_code(self) -> float:
        """Print a new one; return until when it is good, on the monotonic clock."""
        code = self._keyring.new_code()
        self._printed_s = time.monotonic()
        shown = {"code": code.secret.reveal(), "link": self.link(code)}
        self._log.log_unredacted(
            "info", "sign in to the panel with this code", shown, good_for="one sign-in within 15 minutes"
        )
        return code.ends_s

    def link(self, code: SignInCode) -> str:
        """Return the panel's address with the code in its fragment, which no browser sends and no proxy logs."""
        address = self._address
        if address.host in WILDCARDS:
            address = address._replace(host=self._store.snapshot.tailnet.hostname or "localhost")
        return f"http://{address}/#code={code.secret.reveal()}"
