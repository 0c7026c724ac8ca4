"""The spans of the tailnet, derived from how it looks on the board: connect, disconnect, and serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.tailnet import (
    CONNECTING,
    DOWN,
    EXPIRED,
    NO_NETWORK,
    NOT_KEPT,
    REFUSED,
    STARTING,
    SWITCHED_OFF,
    UNREACHABLE,
)
from supervisor.telemetry.span import Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.snapshot import TailnetView
    from supervisor.telemetry.span import Attribute

CONNECT, DISCONNECT, SERVE = "tailnet.connect", "tailnet.disconnect", "tailnet.serve"
_UNDER_WAY = frozenset({STARTING, CONNECTING})
# Others, such as a login that waits for a person, are no failure.
_FAILURES = frozenset({DOWN, EXPIRED, NO_NETWORK, NOT_KEPT, REFUSED, SWITCHED_OFF, UNREACHABLE})


class Tailnet:
    """A connect lasts from the order, or the start, until the tailnet is up, or does not get there by itself."""

    def __init__(self, view: TailnetView) -> None:
        self._seen = view
        self._connect_s = view.since_s if view.state in _UNDER_WAY else None
        self._serve_s: float | None = None

    def look(self, view: TailnetView, now_s: float) -> Iterator[Span]:
        """Return the spans that have ended with this view."""
        seen, self._seen = self._seen, view
        if view is seen:
            return
        yield from self._connected(seen, view, now_s)
        if view.disconnects.times > seen.disconnects.times:
            took_s = view.disconnects.sum_s - seen.disconnects.sum_s
            forgets = view.choice == "forgotten"
            yield Span(DISCONNECT, now_s - took_s, now_s, {**_facts(view), "supervisor.tailnet.forget": forgets})
        yield from self._served(seen, view, now_s)

    def _connected(self, seen: TailnetView, view: TailnetView, now_s: float) -> Iterator[Span]:
        if self._connect_s is None and view.state in _UNDER_WAY and not view.up:
            self._connect_s = view.since_s
        if view.connects.times > seen.connects.times:
            ordered_s = now_s - (view.connects.sum_s - seen.connects.sum_s)
            self._connect_s = ordered_s if self._connect_s is None else min(ordered_s, self._connect_s)
        if self._connect_s is None or view.state in _UNDER_WAY:
            return
        failed = not view.up and view.state in _FAILURES
        wrong: dict[str, Attribute] = {"error.type": view.state} if failed else {}
        error = (view.why or view.state) if failed else ""
        yield Span(CONNECT, self._connect_s, max(now_s, self._connect_s), {**_facts(view), **wrong}, error)
        self._connect_s = None

    def _served(self, seen: TailnetView, view: TailnetView, now_s: float) -> Iterator[Span]:
        if not view.up or view.serve.urls:
            begun_s, self._serve_s = self._serve_s, None
            if begun_s is not None and view.serve.urls:
                yield Span(SERVE, begun_s, now_s, {**_facts(view), "supervisor.serve.urls": view.serve.urls})
            return
        if self._serve_s is None:
            self._serve_s = now_s
        if view.serve.why and view.serve.why != seen.serve.why:
            facts = {**_facts(view), "error.type": "not published"}
            yield Span(SERVE, self._serve_s, now_s, facts, view.serve.why)
            self._serve_s = now_s


def _facts(view: TailnetView) -> dict[str, Attribute]:
    facts: dict[str, Attribute] = {"supervisor.tailnet.state": view.state, "supervisor.tailnet.mode": view.mode}
    return facts | ({"supervisor.tailnet.hostname": view.hostname} if view.hostname else {})
