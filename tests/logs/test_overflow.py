"""Consumers of the log that stall, disconnect, or have no space left."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from typing import TYPE_CHECKING

from supervisor.logs import pipeline
from supervisor.logs.writer import BUFFER_BYTES, UNREAD_BYTES
from tests.logs.rig import Rig, until
from tests.support.crowded import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

LINE = b"%08d " + b"y" * 90 + b"\n"
MANY = 300_000
# For all of them to pass, on a crowded machine.
LONG_S = 60.0


async def pour(fd: int, count: int, progress: list[int]) -> None:
    """Write numbered lines as fast as the pipe accepts them; record the progress."""
    os.set_blocking(fd, False)
    step = 500
    for begin in range(0, count, step):
        data = b"".join(LINE % number for number in range(begin, min(count, begin + step)))
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)
        progress.append(begin + step)
    os.close(fd)


class Reader:
    """The reading end of the log; it reads only on request."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd, self.write_fd = os.pipe() if fd is None else (fd, -1)
        self.data = bytearray()

    async def read_until(self, what: bytes) -> None:
        """Read until this text has arrived."""
        os.set_blocking(self.fd, False)
        end_s = time.monotonic() + LONG_S
        while what not in self.data[-4096:]:
            assert time.monotonic() < end_s, bytes(self.data[-300:])
            try:
                self.data += os.read(self.fd, 1 << 20)
            except BlockingIOError:
                await asyncio.sleep(0.001)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the lines read; each line is checked to be complete."""
        lines = [line for line in bytes(self.data).splitlines() if line.startswith(b"moltis")]
        assert all(re.fullmatch(rb"moltis     \xe2\x94\x82 \d{8} y{90}", line) for line in lines)
        return [int(line.split(b" ")[-2]) for line in lines]


async def stalled(overflow: str) -> tuple[Rig, Reader, asyncio.Task[None], list[int]]:
    """Return a log whose consumer does not read, with a child that writes more than fits into the buffer."""
    reader = Reader()
    rig = Rig(out_fd=reader.write_fd, overflow=overflow)
    progress: list[int] = []
    pouring = asyncio.get_running_loop().create_task(pour(rig.pipe(), MANY, progress))
    return rig, reader, pouring, progress


async def test_block_lets_children_wait_and_loses_nothing() -> None:
    """Memory stays limited, the loop stays fast, and when the consumer reads again, nothing is missing."""
    rig, reader, pouring, progress = await stalled("block")
    await until(lambda: rig.log._held_since_s is not None)
    assert rig.log._writer._bytes < BUFFER_BYTES + 1024 * 1024
    taken = len(progress)
    watch = Stopwatch()
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert watch.net_s < 2
    assert len(progress) <= taken + 40
    await reader.read_until(b"%08d" % (MANY - 1))
    await pouring
    assert reader.numbers == list(range(MANY))
    rig.end()


async def test_drop_never_waits_and_says_how_much_is_gone() -> None:
    """The oldest lines are dropped; the count in the notice and the lines left add up to all."""
    rig, reader, pouring, _ = await stalled("drop")
    await pouring
    await rig.closed()
    assert rig.log._writer._bytes <= BUFFER_BYTES
    await reader.read_until(b"%08d" % (MANY - 1))
    rig.end()
    check_lost(reader)


async def test_block_drops_when_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is read for PATIENCE_S, the children continue, and the loss is counted."""
    monkeypatch.setattr(pipeline, "PATIENCE_S", 0.2)
    rig, reader, pouring, _ = await stalled("block")
    await asyncio.wait_for(pouring, LONG_S)
    await rig.closed()
    await reader.read_until(b"%08d" % (MANY - 1))
    rig.end()
    check_lost(reader)


def check_lost(reader: Reader) -> None:
    """Check that the count of lost lines and the lines left add up to all, and that these are in order."""
    lost = [int(count) for count in re.findall(rb"log lines lost count=(\d+)", bytes(reader.data))]
    numbers = reader.numbers
    assert numbers == sorted(set(numbers))
    assert len(lost) == 1
    assert sum(lost) + len(numbers) == MANY


