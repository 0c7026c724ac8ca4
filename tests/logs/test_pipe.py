"""How a child's pipe is read: in limited turns, and later if the kernel cannot watch it for now."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import os
import subprocess
import sys
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
    Pipe(loop, read_fd, Source("app", "stdout"), Redactor([]), lambda _source, data, _count: lines.put_nowait(data))
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

    def take(_source: Source, lines: bytes, count: int) -> None:
        assert count == lines.count(b"\n")
        taken.append(lines)
        if sum(map(len, taken)) == len(text + binary):
            done.set()

    Pipe(loop, read_fd, Source("app", "stdout"), Redactor([]), take)
    await done.wait()
    assert b"".join(taken) == text + binary
    assert max(len(lines) for lines in taken if lines.isascii()) > 20_000
    assert max(len(lines) for lines in taken if not lines.isascii()) < 16 * 1024 + 100


# Writes single lines and some longer ones, and keeps the last of them, as the history does, beside other objects.
GROWTH = """
import asyncio, os, random
from collections import deque
from supervisor.logs.lines import Source
from supervisor.logs.pipe import Pipe
from supervisor.logs.redact import Redactor

def heap_kib():
    with open("/proc/self/smaps") as file:
        lines = iter(file)
        next(line for line in lines if "[heap]" in line)
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1])

random.seed(1)
kept, others = deque(maxlen=2000), deque(maxlen=400)
reader, writer = os.pipe()
os.set_blocking(reader, False)
source = Source("moltis", "stdout")
pipe = Pipe(asyncio.new_event_loop(), reader, source, Redactor(), lambda _, lines, count: kept.append(lines))
before = heap_kib()
for number in range(96_000):
    os.write(writer, b"x" * random.randrange(40, 110) + b"\\n")
    if number % 50 == 0:
        os.write(writer, b"y" * random.randrange(300, 6000) + b"\\n")
    pipe._read()
    if number % 97 == 0:
        others.append(bytes(random.randrange(600, 3000)))
print(heap_kib() - before)
"""


def test_lines_that_are_kept_take_no_more_memory_than_their_size() -> None:
    """Each was at the start of a block for 16 KiB, the rest of which was too small for other reads: 2.5 MB."""
    grown = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert int(grown) < 1500
