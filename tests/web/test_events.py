"""The event stream: state and lines as they come, resumable, and without delaying others."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.config.parsers import SecretSource
from supervisor.core.process import State
from supervisor.core.snapshot import TailnetView
from supervisor.web import context, events, schemas
from tests.logs.rig import until
from tests.web.following import following
from tests.web.serving import BEARER, READY, TOKEN, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.secret import Secret
    from tests.web.serving import Served


def say(served: Served, first: int, last: int) -> None:
    """Let the supervisor log lines with these numbers, all at once."""
    for number in range(first, last + 1):
        served.log.record("info", f"line {number}")


def flood(served: Served) -> None:
    """Log a megabyte in a few lines: the kernel buffers several before a writer has to wait."""
    for _ in range(100):
        served.log.record("info", "x" * 10_000)


async def test_the_whole_state_comes_first() -> None:
    """Each part is the same as in its own GET, and the history follows; no proxy may buffer it."""
    async with serving(tailnet=TailnetView("embedded", "starting")) as served:
        say(served, 1, 3)
        async with following(served) as stream:
            assert stream.response.headers["Content-Type"] == "text/event-stream"
            assert stream.response.headers["X-Accel-Buffering"] == "no"
            assert stream.response.headers["Cache-Control"] == "no-store"
            first = await stream.next()
            assert (first.kind, first.number) == ("state", 0)
            assert set(first.data) == {"processes", "tailnet", "backups", "health", "incidents"}
            assert first.data["health"] == (await served.get("/health")).json
            assert first.data["tailnet"] == (await served.get("/api/tailscale/status")).json
            listed = (await served.get("/api/processes")).json["processes"]
            assert [process.keys() for process in first.data["processes"]] == [process.keys() for process in listed]
            lines = await stream.lines(3)
            assert lines == (await served.get("/api/logs")).json["lines"]


async def test_only_what_changed_follows() -> None:
    """An unchanged part is not sent again; without a change, no state is sent."""
    async with (
        serving(tailnet=TailnetView("embedded", "starting", away_since_s=-1000.0)) as served,
        following(served) as stream,
    ):
        await stream.until("state")
        served.store.update_process(READY._replace(restarts_by=(("signal", 3),)))
        assert set((await stream.until("state")).data) == {"processes"}
        served.store.update_tailnet(TailnetView("embedded", "connected", up=True))
        event = await stream.until("state")
        assert set(event.data) == {"tailnet", "health"}
        assert event.data["tailnet"]["state"] == "connected"
        served.store.update_orphans_reaped(5)
        say(served, 1, 1)
        assert (await stream.next()).kind == "log"


async def test_a_clock_that_is_set_has_every_time_told_anew() -> None:
    """Parts with times are sent again; the run's id does not change, so that a client recognises it."""
    async with serving(wall_offset_s=1e9) as served, following(served) as stream:
        before = await stream.until("state")
        served.store.update_wall_offset(1e9 + 3600)
        after = await stream.until("state")
        told = [event.data["processes"][0]["since"] for event in (before, after)]
        assert [text[11:13] for text in told] == ["01", "02"]
        assert set(after.data) == set(before.data)
        assert after.id == before.id
        assert served.store.snapshot.began_s == 1e9


