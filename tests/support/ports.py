"""Ports for tests: each worker has its own, below the kernel's ephemeral ports."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _EACH = 20_000, 400
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 30
# Starts at a random one, as another run of the tests may use the first ones.
_numbers = itertools.count(os.getpid())


def free_port(host: str = "127.0.0.1") -> int:
    """Return an unused port of an address, which is not given out again. Raises OSError."""
    for _ in range(_EACH):
        port = _FIRST + _WORKER * _EACH + next(_numbers) % _EACH
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {host} is free from {_FIRST + _WORKER * _EACH} on")
