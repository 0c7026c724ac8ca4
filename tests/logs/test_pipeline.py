"""The log with real pipes and real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervisor.logs import pipe
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from tests.logs.rig import Rig, until

# Each line of a stream has its number; lines vary in length. Written in pieces that end anywhere.
FLOOD = """
import os, sys, threading
def pour(fd, name, count, step):
    data = b"".join(b"%s %07d %s\\n" % (name, number, b"x" * (number % 90)) for number in range(count))
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:step]):]
threads = [threading.Thread(target=pour, args=(fd, name, int(sys.argv[1]), step))
           for fd, name, step in ((1, b"out", 65521), (2, b"err", 4093))]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
HOLDER = """
import os, sys
if os.fork() == 0:
    os.setsid()
    sys.stdin.read()
    print("from the grandchild", end="", flush=True)
    os._exit(0)
print("a line\\nthe last words", end="", flush=True)
os._exit(3)
"""


def start(rig: Rig, *argv: str, **options: object) -> subprocess.Popen[bytes]:
    """Run a program whose output goes to the log."""
    out, err = rig.pipe("moltis", "stdout"), rig.pipe("moltis", "stderr")
    try:
        return subprocess.Popen(argv, stdout=out, stderr=err, **options)  # type: ignore[call-overload,no-any-return]
    finally:
        os.close(out)
        os.close(err)


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["pretty", "json"])
async def test_a_flood_arrives_whole(format_: str) -> None:
    """Two streams of 1,000,000 lines: none is lost, torn, duplicated or out of order."""
    count = 1_000_000
    rig = Rig(format=format_, secrets=["never-in-it"])
    child = start(rig, sys.executable, "-c", FLOOD, str(count))
    await rig.closed()
    assert child.wait() == 0
    assert rig.log.history.next - 1 == 2 * count
    seen = {b"out": 0, b"err": 0}
    begin, end = ("moltis     │ ".encode(), b"") if format_ == "pretty" else (b'"message":"', b'"}')
    for line in rig.end().splitlines():
        text = line[line.index(begin) + len(begin) : len(line) - len(end)]
        name, number, filler = text.split(b" ")
        assert int(number) == seen[name]
        assert filler == b"x" * (seen[name] % 90)
        seen[name] += 1
    assert seen == {b"out": count, b"err": count}


async def test_line_by_line_writers_are_read_in_gulps() -> None:
    """There are fewer blocks than lines: the reader waits briefly for more, and loses nothing."""
    rig = Rig(history_lines=10_000)
    program = "import os\nfor number in range(5000): os.write(1, b'%d\\n' % number)"
    start(rig, sys.executable, "-c", program).wait()
    await rig.closed()
    assert [line.message for line in rig.log.history.read(0, 10_000).lines] == [str(number) for number in range(5000)]
    assert len(rig.log.history._blocks) < 2500
    rig.end()


PLAIN = [
    "word ",
    "é",
    "│",
    "\\u0041",
    "%41",
    '"',
    "\\",
    "\t",
    "ERROR ",
    "2026-01-02T03:04:05Z  WARN ",
    "{",
    "}",
    "-" * 300,
]
ODD = ["\x1b[31m", "\x1b[0m", "\x1b", "\x1b[K", "[2m", "\r", "\0", "\x85", "\u202e", "\u200b", "geheimnis", "geheim"]
PIECES = st.sampled_from(PLAIN) | st.sampled_from(ODD)


@settings(max_examples=60)
@given(st.lists(st.lists(PIECES, max_size=8), min_size=1, max_size=12), st.sampled_from(["pretty", "json"]))
@example([["{", "}"], ["{", "\t", "}"]], "pretty")
@example([["{", "}"], ["{", "\t", "}"]], "json")
async def test_log_and_history_say_the_same(lines: list[list[str]], format_: str) -> None:
    """They have the same lines with the same levels, whatever the lines contain; the counter agrees with them."""
    rig = Rig(format=format_, secrets=["geheimnis"])
    await rig.say("".join("".join(parts) + "\n" for parts in lines).encode())
    told = rig.log.history.read(0, 1000, "moltis").lines
    counted = {level: count for (_, level), (count, _) in rig.log.counted().items()}
    assert counted == Counter(line.level for line in told)
    if format_ == "json":
        assert [(record["level"], record["message"]) for record in rig.end_json()] == [
            (line.level, line.message) for line in told
        ]
    else:
        out = rig.end().decode().split("\n")[:-1]
        assert [line.partition("│ ")[2] for line in out] == [line.message for line in told]
    assert not any("geheimnis" in line.message for line in told)


