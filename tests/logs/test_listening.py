"""A pipe that the kernel will not watch for now is watched later: its lines come all the same."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from supervisor.logs.lines import Source
from supervisor.logs.pipe import Pipe
from supervisor.logs.redact import Redactor

if TYPE_CHECKING:
    import pytest


async def test_a_pipe_that_cannot_be_watched_is_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """epoll_ctl(2) may say ENOMEM or ENOSPC; that ended everything."""
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
