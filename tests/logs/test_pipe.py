"""How a child's pipe is read: in limited turns, and later if the kernel cannot watch it for now."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import os
from typing import TYPE_CHECKING

from supervisor.logs.lines import Source
from supervisor.logs.pipe import Pipe
from supervisor.logs.redact import Redactor

if TYPE_CHECKING:
    import pytest


async def test_a_pipe_that_cannot_be_watched_is_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """epoll_ctl(2) may fail with ENOMEM or ENOSPC; this used to end the supervisor."""
    loop = asyncio.get_running_loop()
    real, refused = loop.add_reader, [errno.ENOMEM, errno.ENOSPC]

    def add_reader(*arguments: object) -> None:
        if refused:
            raise OSError(refused.pop(), "refused")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "add_reader", add_reader)
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    Pipe(loop, read_fd, Source("app", "stdout"), Redactor([]), lambda _source, data: lines.put_nowait(data))
    os.write(write_fd, b"a line\n")
    assert await asyncio.wait_for(lines.get(), 10) == b"a line\n"
    os.write(write_fd, b"another\n")
    assert await asyncio.wait_for(lines.get(), 10) == b"another\n"
    os.close(write_fd)
    await asyncio.sleep(0.05)


async def test_bytes_that_are_no_text_are_processed_in_small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even after reads of plain lines have grown: 64 KiB of such bytes blocked the loop for up to 150 ms."""
    loop = asyncio.get_running_loop()
    # Every turn appears to be fast, so that reads grow to their maximum.
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", lambda: next(ticks) / 100_000)
    text = b"".join(b"line %06d\n" % number for number in range(20_000))
    binary = (bytes(range(0x80, 0xE3)) + b"\n") * 2_000
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 1024 * 1024)
    os.set_blocking(read_fd, False)
    assert os.write(write_fd, text + binary) == len(text + binary)
    os.close(write_fd)
    taken: list[bytes] = []
    done = asyncio.Event()

    def take(_source: Source, lines: bytes) -> None:
        taken.append(lines)
        if sum(map(len, taken)) == len(text + binary):
            done.set()

    Pipe(loop, read_fd, Source("app", "stdout"), Redactor([]), take)
    await done.wait()
    assert b"".join(taken) == text + binary
    assert max(len(lines) for lines in taken if lines.isascii()) > 20_000
    assert max(len(lines) for lines in taken if not lines.isascii()) < 16 * 1024 + 100