async def test_many_short_lines_are_taken_in_turns() -> None:
    """All are taken, in order, and each turn takes a limited number."""
    rig = Rig(history_lines=100_000)
    await rig.say(b"".join(b"%x\n" % number for number in range(50_000)))
    assert [line.message for line in rig.log.history.read(0, 100_000).lines] == [
        f"{number:x}" for number in range(50_000)
    ]
    assert max(block.lines for block in rig.log.history._blocks) <= pipe._MOST_LINES
    assert rig.end().count(b"\n") == 50_000


async def test_a_line_waits_for_its_end() -> None:
    """No timeout passes on an incomplete line."""
    rig = Rig()
    fd = rig.pipe()
    os.write(fd, b"first\nhal")
    await until(lambda: rig.log.history.next == 2)
    os.write(fd, b"f\n")
    await until(lambda: rig.log.history.next == 3)
    assert rig.log.history.tail("moltis", 5) == ("first", "half")
    os.close(fd)
    rig.end()


async def test_50_mb_without_a_newline() -> None:
    """Such output is logged completely, in marked pieces."""
    rig = Rig()
    program = "import os\nfor _ in range(800):\n  d = b'x' * 65536\n  while d: d = d[os.write(1, d):]"
    child = start(rig, sys.executable, "-c", program)
    await rig.closed()
    assert child.wait() == 0
    out = rig.end()
    assert out.count(b"x") == 800 * 65536
    assert all(len(line) < 16 * 1024 for line in out.splitlines())


async def test_drain_takes_the_last_words_and_leaves_a_held_pipe_open() -> None:
    """A pipe held by a grandchild stays open; what the dead child wrote is logged at once."""
    rig = Rig()
    child = start(rig, sys.executable, "-c", HOLDER, stdin=subprocess.PIPE)
    assert child.wait() == 3
    rig.log.drain("moltis")
    assert rig.log.history.tail("moltis", 3) == ("a line",)
    assert not any(pipe.closed for pipe in rig.log._pipes["moltis"])
    assert child.stdin is not None
    child.stdin.close()
    await rig.closed()
    assert rig.log.history.tail("moltis", 1) == ("the last wordsfrom the grandchild",)
    rig.end()


async def test_drain_takes_all_that_a_pipe_holds() -> None:
    """Even if the lines are so short that they take many turns, all are taken."""
    rig = Rig(history_lines=1_000_000)
    fd = rig.pipe()
    os.set_blocking(fd, False)
    written = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            written += os.write(fd, b"\n" * 65536)
    rig.log.drain("moltis")
    assert rig.log.history.next - 1 == written
    os.close(fd)
    rig.end()


async def test_drain_closes_what_has_ended() -> None:
    """What a dead child wrote last is a line, even without a newline, and its pipes are closed."""
    rig = Rig()
    child = start(rig, sys.executable, "-c", "print('x' * 20_000); print('end', end='')")
    assert child.wait() == 0
    rig.log.drain("nobody")
    rig.log.drain("moltis")
    assert all(pipe.closed for pipe in rig.log._pipes["moltis"])
    assert rig.log.history.tail("moltis", 1) == ("end",)
    rig.end()


