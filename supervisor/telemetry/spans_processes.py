"""The spans of processes, derived from how they look on the board: spawn, stop, and restart with both in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.model import State
from supervisor.runtime.endings import signal_name
from supervisor.telemetry.span import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor.core.snapshot import ExitView, ProcessView
    from supervisor.telemetry.span import Attribute

SPAWN, STOP, RESTART = "process.spawn", "process.stop", "process.restart"
_ENDING = frozenset({State.STOPPING, State.QUITTING, State.KILLING})
_BETWEEN_LIVES = frozenset({State.CLEANING, State.BACKOFF})


class Lives:
    """Those of all processes."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}

    def look(self, views: Sequence[ProcessView]) -> Iterator[Span]:
        """Return the spans that have ended with these views."""
        for view in views:
            life = self._lives.get(view.name)
            if life is None:
                life = self._lives[view.name] = _Life()
            if view is not life.seen:
                yield from life.look(view)


class _Life:
    """One process. A restart lasts from the end of one life until the next is ready, or is over."""

    def __init__(self) -> None:
        self.seen: ProcessView | None = None
        self._spawn_s: float | None = None
        self._stop_s: float | None = None
        self._restart_s: float | None = None
        # What ended since the last life did, to stand inside the restart.
        self._stopped: Span | None = None

    def look(self, view: ProcessView) -> Iterator[Span]:
        seen, self.seen = self.seen, view
        before = seen.state if seen is not None else State.INACTIVE
        if view.exits and (seen is None or not seen.exits or view.exits[-1] is not seen.exits[-1]):
            yield from self._on_exit(view, view.exits[-1], None if seen is None else seen.pid)
        if view.state is not before:
            yield from self._on_state(view, before)
        if self._is_ready(view):
            yield from self._spawned(view, view.ready_since_s or view.since_s)

    def _is_ready(self, view: ProcessView) -> bool:
        # Until it has been started, the view tells of the life before.
        begun = self._spawn_s is not None and view.started_s is not None and view.started_s >= self._spawn_s
        return begun and view.ever_ready and view.state is State.RUNNING

    def _on_exit(self, view: ProcessView, end: ExitView, pid: int | None) -> Iterator[Span]:
        if self._spawn_s is not None:
            yield from self._spawned(view, end.at_s, end, pid)
        if self._restart_s is None:
            self._restart_s = end.at_s if self._stop_s is None else self._stop_s

    def _on_state(self, view: ProcessView, before: State) -> Iterator[Span]:
        state = view.state
        if state in _ENDING and before not in _ENDING:
            self._stop_s = view.since_s
        if before is State.CLEANING and self._stop_s is not None:
            end = view.exits[-1] if view.exits else None
            stop = Span(STOP, self._stop_s, view.since_s, {**_process(view, None), **_ended(end)})
            self._stop_s = None
            if state in {State.SPAWNING, State.BACKOFF}:
                self._stopped = stop
            else:
                yield stop
        if state is State.SPAWNING:
            self._spawn_s = view.since_s
        if state not in _BETWEEN_LIVES and state is not State.SPAWNING and before in {*_BETWEEN_LIVES, State.WAITING}:
            self._restart_s = self._stopped = None

    def _spawned(
        self, view: ProcessView, ended_s: float, end: ExitView | None = None, pid: int | None = None
    ) -> Iterator[Span]:
        """Return the span of a start that is over, in that of the restart that it was part of."""
        begun_s, self._spawn_s = self._spawn_s or ended_s, None
        error = "" if end is None else f"it ended before it was ready: {end.reason}"
        facts = _process(view, view.pid if end is None else pid)
        spawn = Span(SPAWN, begun_s, ended_s, {**facts, **_failed(end)}, error)
        restart_s, self._restart_s = self._restart_s, None
        stopped, self._stopped = self._stopped, None
        if restart_s is None:
            yield spawn
            return
        past = view.exits[:-1] if end is not None else view.exits
        reason: dict[str, Attribute] = {"supervisor.restart.reason": past[-1].kind} if past else {}
        children = (spawn,) if stopped is None else (stopped, spawn)
        yield Span(RESTART, restart_s, ended_s, {**facts, **reason, **_failed(end)}, error, children)


def _process(view: ProcessView, pid: int | None) -> dict[str, Attribute]:
    facts: dict[str, Attribute] = {"supervisor.process.name": view.name}
    if pid is not None:
        facts["process.pid"] = pid
    program = view.command.partition(" ")[0].rpartition("/")[2]
    return facts | ({"process.executable.name": program} if program else {})


def _ended(end: ExitView | None) -> dict[str, Attribute]:
    if end is None:
        return {}
    facts: dict[str, Attribute] = {} if end.code is None else {"process.exit.code": end.code}
    name = signal_name(end.signal)
    return facts | ({"supervisor.exit.signal": name} if name else {}) | {"supervisor.exit.kind": end.kind}


def _failed(end: ExitView | None) -> dict[str, Attribute]:
    return {} if end is None else {**_ended(end), "error.type": end.kind}
