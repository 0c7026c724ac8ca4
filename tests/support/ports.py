"""Ports for what a test starts: a worker has its own, below those that the kernel gives to whoever asks for any."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _EACH = 20_000, 400
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 30
# Not from the first one on: another run of the tests may be at it.
_numbers = itertools.count(os.getpid())


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of an address that nobody uses, and that nobody is given before it is used. Raises OSError."""
    for _ in range(_EACH):
        port = _FIRST + _WORKER * _EACH + next(_numbers) % _EACH
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {host} is free from {_FIRST + _WORKER * _EACH} on")