async def test_what_all_streams_send_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hundreds of processes, each further panel would delay everything else by ten milliseconds per change."""
    computed = 0
    compute = schemas._process

    def count(*words: Any) -> schemas.ProcessBody:
        nonlocal computed
        computed += 1
        return compute(*words)

    monkeypatch.setattr(events._PROCESSES, "_most_s", 60.0)
    async with serving() as served, following(served) as one, following(served) as other:
        for stream in (one, other):
            await stream.until("state")
        monkeypatch.setattr(schemas, "_process", count)
        served.store.update_process(READY._replace(state=State.STOPPING))
        for stream in (one, other):
            assert (await stream.until("state")).data["processes"][0]["state"] == "stopping"
        assert computed == 1


async def test_many_changes_are_one_event() -> None:
    """The changes of a short period are reported at its end."""
    async with serving() as served, following(served) as stream:
        await stream.until("state")
        for state in (State.STOPPING, State.CLEANING, State.BACKOFF, State.RUNNING, State.STOPPING):
            served.store.update_process(READY._replace(state=state))
        assert (await stream.until("state")).data["processes"][0]["state"] == "stopping"
        say(served, 1, 1)
        assert (await stream.next()).kind == "log"


@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_stream_is_taken_up_where_it_was_left(way: str) -> None:
    """It continues after the last event that a client received, without duplicates or gaps."""
    async with serving() as served:
        say(served, 1, 5)
        async with following(served) as stream:
            lines = await stream.lines(5)
            place = stream.last_id
        say(served, 6, 9)
        query, headers = (f"?after={place}", {}) if way == "query" else ("", {"Last-Event-ID": place})
        async with following(served, query, **headers) as stream:
            assert set((await stream.next()).data) == {"processes", "tailnet", "backups", "health", "incidents"}
            lines += await stream.lines(4)
        assert [line["id"] for line in lines] == list(range(1, 10))


@pytest.mark.parametrize(
    "place",
    ["{boot}0-3", "abc-3", "{boot}-999", "{boot}-x", "{boot}", "{boot}--3", "3", "-3", "{boot}-" + "1" * 5000],
    ids=lambda place: place[:12],
)
async def test_a_place_in_another_run_is_none(place: str) -> None:
    """Each run numbers its lines from the start, so the whole history is sent."""
    async with serving() as served:
        say(served, 1, 4)
        async with following(served) as stream:
            boot = (await stream.next()).id.rpartition("-")[0]
        async with following(served, **{"Last-Event-ID": place.format(boot=boot)}) as stream:
            assert [line["id"] for line in await stream.lines(4)] == [1, 2, 3, 4]


async def test_runs_have_names_of_their_own() -> None:
    """The id is derived from the start time."""
    async with serving(wall_offset_s=1e9) as served, following(served) as stream:
        first = (await stream.next()).id
    async with serving(wall_offset_s=1e9 + 0.01) as served, following(served) as stream:
        assert (await stream.next()).id != first


async def test_the_last_so_many_lines_to_begin_with() -> None:
    """They may be those of one process, and their number may be 0."""
    async with serving() as served:
        say(served, 1, 5)
        for query, numbers in (("?last=2", [4, 5]), ("?last=0", []), ("?last=2&process=moltis", [])):
            async with following(served, query) as stream:
                assert (await stream.next()).kind == "state"
                assert not numbers or [line["id"] for line in await stream.lines(2)] == numbers
                served.store.update_process(READY._replace(failures=served.store.snapshot.processes[0].failures + 1))
                assert (await stream.next()).kind == "state"


async def test_lines_of_one_process_or_none() -> None:
    """The position also advances past other lines, so that they are not searched again."""
    async with (
        serving() as served,
        following(served, "?process=moltis") as one,
        following(served, "?logs=off") as none,
    ):
        await one.until("state")
        await none.until("state")
        say(served, 1, 5)
        read_fd, write_fd = os.pipe()
        served.log.attach("moltis", "stdout", read_fd)
        os.write(write_fd, b"from moltis\n")
        os.close(write_fd)
        event = await one.until("log")
        assert [line["message"] for line in event.data["lines"]] == ["from moltis"]
        assert event.number == 6
        served.store.update_process(READY._replace(restarts_by=(("signal", 1),)))
        assert ((event := await none.next()).kind, event.number) == ("state", 6)


async def test_what_was_lost_is_counted() -> None:
    """It is the number of lines that left the history before they were sent: as many as are missing between two ids."""
    async with serving(history_lines=10) as served, following(served) as stream:
        await stream.until("state")
        say(served, 1, 100)
        event = await stream.until("log")
        assert event.data["lost"] == 90
        assert [line["id"] for line in event.data["lines"]] == list(range(91, 101))


async def test_many_lines_come_in_pieces() -> None:
    """A frame is limited in lines and in characters, and nothing is lost between frames."""
    async with serving(history_lines=3000) as served:
        say(served, 1, 1500)
        for number in range(1501, 1521):
            served.log.record("info", f"line {number} " + "x" * 14_000)
        async with following(served) as stream:
            seen: list[int] = []
            while len(seen) < 1520:
                event = await stream.until("log")
                ids = [line["id"] for line in event.data["lines"]]
                assert len(ids) <= events.LINES_A_FRAME
                assert sum(len(line["message"]) for line in event.data["lines"]) <= 160 * 1024
                assert event.number == ids[-1]
                seen += ids
        assert seen == list(range(1, 1521))


async def test_a_slow_reader_slows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client reads nothing during a flood of lines: the other gets all, and little is buffered for the slow one."""
    monkeypatch.setattr(events, "TICK_S", 0.001)
    async with serving(history_lines=1000) as served, following(served) as quick:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, ("127.0.0.1", served.port))
            await loop.sock_sendall(slow, f"GET /api/events HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode())
            await until(lambda: len(served.server._context.streams._open) == 2)
            for first in range(1, 60_001, 500):
                say(served, first, first + 499)
                numbers = [line["id"] for line in await quick.lines(500)]
                assert numbers == list(range(first, first + 500))
            assert (await served.ask("GET", "/health")).status == 200
            kept = [transport.get_write_buffer_size() for transport in transports_of(served)]
            assert max(kept) < 512 * 1024
            read = bytearray()
            while b'"line 60000"' not in read:
                read += await asyncio.wait_for(loop.sock_recv(slow, 65536), 15)
        assert read.count(b'"message":"line ') < 60_000
        assert b'"lost":0' in read
        assert any(int(lost) > 10_000 for lost in _numbers(bytes(read), b'"lost":'))


def transports_of(served: Served) -> list[asyncio.Transport]:
    """Return the server's transports of all connections."""
    return [connection._transport for connection in served.server._kinds[0]]


def _numbers(data: bytes, name: bytes) -> list[bytes]:
    return [part.split(b"}")[0] for part in data.split(name)[1:] if part.split(b"}")[0].isdigit()]


async def test_a_reader_that_takes_nothing_any_more_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place becomes free, and it may reconnect."""
    monkeypatch.setattr(context, "MOST_STREAMS", 1)
    monkeypatch.setattr(events, "TICK_S", 0.001)
    async with serving(history_lines=1000) as served:
        reader, writer = await served.connect()
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode())
        await reader.readuntil(b"event: state")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        opened = served.server._context.streams._open
        assert len(opened) == 1
        monkeypatch.setattr(events, "STALLED_S", 0.2)

        def flooded() -> bool:
            flood(served)
            return not opened

        await until(flooded)
        monkeypatch.setattr(events, "STALLED_S", 60.0)
        async with following(served) as again:
            await again.until("state")
        assert "request failed" not in served.logged()
        writer.close()


async def test_silence_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment is sent, so that proxies do not consider the stream dead."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    async with serving() as served, following(served) as stream:
        await stream.until("state")
        assert [await stream.block() for _ in range(3)] == [": nothing new\n"] * 3


async def test_lines_of_others_do_not_keep_a_stream_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower of one process still gets a sign of life while another process writes all the time."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.3)

    async def chatter() -> None:
        while True:
            served.log.record("info", "of no interest to the follower")
            await asyncio.sleep(0.005)

    async with serving() as served, following(served, "?process=moltis") as stream:
        await stream.until("state")
        talking = asyncio.get_running_loop().create_task(chatter())
        try:
            assert await stream.block() == ": nothing new\n"
        finally:
            talking.cancel()


async def test_a_stream_ends_with_its_session() -> None:
    """A client that signs out is told at once, even on an idle stream, and gets nothing more."""
    async with serving() as served:
        session = (await served.post("/api/session", {"token": TOKEN}, "")).json["session"]
        async with following(served, token=session) as stream, following(served) as other:
            await stream.until("state")
            await served.ask("DELETE", "/api/session", f"Authorization: Bearer {session}\r\n")
            event = await stream.until("end")
            assert event.data["code"] == "NOT_SIGNED_IN"
            assert await stream.block() == ""
            say(served, 1, 1)
            assert await other.lines(1)


async def signed_in(served: Served) -> tuple[str, Callable[[], None]]:
    """Return a session, and a function that ends it at once."""
    session = (await served.post("/api/session", {"token": TOKEN}, "")).json["session"]
    keyring = served.server._context.keyring
    grant = await keyring.grant_of(session)
    assert grant is not None
    return session, lambda: keyring.end_session(grant)


@pytest.mark.parametrize("when", ["before its tick", "in the midst of a flood"])
async def test_a_session_that_was_ended_gets_no_line_more(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the lines that wait for their tick, nor the remaining frames of many, are sent."""
    monkeypatch.setattr(events, "LINES_A_FRAME", 1)
    async with serving(history_lines=1000) as served:
        session, end = await signed_in(served)
        async with following(served, "?last=0", token=session) as stream:
            await stream.until("state")
            if when == "before its tick":
                say(served, 1, 5)
                end()
                event = await stream.next()
            else:
                say(served, 1, 800)
                await stream.lines(1)
                end()
                said = served.log.history.next
                say(served, 801, 900)
                event = await stream.until("end")
                assert event.number < said - 1
            assert (event.kind, event.data["code"]) == ("end", "NOT_SIGNED_IN")
            assert await stream.block() == ""


async def test_what_an_ended_session_has_not_taken_goes_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is discarded at once, although a client that reads nothing usually has a minute."""
    monkeypatch.setattr(events, "TICK_S", 0.001)
    async with serving(history_lines=1000) as served:
        session, end = await signed_in(served)
        reader, writer = await served.connect()
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {session}\r\n\r\n".encode())
        await reader.readuntil(b"event: state")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        (transport,) = transports_of(served)

        def flooded() -> bool:
            flood(served)
            return transport.get_write_buffer_size() > 0

        await until(flooded)
        end()
        await until(lambda: not served.server._context.streams._open, 30)
        assert transport.get_write_buffer_size() == 0
        writer.close()


@pytest.mark.parametrize("way", ["time", "another token"])
async def test_a_session_that_ends_by_itself_is_seen(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired session ends without any news; one ended by another admin token ends before the next news."""
    monkeypatch.setattr(events, "TOKEN_S", 0.0)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with serving(environ={"SUPERVISOR_TOKEN": f"file:{token}"}) as served:
        session, _ = await signed_in(served)
        async with following(served, token=session) as stream:
            await stream.until("state")
            if way == "time":
                # The stream learns of its new end by the line.
                kept = served.server._context.keyring._sessions
                kept.update(dict.fromkeys(kept, time.monotonic() + 1.0))
                say(served, 1, 1)
                event = await stream.until("end")
            else:
                token.write_text("another-token-of-good-length")
                say(served, 1, 1)
                event = await stream.next()
            assert (event.kind, event.data["code"]) == ("end", "NOT_SIGNED_IN")


@pytest.mark.parametrize(("oldest_s", "is_read"), [(3600.0, False), (0.0, True)])
async def test_busy_streams_read_the_token_only_when_it_is_old(
    oldest_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_read: bool
) -> None:
    """Otherwise each would read the file up to ten times a second."""
    monkeypatch.setattr(events, "TOKEN_S", oldest_s)
    reads: list[str] = []

    def read(source: SecretSource, really: Callable[[SecretSource], Secret] = SecretSource.read) -> Secret:
        reads.append(source.name)
        return really(source)

    monkeypatch.setattr(SecretSource, "read", read)
    (tmp_path / "token").write_text(TOKEN)
    async with (
        serving(environ={"SUPERVISOR_TOKEN": f"file:{tmp_path}/token"}) as served,
        following(served) as first,
        following(served) as second,
    ):
        for stream in (first, second):
            await stream.until("state")
        before = len(reads)
        for number in range(5):
            say(served, number, number)
            for stream in (first, second):
                await stream.lines(1)
        assert before
        assert (len(reads) > before) is is_read


async def test_a_stream_goes_on_where_the_client_sends_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has only closed its writing side is still served; one that has gone is noticed when writing."""
    monkeypatch.setattr(events, "HALF_CLOSED_HEARTBEAT_S", 0.05)
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode())
        writer.write_eof()
        await reader.readuntil(b": nothing new")
        say(served, 1, 1)
        await asyncio.wait_for(reader.readuntil(b"line 1"), 15)
        writer.close()
        await until(lambda: not served.server._context.streams._open)


async def test_a_stream_ends_politely() -> None:
    """New content comes first, then the reason for the end, and the response is complete; a new stream is refused."""
    async with serving() as served, following(served) as stream:
        await stream.until("state")
        say(served, 1, 2)
        await served.server.close()
        assert len(await stream.lines(2)) == 2
        assert (await stream.next()).data["code"] == "STOPPING"
        assert await stream.block() == ""
        assert (await served.get("/api/events")).refusal == (409, "STOPPING")


async def test_a_client_that_goes_is_forgotten() -> None:
    """Nothing is logged."""
    async with serving() as served:
        async with following(served) as stream:
            await stream.until("state")
        say(served, 1, 1)
        await until(lambda: not served.server._context.streams._open)
        assert not served.store._watchers
        assert served.remembered() == ["line 1"]


async def test_only_so_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, and is accepted when another one has ended."""
    monkeypatch.setattr("supervisor.web.context.MOST_STREAMS", 2)
    async with serving() as served:
        async with following(served), following(served):
            assert (await served.get("/api/events")).refusal == (503, "TOO_MANY_STREAMS")
        await until(lambda: not served.server._context.streams._open)
        async with following(served):
            pass


async def test_head_and_old_clients() -> None:
    """HEAD gets only the headers; HTTP/1.0 gets the stream without chunks."""
    async with serving() as served:
        answer = await served.ask("HEAD", "/api/events", BEARER)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Type"] == "text/event-stream"
        reader, writer = await served.connect()
        writer.write(f"GET /api/events HTTP/1.0\r\n{BEARER}\r\n".encode())
        assert b"chunked" not in await reader.readuntil(b"retry: 2000\n\nevent: state\n")
        writer.close()
