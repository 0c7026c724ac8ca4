"""What an event stream contains only on request: figures and colours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.web import events
from tests.web.following import following
from tests.web.serving import READY, serving

if TYPE_CHECKING:
    from tests.web.serving import Served


def print_line(served: Served, line: bytes) -> None:
    """Let the app print this."""
    read_fd, write_fd = os.pipe()
    served.log.attach("moltis", "stdout", read_fd)
    os.write(write_fd, line)
    os.close(write_fd)


async def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and CPU of each process are sent repeatedly, even if nothing happens; other streams do not get them."""
    monkeypatch.setattr(events, "FIGURES_S", 0.05)
    app = READY._replace(pid=os.getpid())
    stopped = READY._replace(name="stopped", pid=None)
    async with serving(app, stopped) as served, following(served, "?figures=on") as stream, following(served) as plain:
        await stream.until("state")
        first, second = await stream.next(), await stream.next()
        assert (first.kind, second.kind) == ("figures", "figures")
        own, none = second.data["processes"]
        assert own["memory_bytes"] > 1_000_000
        assert own["cpu_s"] > 0
        assert none == {"name": "stopped", "memory_bytes": None, "cpu_s": None}
        await plain.until("state")
        served.log.record("info", "a line")
        assert (await plain.next()).kind == "log"


async def test_figures_leave_silence_to_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits for figures gets a sign of life, too."""
    monkeypatch.setattr(events, "FIGURES_S", 1000.0)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    async with serving() as served, following(served, "?figures=on") as stream:
        await stream.until("state")
        assert await stream.block() == ": nothing new\n"


@pytest.mark.parametrize(("query", "colored"), [("?colors=on", "\x1b[31mred\x1b[0m"), ("", None)])
async def test_colours(query: str, colored: str | None) -> None:
    """A line also has its text with colours, if requested."""
    async with serving() as served, following(served, query) as stream:
        print_line(served, b"\x1b[31mred\n")
        (line,) = await stream.lines(1)
        assert (line["message"], line.get("colored")) == ("red", colored)
