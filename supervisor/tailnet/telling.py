"""Says in the log how the tailnet is: each change at once, a flapping one no more often than people can bear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.tailnet import CONNECTING, STARTING

if TYPE_CHECKING:
    from supervisor.core.snapshot import TailnetView
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.secret import Secret

_SAME_AGAIN_S = 60.0
_SETTLED_S = 10.0
_UNDER_WAY = frozenset({STARTING, CONNECTING})


class Teller:
    """Remembers what was said. A state said less than a minute ago is said again only when it has lasted."""

    def __init__(self, log: LogPipeline) -> None:
        self._log = log
        self._said: dict[str, float] = {}
        self._last = ""
        self._url: Secret | None = None
        self._warned: frozenset[str] = frozenset()

    def tell(self, view: TailnetView, now_s: float) -> None:
        """Say what has changed."""
        self._tell_state(view, now_s)
        warnings = frozenset([*view.warnings, *([view.serve.why] if view.serve.why else [])])
        for text in sorted(warnings - self._warned):
            self._log.record("warning", "tailnet: there is something to look after", why=text)
        self._warned = warnings

    def tell_url(self, url: Secret | None) -> None:
        """Show a login URL, once: only to whoever reads the container's log, for it gives the device away."""
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
