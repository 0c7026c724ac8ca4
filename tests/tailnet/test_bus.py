"""The bus: which errors are reported, and what they may reveal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.logs.redact import Redactor
from supervisor.tailnet import localapi
from supervisor.tailnet.localapi import WATCH_MASK, Bus, LocalApi, LocalApiError
from tests.logs.rig import until
from tests.support.listening import listening
from tests.tailnet.test_http1 import OK, answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
KEY = "my-own-servers-key-0123456789abcdef"


class Streams:
    """A tailscaled that has only a bus; each stream starts with a frame, like the real one's."""

    def __init__(self) -> None:
        self.open: list[asyncio.StreamWriter] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one watcher."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b'{"State":2,"Prefs":{}}\n')
        self.open.append(writer)
        await reader.read()

    def tell(self, text: str, stream: int = -1) -> None:
        """Send an error in one of the streams."""
        self.say(f'{{"ErrMessage":"{text}"}}', stream)

    def say(self, frame: str, stream: int = -1) -> None:
        """Send a frame in one of the streams."""
        self.open[stream].write(f"{frame}\n".encode())


@contextlib.asynccontextmanager
async def following(tmp_path: Path, mask: Callable[[str], str] = str) -> AsyncIterator[tuple[Bus, Streams]]:
    """Follow the bus of such a tailscaled for the duration of a block."""
    streams, bus = Streams(), Bus(lambda: None, lambda _secret: None)
    path = str(tmp_path / "socket")
    async with listening(streams.take, path):
        task = asyncio.get_running_loop().create_task(bus.run(LocalApi(path, mask)))
        try:
            await until(lambda: len(streams.open) == 1)
            yield bus, streams
        finally:
            task.cancel()


async def errors_of(bus: Bus) -> list[str]:
    """Wait until the bus reports errors, and return them."""
    found: list[str] = []

    def told() -> bool:
        found.extend(bus.take_errors())
        return bool(found)

    await until(told)
    return found


