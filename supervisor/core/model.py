"""What a process is told to be: the plan's immutable parts, in the words the rest of the core uses."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(Enum):
    """Where a process is in its life; the values are what people and the API read."""

    INACTIVE = "inactive"
    WAITING = "waiting"
    SPAWNING = "spawning"
    RUNNING = "running"
    STOPPING = "stopping"
    QUITTING = "quitting"
    KILLING = "killing"
    CLEANING = "cleaning"
    BACKOFF = "backoff"
    ENDED = "ended"
    FAILED = "failed"


class Restart(Enum):
    """When an ended process is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Backoff(NamedTuple):
    """The wait before a restart: doubles from ``initial_s`` to ``max_s``, forgotten after ``reset_s`` of life."""

    initial_s: float = 0.5
    max_s: float = 30.0
    reset_s: float = 60.0


class GiveUp(NamedTuple):
    """So many failures within so long make a critical process fatal."""

    failures: int = 10
    window_s: float = 300.0


class User(NamedTuple):
    """An account that a process runs as."""

    name: str
    uid: int
    gid: int
    home: str


class HttpProbe(NamedTuple):
    """Ready means: a GET on this URL answers 2xx within the deadline."""

    url: str


class TcpProbe(NamedTuple):
    """Ready means: this address accepts a connection within the deadline."""

    host: str
    port: int


class ProcessSpec(NamedTuple):
    """Everything there is to know to run one process.

    ``probe`` is None where being alive is all the health that can be known. ``hung_after_s`` is how long a process
    that once answered its probe may stay silent before it is restarted; None means for ever. ``user`` is None where
    the process runs as the supervisor itself does. ``shares_user`` says that other processes may run as that user,
    so that its remains are recognised by the mark in their environment, not by their user. ``known_failures`` are
    pairs: the words that a line of its output holds when a failure is one that trying again cannot mend, and what a
    person should know; the first that fits counts.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    user: User | None = None
    shares_user: bool = True
    critical: bool = False
    restart: Restart = Restart.ALWAYS
    after: tuple[str, ...] = ()
    stop_signal: int = 15
    stop_timeout_s: float = 8.0
    quit_before_kill: bool = False
    parent_death_fd: bool = False
    backoff: Backoff = Backoff()
    give_up: GiveUp | None = GiveUp()
    probe: HttpProbe | TcpProbe | None = None
    hung_after_s: float | None = 120.0
    known_failures: tuple[tuple[tuple[str, ...], str], ...] = ()
