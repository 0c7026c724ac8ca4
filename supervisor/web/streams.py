"""The event streams that are open: each reads the history at its own pace, so that none can slow anybody else.

A stream keeps no lines of its own, just the number of the last one that it sent. One that reads too slowly finds that
lines have left the history meanwhile, and is told how many.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from supervisor.web import documents
from supervisor.web.error_codes import Code, RefusedError, encode_error

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.core.snapshot import Snapshot
    from supervisor.logs.history import Line
    from supervisor.web.access import Caller
    from supervisor.web.connections import Connection
    from supervisor.web.context import Context

TICK_S = 0.1
HEARTBEAT_S = 15.0
# Whether a client that sends nothing more still reads is seen by writing alone.
HALF_CLOSED_HEARTBEAT_S = 1.0
# How old the knowledge of the admin token may be.
TOKEN_S = 1.0
FIGURES_S = 5.0
# A client that takes nothing for so long is cut off; it may come back and resume.
STALLED_S = 60.0
LINES_A_FRAME = 250
_CHARACTERS_A_FRAME = 128 * 1024
_FRAMES_A_TICK = 4
_RETRY_MS = 2000
# A panel shows no more; all of them are a request away.
_SNAPSHOTS = 50
_encode = msgspec.json.Encoder().encode


class Wish(NamedTuple):
    """What a client wants: lines after number ``after``, those of one process, or none at all.

    ``figures`` are memory and CPU of each process every few seconds, ``colors`` those of the lines.
    """

    after: int = 0
    process: str | None = None
    logs: bool = True
    figures: bool = False
    colors: bool = False


class Stream:
    """One client's stream."""

    def __init__(
        self, context: Context, caller: Caller, wish: Wish, response: web.StreamResponse, connection: Connection
    ) -> None:
        self._context = context
        self._caller = caller
        self._wish = wish
        self._response = response
        self._connection = connection
        self._after = wish.after
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_closing = False
        self._writing: asyncio.Timeout | None = None
        self._heartbeat_s = HEARTBEAT_S
        self._seen: Snapshot | None = None
        self._seen_health: documents.Document | None = None
        self._spoke_s = 0.0
        self._figures_due_s = time.monotonic() + FIGURES_S if wish.figures else math.inf

    def close(self) -> None:
        """Have it send what is new and end."""
        self._is_closing = True
        self._wake()

    def _doubt(self) -> None:
        """The client sends nothing more, and may have gone: write often enough to find out."""
        self._heartbeat_s = HALF_CLOSED_HEARTBEAT_S
        self._spoke_s = 0.0
        self._wake()

    def look(self) -> None:
        """Have it see at once whether its session is still there."""
        if not self._may_go_on():
            self._wake()
            if self._writing is not None and not self._writing.expired():
                # What waits to be taken goes with the connection.
                self._writing.reschedule(asyncio.get_running_loop().time())

    def _wake(self) -> None:
        self._hurry.set()
        self._news.set()

    async def run(self) -> None:
        """Send what there is, then what comes, then why it is over.

        Raises TimeoutError where the client takes nothing any more, and ConnectionError where nothing that waits to be
        taken may be given any more.
        """
        self._connection.on_end = self._doubt
        if self._connection.has_ended:
            self._doubt()
        ends = [self._context.store.watch(lambda _snapshot: self._news.set())]
        if self._wish.logs:
            ends.append(self._context.log.subscribe(self._news.set))
        try:
            await self._write(b"retry: %d\n\n" % _RETRY_MS)
            over: RefusedError | None = None
            while over is None:
                if self._caller.grant is not None:
                    await self._context.keyring.refresh(TOKEN_S)
                # Asked first: what is new comes before the end.
                over = self._why_over()
                self._news.clear()
                self._hurry.clear()
                await self._send_news()
                await self._wait(over)
            if over.code is Code.NOT_SIGNED_IN and self._connection.unsent_bytes:
                raise ConnectionAbortedError
            await self._send("end", encode_error(over))
        finally:
            for end in ends:
                end()

    async def _send_news(self) -> None:
        if self._wish.logs:
            await self._send_state()
            await self._send_lines()
        else:
            self._after = self._context.log.history.next - 1
            await self._send_state()
        await self._send_figures()

    def _may_go_on(self) -> bool:
        """Tell whether the session is still there; to be asked right before anything is sent."""
        grant = self._caller.grant
        return grant is None or self._context.keyring.holds(grant)

    def _why_over(self) -> RefusedError | None:
        if not self._may_go_on():
            return RefusedError(Code.NOT_SIGNED_IN, "the session has ended; sign in again")
        return RefusedError(Code.STOPPING) if self._is_closing else None

    async def _wait(self, over: RefusedError | None) -> None:
        """Wait for news, at least a tick, and say now and then that there are none."""
        if over is not None or await _within(TICK_S, self._hurry):
            return
        silent_s = self._spoke_s + self._heartbeat_s
        grant = self._caller.grant
        ends_s = math.inf if grant is None else self._context.keyring.ends_s(grant)
        heard = await _within(min(silent_s, self._figures_due_s, ends_s) - time.monotonic(), self._news)
        if not heard and silent_s <= time.monotonic() and self._may_go_on():
            await self._write(b": nothing new\n\n")

    async def _send_state(self) -> None:
        pieces = self._changed_pieces() if self._may_go_on() else {}
        if pieces:
            await self._send("state", _encode(pieces))

    async def _send_figures(self) -> None:
        """Send what changes without anything happening, when it is due."""
        now_s = time.monotonic()
        if now_s >= self._figures_due_s and self._may_go_on():
            self._figures_due_s = now_s + FIGURES_S
            await self._send("figures", _encode(documents.figures(self._context)))

    def _changed_pieces(self) -> documents.Document:
        """Return the parts of the state that are not as the client knows them; all of them at first."""
        snapshot, seen = self._context.store.snapshot, self._seen
        if snapshot is seen:
            return {}
        self._seen = snapshot
        pieces: documents.Document = {}
        if seen is None or snapshot.processes != seen.processes:
            pieces["processes"] = documents.processes(self._context)["processes"]
        if seen is None or (snapshot.tailnet, snapshot.exposed) != (seen.tailnet, seen.exposed):
            pieces["tailnet"] = documents.tailnet(self._context)
        if seen is None or snapshot.backup != seen.backup:
            pieces["backups"] = documents.backups(self._context, most=_SNAPSHOTS)
        health = documents.health(self._context, signed_in=True)
        if health != self._seen_health:
            self._seen_health = pieces["health"] = health
        return pieces

    async def _send_lines(self) -> None:
        """Send the lines that are new: not all at once where they are many, as others want their turn."""
        history = self._context.log.history
        for _ in range(_FRAMES_A_TICK):
            if not self._may_go_on():
                return
            page = history.read(self._after, LINES_A_FRAME, self._wish.process)
            lines = _fitting(page.lines)
            is_cut = len(lines) < len(page.lines)
            self._after = lines[-1].number if is_cut else page.after
            if lines or page.lost:
                told = documents.lines(lines, colors=self._wish.colors)
                await self._send("log", _encode({"lines": told, "lost": page.lost}))
            if not is_cut and len(lines) < LINES_A_FRAME:
                return
            await asyncio.sleep(0)
        self._news.set()

    async def _send(self, event: str, data: bytes) -> None:
        name = f"{self._context.streams.boot}-{self._after}"
        await self._write(f"event: {event}\nid: {name}\ndata: ".encode() + data + b"\n\n")

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(STALLED_S) as self._writing:
            await self._response.write(data)
        self._writing = None
        self._spoke_s = time.monotonic()


def _fitting(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Return as many of the first lines as make a frame of bearable size; one at least."""
    characters = 0
    for count, line in enumerate(lines):
        characters += len(line.message)
        if characters > _CHARACTERS_A_FRAME and count:
            return lines[:count]
    return lines


async def _within(limit_s: float, event: asyncio.Event) -> bool:
    """Wait for an event; tell whether it came in time."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