async def test_an_error_of_an_earlier_key_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that were not yet taken, or are still in transit, are dropped when another key is handed over."""
    # A crowded machine may take longer than usual.
    for name in ("_OPEN_S", "_MUTED_S"):
        monkeypatch.setattr(localapi, name, 60.0)
    async with following(tmp_path) as (bus, streams):
        streams.tell("of the first key")
        assert await errors_of(bus) == ["of the first key"]
        streams.tell("of the first key again")
        await until(lambda: bus._errors)
        async with bus.muted():
            assert len(streams.open) == 2
            streams.tell("of the first key, late", 0)
            streams.tell("of the first key, later")
            streams.say('{"Prefs":{}}')
            streams.tell("of the second key")
            assert await errors_of(bus) == ["of the second key"]
        streams.tell("of the second key again")
        assert await errors_of(bus) == ["of the second key again"]


async def test_errors_are_told_again_where_nothing_is_said_of_preferences(tmp_path: Path) -> None:
    """A later tailscaled may not announce preferences; errors are then ignored only for a short time."""
    async with following(tmp_path) as (bus, streams):
        async with bus.muted():
            pass

        def told() -> list[str]:
            streams.tell("refused")
            return bus.take_errors()

        await until(told)


async def test_nobody_waits_long_for_a_bus_that_is_gone(tmp_path: Path) -> None:
    """If tailscaled has exited meanwhile, the wait is bounded."""
    bus = Bus(lambda: None, lambda _secret: None)
    task = asyncio.get_running_loop().create_task(bus.run(LocalApi(str(tmp_path / "none"), str)))
    async with asyncio.timeout(30), bus.muted():
        pass
    task.cancel()


async def test_a_bus_that_ends_each_stream_is_not_opened_endlessly(tmp_path: Path) -> None:
    """The pauses double from 10 ms on, though each stream had content."""
    times_s: list[float] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b'{"State":2,"Prefs":{}}\n')
        writer.close()
        times_s.append(time.monotonic())

    path = str(tmp_path / "socket")
    async with listening(take, path):
        task = asyncio.get_running_loop().create_task(Bus(lambda: None, lambda _: None).run(LocalApi(path, str)))
        await until(lambda: len(times_s) > 6)
        task.cancel()
    assert times_s[6] - times_s[1] >= 0.01 + 0.02 + 0.04 + 0.08 + 0.16 - 0.01


async def test_errors_are_masked_where_they_come_in(tmp_path: Path) -> None:
    """A known key is neither in the bus's errors nor in tailscaled's warnings."""
    mask = Redactor([KEY]).mask_text
    async with following(tmp_path, mask) as (bus, streams):
        streams.tell(f"{KEY} is unknown")
        assert await errors_of(bus) == ["[redacted] is unknown"]
    body = b'{"Health":["The last login error was: %s"]}' % KEY.encode()
    async with answering(tmp_path, OK, b"Content-Length: %d\r\n\r\n" % len(body), body) as server:
        status = await LocalApi(server.path, mask).status()
        assert status.health == ("The last login error was: [redacted]",)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        *((f"{'x' * place}{KEY}", f"{'x' * place}[redacted]"[:300]) for place in (0, 270, 290, 299)),
        (f"{' ' * 7000}{KEY} is bad", "[redacted] is bad"),
        (f"{' ' * 8150}{KEY}", "[redacted]"),
        (f"{' ' * 8160}{KEY}", f"a text of {8160 + len(KEY)} characters, which is too long to be shown"),
        (f"x {KEY.replace('-', '-' + chr(0x200B))}\u202e\n y", "x [redacted]\\u202e y"),
    ],
)
async def test_an_error_is_masked_before_it_is_cut(tmp_path: Path, body: str, said: str) -> None:
    """No part of a key remains, wherever the text is truncated; one that is too long to be masked is not shown."""
    data = body.encode()
    head = b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n" % len(data)
    async with answering(tmp_path, head, data) as server:
        with pytest.raises(LocalApiError) as caught:
            await LocalApi(server.path, Redactor([KEY]).mask_text).prefs()
        assert str(caught.value) == f"tailscaled refused GET prefs (500): {said}"


async def test_every_text_shows_what_is_invisible(tmp_path: Path) -> None:
    """Names, warnings and errors are shown to people; preferences are written back, and stay as they are."""
    async with following(tmp_path) as (bus, streams):
        streams.tell("bad\u202etext\\u200b")
        assert await errors_of(bus) == ["bad\\u202etext\\u200b"]
    odd, shown = "bad\u202e\ufff0", "bad\\u202e\\ufff0"
    node = {"DNSName": odd, "HostName": odd, "Tags": [odd]}
    told = {"Health": [odd], "Self": node, "Peer": {"a": node}, "CurrentTailnet": {"Name": odd}}
    for text in (json.dumps(told), json.dumps(told, ensure_ascii=False)):
        async with answering(tmp_path, OK, b"Content-Length: %d\r\n\r\n" % len(text.encode()), text.encode()) as server:
            api = LocalApi(server.path, str)
            status = await api.status(peers=True)
            assert (await api.prefs())["Health"] == [odd]
        assert status.node is not None
        assert status.tailnet is not None
        (peer,) = (status.peers or {}).values()
        assert status.health == (shown,)
        for found in (status.node, peer):
            assert (found.dns_name, found.host_name, found.tags) == (shown, shown, (shown,))
        assert status.tailnet.name == shown


async def test_frames_and_a_status_of_a_later_version(tmp_path: Path) -> None:
    """1.104 reports a watcher that has fallen behind, sends no netmap, and gives the tailnet an id."""
    async with following(tmp_path) as (bus, streams):
        streams.say('{"Suspended":true}')
        streams.say('{"State":6,"SelfChange":{"ID":1},"InitialStatus":null}')
        streams.tell("an error that still comes")
        assert await errors_of(bus) == ["an error that still comes"]
    body = b'{"Version":"1.104.7","CurrentTailnet":{"Name":"lab","StableID":"tn1"},"Self":{"Capabilities":[]}}'
    async with answering(tmp_path, OK, b"Content-Length: %d\r\n\r\n" % len(body), body) as server:
        status = await LocalApi(server.path, str).status()
    assert (status.version, status.tailnet and status.tailnet.name) == ("1.104.7", "lab")


def test_no_bit_of_the_mask_is_one_that_a_later_version_refuses() -> None:
    """1.104 refuses 8 (the first net map) and 256 (fewer frames)."""
    assert WATCH_MASK & (8 | 256) == 0
