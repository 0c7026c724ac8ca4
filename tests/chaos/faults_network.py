"""Faults that come over the network."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from tests.chaos.kinds import fault
from tests.chaos.world import TOKEN

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


def _connections(world: World, count: int, data: bytes) -> Undo:
    """Open this many connections, send this on each, and keep them open until the fault is undone."""
    opened = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            sock = socket.socket()
            opened.append(sock)
            sock.settimeout(1)
            sock.connect((world.host, world.port))
            sock.sendall(data)

    def close() -> None:
        for sock in opened:
            sock.close()

    return close


@fault("idle-connections")
def _idle_connections(world: World, chance: random.Random) -> Undo:
    return _connections(world, chance.randint(50, 300), b"")


@fault("half-open-requests")
def _half_open_requests(world: World, chance: random.Random) -> Undo:
    return _connections(world, chance.randint(10, 100), b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ")


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
