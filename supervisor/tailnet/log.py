"""Watches tailscaled's log for what only it shows (1.102), and logs state changes of the tailnet.

Only the log shows at once that the control server is lost, or does not know the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config.plan import TAILSCALED
from supervisor.core.tailnet_states import TailnetState
from supervisor.logs.history import LAST_LINES
from supervisor.tailnet.versions import untried

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.snapshot import TailnetView
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.secret import Secret

LOST = "Received error"
UNKNOWN_DEVICE = "node not found"
# Of a control client that is switched on after its logout failed: it has dropped the device's node key.
NO_NODE_KEY = "privateNodeKey is zero"


class LogWatcher:
    """Calls ``wake`` for each error message of a device that is online or logging in.

    ``removed`` is whether the control server does not know the device, or the control client has no node key for it.
    """

    def __init__(self, log: LogPipeline, wake: Callable[[], None]) -> None:
        self._log = log
        self._wake = wake
        self._next: int | None = None
        self.removed = False

    def listen(self) -> Callable[[], None]:
        """Start watching; return a function that ends it."""
        return self._log.subscribe(self._hear)

    def follow(self, *, running: bool, online: bool, trying: bool) -> None:
        """Update the device's state; ``trying`` is whether it is logging in.

        Messages are ignored for a device that is in no tailnet, and for one that is online.
        """
        if not (running or trying):
            self._next = None
        elif self._next is None:
            self._next = self._log.history.next
        self.removed = self.removed and running and not online

    def _hear(self) -> None:
        if self._next is None:
            return
        lines = self._log.history.tail(TAILSCALED, LAST_LINES, self._next)
        self._next = self._log.history.next
        if any(LOST in line for line in lines):
            self.removed = self.removed or any(UNKNOWN_DEVICE in line or NO_NODE_KEY in line for line in lines)
            self._wake()


_SAME_AGAIN_S = 60.0
_SETTLED_S = 10.0
_UNDER_WAY = frozenset({TailnetState.STARTING, TailnetState.CONNECTING, TailnetState.RESTORING, TailnetState.STANDBY})


class StateLogger:
    """Logs state changes. A state that was logged within the last minute is logged again only once it has lasted."""

    def __init__(self, log: LogPipeline) -> None:
        self._log = log
        self._said: dict[str, float] = {}
        self._last = ""
        self._url: Secret | None = None
        self._warned: frozenset[str] = frozenset()
        self._version = ""

    def tell(self, view: TailnetView, now_s: float) -> None:
        """Log what has changed."""
        self._tell_state(view, now_s)
        if view.version != self._version:
            self._version = view.version
            if why := untried(view.version):
                self._log.record("info", "tailnet: this tailscaled was never tried", why=why)
        warnings = frozenset([*view.warnings, *([view.serve.why] if view.serve.why else [])])
        for text in sorted(warnings - self._warned):
            self._log.record("warning", "tailnet: there is something to look after", why=text)
        self._warned = warnings

    def tell_url(self, url: Secret | None) -> None:
        """Log a login URL once, in the container's log only, because it gives control of the device."""
        if url is not None and not (self._url is not None and self._url.matches(url.reveal())):
            self._url = url
            self._log.log_unredacted("warning", "tailnet: open this link to log the device in", {"url": url.reveal()})

    def _tell_state(self, view: TailnetView, now_s: float) -> None:
        if view.state == self._last:
            return
        recently = now_s - self._said.get(view.state, -_SAME_AGAIN_S) < _SAME_AGAIN_S
        if recently and now_s - view.since_s < _SETTLED_S:
            return
        self._last = view.state
        self._said[view.state] = now_s
        self._log.record(
            "info" if view.up or view.by_owner or view.state in _UNDER_WAY else "warning",
            f"tailnet: {view.state}",
            why=view.why or None,
            what_to_do=view.what_to_do or None,
            name=view.hostname or None,
        )