async def test_a_slow_consumer_is_no_stalled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience is measured from the last bytes that it read, however long the children have waited by then."""
    monkeypatch.setattr(pipeline, "PATIENCE_S", 2.0)
    rig, reader, pouring, _ = await stalled("block")
    await until(lambda: rig.log._held_since_s is not None)
    held_since_s = rig.log._held_since_s
    end_s = time.monotonic() + 1.5 * pipeline.PATIENCE_S
    while time.monotonic() < end_s:
        # So little that the children go on waiting.
        reader.data += os.read(reader.fd, 1 << 14)
        next_s = time.monotonic() + 0.1
        await until(lambda next_s=next_s: time.monotonic() >= next_s)  # type: ignore[misc]
    assert rig.log._held_since_s == held_since_s
    await reader.read_until(b"%08d" % (MANY - 1))
    await pouring
    assert reader.numbers == list(range(MANY))
    rig.end()


async def test_a_closed_consumer_does_no_harm() -> None:
    """EPIPE: children and history continue, little is kept, there is no busy loop, and closing does not wait."""
    reader = Reader()
    os.close(reader.fd)
    rig = Rig(out_fd=reader.write_fd)
    await rig.say(b"".join(LINE % number for number in range(MANY // 2)))
    assert rig.log.history.next == MANY // 2 + 1
    writer = rig.log._writer
    await until(lambda: writer.unread)
    await rig.say(b"x\n" * 1000)
    assert writer._bytes <= UNREAD_BYTES + 64 * 1024
    before_s, tries = time.process_time(), writer.tries
    await until(lambda: writer.tries >= tries + 2)
    assert time.process_time() - before_s < 0.1
    watch = Stopwatch()
    rig.end()
    assert watch.net_s < 5
    os.close(reader.write_fd)


async def test_a_consumer_that_leaves_while_children_wait_lets_them_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the consumer has disconnected, the children do not wait for PATIENCE_S."""
    monkeypatch.setattr(pipeline, "PATIENCE_S", 3600.0)
    rig, reader, pouring, _ = await stalled("block")
    await until(lambda: rig.log._held_since_s is not None)
    os.close(reader.fd)
    await asyncio.wait_for(pouring, LONG_S)
    await rig.closed()
    rig.end()
    os.close(reader.write_fd)


async def test_the_next_reader_of_a_fifo_goes_on_where_the_last_one_left(tmp_path: Path) -> None:
    """Nothing is lost while the lines fit, what exceeds the buffer is counted, and no child waits meanwhile."""
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = Reader(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    out_fd = os.open(fifo, os.O_WRONLY)
    rig = Rig(out_fd=out_fd)
    await rig.say(LINE % 0)
    await reader.read_until(b"%08d" % 0)
    os.close(reader.fd)
    await rig.say(b"".join(LINE % number for number in range(1, 1000)))
    reader.fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    await reader.read_until(b"%08d" % 999)
    assert reader.numbers == list(range(1000))
    os.close(reader.fd)
    reader.data.clear()
    await rig.say(b"".join(LINE % number for number in range(MANY)))
    reader.fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    await reader.read_until(b"%08d" % (MANY - 1))
    check_lost(reader)
    rig.end()
    os.close(reader.fd)
    os.close(out_fd)


async def test_the_next_reader_goes_on_without_a_thread_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of processes no thread can start, and a FIFO without a reader is not given up."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = Reader(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    out_fd = os.open(fifo, os.O_WRONLY)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        rig = Rig(out_fd=out_fd)
    await rig.say(LINE % 0)
    await reader.read_until(b"%08d" % 0)
    os.close(reader.fd)
    await rig.say(LINE % 1)
    reader.fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    await reader.read_until(b"%08d" % 1)
    assert reader.numbers == [0, 1]
    rig.end()
    os.close(reader.fd)
    os.close(out_fd)


async def test_a_bad_descriptor_does_no_harm() -> None:
    """EBADF, as after `>&-`: the history continues, and nothing is kept for a reader that cannot come."""
    rig = Rig(out_fd=10_000)
    rig.log.record("info", "hello")
    await rig.say(b"x\n" * 1000)
    assert rig.log.history.next == 1002
    writer = rig.log._writer
    await until(lambda: not writer._bytes and not writer._queue)
    assert rig.log.dropped == 1001
    await rig.say(b"x\n" * 10)
    assert rig.log.dropped == 1011
    rig.end()


async def test_a_full_disk_does_no_harm() -> None:
    """ENOSPC: writes are retried, without a busy loop, and closing does not wait long."""
    fd = os.open("/dev/full", os.O_WRONLY)
    rig = Rig(out_fd=fd)
    await rig.say(b"x\n" * 1000)
    before_s = time.process_time()
    watch = Stopwatch()
    rig.log.close(0.5)
    assert watch.net_s < 2
    assert time.process_time() - before_s < 0.3
    rig.log.close(0.0)
    os.close(fd)


async def test_a_stop_does_not_wait_for_a_stalled_consumer() -> None:
    """A stop waits at most half a second for it."""
    rig, reader, pouring, _ = await stalled("block")
    await until(lambda: rig.log._held_since_s is not None)
    watch = Stopwatch()
    rig.log.close()
    assert watch.net_s < 1.5
    pouring.cancel()
    os.close(reader.fd)


async def test_a_stop_lets_children_wait_no_longer() -> None:
    """A child that logs while stopping could not exit while its pipe is full."""
    rig, reader, pouring, _ = await stalled("block")
    await until(lambda: rig.log._held_since_s is not None)
    rig.log.stop_waiting()
    await asyncio.wait_for(pouring, LONG_S)
    await rig.closed()
    await reader.read_until(b"%08d" % (MANY - 1))
    rig.end()
    check_lost(reader)


async def test_a_non_blocking_output_is_waited_for() -> None:
    """Another process has made the shared terminal non-blocking: no line is lost or torn."""
    reader = Reader()
    os.set_blocking(reader.write_fd, False)
    rig = Rig(out_fd=reader.write_fd)
    saying = asyncio.get_running_loop().create_task(rig.say(b"".join(LINE % number for number in range(20_000))))
    await reader.read_until(b"%08d" % 19_999)
    await saying
    assert reader.numbers == list(range(20_000))
    rig.end()
