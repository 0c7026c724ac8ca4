"""The last lines: numbered, limited, and with a count of the lines lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.logs.history import History
from supervisor.logs.lines import Source
from supervisor.logs.redact import Redactor

OUT = Source("moltis", "stdout")
OTHER = Source("tailscaled", "stderr")
BLOCKS = st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=30)


def filled(blocks: list[tuple[bool, int]], most_lines: int, most_bytes: int = 1 << 20) -> History:
    """Add blocks whose lines contain their own numbers."""
    history = History(Redactor(), most_lines, most_bytes)
    for ours, count in blocks:
        text = b"".join(b"line %d\n" % number for number in range(history.next, history.next + count))
        history.add(OUT if ours else OTHER, text, count, 1.5, {})
    return history


@given(BLOCKS, st.integers(1, 60), st.integers(0, 400), st.integers(1, 50))
def test_pages_tell_everything_once(blocks: list[tuple[bool, int]], most: int, after: int, limit: int) -> None:
    """Reading page by page returns each line still kept, in order, and counts the others as lost."""
    history = filled(blocks, most)
    total = history.next - 1
    seen = []
    at, lost = after, 0
    while True:
        page = history.read(at, limit)
        lost += page.lost
        seen += [line.number for line in page.lines]
        assert all(line.message == f"line {line.number}" for line in page.lines)
        assert len(page.lines) <= limit
        if not page.lines:
            break
        at = page.after
    assert seen == list(range(max(after, total - most) + 1, total + 1))
    assert lost == max(0, total - most - after)


@given(BLOCKS, st.integers(1, 60), st.integers(1, 40))
def test_one_process_last_lines(blocks: list[tuple[bool, int]], most: int, count: int) -> None:
    """A process keeps its last lines, however much other processes log."""
    history = filled(blocks, most)
    ours: list[int] = []
    number = 1
    for own, lines in blocks:
        ours += range(number, number + lines) if own else ()
        number += lines
    kept = min(count, 20)
    assert history.tail("moltis", kept) == tuple(f"line {number}" for number in ours[-kept:])
    since = number // 2
    assert history.tail("moltis", kept, since) == tuple(f"line {n}" for n in ours[-kept:] if n >= since)
    page = history.read(-count, process="moltis")
    assert [line.number for line in page.lines] == [n for n in ours if n >= number - most][-count:]
    page = history.read(-count, process="moltis", since=since)
    assert [line.number for line in page.lines] == [n for n in ours if n >= max(since, number - most)][-count:]


@given(BLOCKS, st.integers(10, 400))
def test_bytes_are_bounded(blocks: list[tuple[bool, int]], most_bytes: int) -> None:
    """The size of the text is limited, but at least one line is kept."""
    history = filled(blocks, 1000, most_bytes)
    kept = sum(len(block.text) for block in history._blocks)
    assert kept == history._bytes
    assert kept <= max(most_bytes, len("line 999\n"))
    assert sum(block.lines for block in history._blocks) == history._lines
    if blocks:
        assert history.read(-1).lines[0].number == history.next - 1
        assert history.oldest == history._blocks[0].first


def test_a_big_block_leaves_its_end() -> None:
    """A block larger than the limit is shortened to its end, not dropped."""
    history = filled([(True, 20_000)], 2000, 4096)
    page = history.read(0)
    assert page.lines[-1].number == 20_000
    assert page.lost == 20_000 - len(page.lines)
    assert 300 < len(page.lines) < 400


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.integers(20, 300), st.integers(1, 5))
def test_a_level_stays_with_its_line(counts: list[int], most_bytes: int, every: int) -> None:
    """A line keeps its level, however many lines of its block were removed."""
    history = History(Redactor(), 1000, most_bytes)
    for count in counts:
        numbers = range(history.next, history.next + count)
        text = b"".join(b"%d\n" % number for number in numbers)
        levels = {place: "error" for place, number in enumerate(numbers) if not number % every}
        history.add(OUT, text, count, 1.5, levels)
    for line in history.read().lines:
        assert line.level == ("info" if line.number % every else "error")


def test_entries_tell_all() -> None:
    """Number, time, process, stream, level, message, topic and colours; an object's message and fields become text."""
    history = History(Redactor(), 10)
    history.add(
        OUT,
        b'{"timestamp":"2026-08-21T10:00:00Z","level":"ERROR","fields":{"message":"no","why":"\\u0067 x"},'
        b'"target":"a::b"}\n',
        1,
        2.5,
        {0: "error"},
    )
    history.add(OTHER, b"2026/11/22 21:36:03 [v1] dns: x\n", 1, 3.5, {0: "debug"})
    first, second = history.read().lines
    assert first == (1, 2.5, "moltis", "stdout", "error", 'no why="\\u0067 x" target=a::b', "", "")
    assert second == (2, 3.5, "tailscaled", "stderr", "debug", "2026/11/22 21:36:03 [v1] dns: x", "dns", "")


def test_reading_after_the_end_gives_nothing() -> None:
    """A reader that is ahead, as after a restart, gets an empty page and its own number back."""
    history = filled([(True, 3)], 10)
    assert history.read(3) == ((), 0, 3)
    assert history.read(99) == ((), 0, 99)