async def test_what_comes_before_the_start_is_remembered() -> None:
    """Records and output from before the start are kept, in order."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    out_read, out_write = os.pipe()
    log = LogPipeline(
        format="pretty", color=False, redactor=Redactor(), history_lines=10, names=["moltis"], out_fd=out_write
    )
    log.record("info", "starting", child=None)
    log.attach("moltis", "stdout", read_fd)
    os.write(write_fd, b"hello\n")
    log.start(asyncio.get_running_loop())
    await until(lambda: log.history.next == 3)
    os.close(write_fd)
    log.close()
    assert [line.message for line in log.history.read().lines] == ["starting", "hello"]
    os.close(out_write)
    assert os.read(out_read, 4096).endswith("INFO starting\nmoltis │ hello\n".encode())
    os.close(out_read)


async def test_subscribers_are_called_once_a_turn() -> None:
    """They are called once, however many records there are, and not after they have unsubscribed."""
    rig = Rig()
    calls: list[int] = []
    leave = rig.log.subscribe(lambda: calls.append(rig.log.history.next))
    for number in range(50):
        rig.log.record("info", f"record {number}")
    await until(lambda: calls)
    assert calls == [51]
    leave()
    leave()
    rig.log.record("info", "more")
    await asyncio.sleep(0)
    assert calls == [51]
    rig.end()


async def test_a_secret_learned_late_is_masked_from_then_on() -> None:
    """It is masked even if it is split across two writes."""
    rig = Rig()
    fd = rig.pipe()
    rig.redactor.learn("pasted-key-1")
    os.write(fd, b"my pasted-")
    await asyncio.sleep(0.01)
    os.write(fd, b"key-1 here\n")
    os.close(fd)
    await rig.closed()
    assert rig.log.history.tail("moltis", 1) == ("my [redacted] here",)
    assert b"pasted" not in rig.end()


@pytest.mark.parametrize("format_", ["json", "pretty"])
@pytest.mark.parametrize("secret", ["geheim\tnis", 'geheim"nis', "geheim\\nis", "geheim nis"])
async def test_a_secret_is_masked_wherever_a_record_holds_it(format_: str, secret: str) -> None:
    """In the event, in each kind of field, and where the format spells it in another way."""
    rig = Rig(format=format_, secrets=[secret])
    for fields in ({"why": secret}, {"names": [secret]}, {"story": {"what": [f"of {secret}."]}}, {"why": Path(secret)}):
        rig.log.record("info", "odd", **fields)
    rig.log.record("info", f"hidden {secret[:4]}\u200b{secret[4:]}")
    out = rig.end().decode()
    assert out.count("[redacted]") >= 5
    texts = [line.message for line in rig.log.history.read().lines]
    assert len(texts) == 5
    assert not [text for text in (out, *texts) if "nis" in text]


@pytest.mark.parametrize("ended", ["x\x1b", "x\x1b[", "x\\x1b", "x\\u0041"])
@pytest.mark.parametrize("begun", ["gehe\x1b[31mimnis", "gehe\\x1b[31mimnis", "\\geheim%6eis"])
async def test_no_text_hides_a_secret_in_another(ended: str, begun: str) -> None:
    """An escape at the end of one field, or line, does not change what is seen of the next."""
    rig = Rig(secrets=["geheimnis"])
    rig.log.record("info", "odd", a=ended, b=begun)
    fd = rig.pipe()
    os.write(fd, f"{ended}\n{begun}\n".encode())
    os.close(fd)
    await rig.closed()
    out = rig.end().decode()
    assert out.count("[redacted]") == 2
    assert sum("[redacted]" in line.message for line in rig.log.history.read().lines) == 2


@pytest.mark.parametrize("format_", ["json", "pretty"])
@pytest.mark.parametrize(
    "fields",
    [
        {"why": "\x1b[0m" * 5000},
        {"why": ["\x1b[0m"] * 3000},
        {"why": "\r" * 20000},
        {"why": "\x01" * 5000},
        {"last_lines": ["\\" * 2000] * 10},
        {"last_lines": ["\t" * 2000] * 10},
        {"names": [*map(chr, range(0x4E00, 0x5600))]},
        {"story": {"what": "\x7f" * 3000, "cause": '"' * 3000}},
    ],
    ids=["colours", "list of colours", "returns", "controls", "backslashes", "tabs", "names", "story"],
)
async def test_a_record_stays_within_the_limit_however_it_is_written(format_: str, fields: dict[str, object]) -> None:
    """A record's size is measured as written, including escapes, and each of its lines has its own number."""
    rig = Rig(format=format_)
    rig.log.record("error", "odd", **fields)
    rig.log.record("info", "long " * 9000)
    rig.log.record("info", "last")
    assert max(map(len, rig.end().splitlines())) < 16 * 1024
    lines = rig.log.history.read().lines
    assert [line.number for line in lines] == [*range(1, rig.log.history.next)]
    assert sum(count for count, _ in rig.log.counted().values()) == len(lines)
