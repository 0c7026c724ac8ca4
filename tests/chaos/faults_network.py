"""Faults that come over the network."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from typing import TYPE_CHECKING

from supervisor.web.acceptor import MOST_CONNECTIONS
from tests.chaos.client import TOKEN
from tests.chaos.kinds import fault
from tests.chaos.world import pause

# A connection is closed after ten seconds without a request.
_CLOSED_S = 6.0
_MANY = 500
_HALF = b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: "

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


def _connections(world: World, count: int, *data: bytes) -> Undo:
    """Open this many connections, send one of these on each, and keep them open until the fault is undone."""
    _, close = _opened(world, count, *data)
    return close


def _opened(world: World, count: int, *data: bytes) -> tuple[list[socket.socket], Undo]:
    opened: list[socket.socket] = []
    for sent in itertools.islice(itertools.cycle(data), count):
        with contextlib.suppress(OSError):
            sock = socket.socket()
            opened.append(sock)
            sock.settimeout(1)
            sock.connect((world.host, world.port))
            sock.sendall(sent)

    def close() -> None:
        for sock in opened:
            sock.close()

    return opened, close


@fault("idle-connections")
def _idle_connections(world: World, chance: random.Random) -> Undo:
    """Open 500 connections, idle, half-open or with rubbish; it keeps some, and must close the others soon."""
    mixed = chance.choice(((b"",), (b"", _HALF), (b"", _HALF, chance.randbytes(100))))
    opened, close = _opened(world, _MANY, *mixed)
    end_s = time.monotonic() + _CLOSED_S
    while (left := sum(map(_is_open, opened))) > MOST_CONNECTIONS and time.monotonic() < end_s:
        pause(0.05)
    if left > MOST_CONNECTIONS and world.is_alive() and not world.may_be_killed:
        world.problems.append(f"{left} connections are open")
    return close


def _is_open(sock: socket.socket) -> bool:
    try:
        sock.setblocking(False)
        # A refusal may come before the end.
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@fault("half-open-requests")
def _half_open_requests(world: World, chance: random.Random) -> Undo:
    return _connections(world, chance.randint(10, 100), _HALF)


@fault("rubbish-requests")
def _rubbish_requests(world: World, chance: random.Random) -> Undo:
    return _connections(world, 30, chance.randbytes(chance.choice((1, 100, 40_000))))


@fault("silent-event-streams")
def _silent_event_streams(world: World, chance: random.Random) -> Undo:
    head = f"GET /api/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    return _connections(world, chance.randint(2, 20), head.encode())


@fault("wrong-tokens")
def _wrong_tokens(world: World, chance: random.Random) -> Undo:
    body = f'{{"token": "{chance.random()}"}}'
    head = f"POST /api/session HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return _connections(world, 40, f"{head}\r\n\r\n{body}".encode())
