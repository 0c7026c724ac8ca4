"""`GET /api/events`: a server-sent event stream of state and log, resumable with the id of the last event.

Each stream reads the history at its own pace and stores only the number of the last line it sent, so a slow client
delays no other. A client that falls behind the history gets the number of lines it has lost.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeVar

import msgspec
from aiohttp import web

from supervisor.web import schemas
from supervisor.web.auth import CALLER, connection_of
from supervisor.web.error_codes import SESSION_ENDED, Code, RefusedError, encode_error
from supervisor.web.handlers import MOST_LINES, line_of, require_process
from supervisor.web.requests import parse_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.snapshot import Snapshot
    from supervisor.logs.history import Line
    from supervisor.web.auth import Caller
    from supervisor.web.connections import Connection
    from supervisor.web.context import Context

TICK_S = 0.1
HEARTBEAT_S = 15.0
# Only a write shows whether a half-closed client still reads.
HALF_CLOSED_HEARTBEAT_S = 1.0
# Maximum age of the cached admin token.
TOKEN_S = 1.0
FIGURES_S = 5.0
# A client that reads nothing for this long is disconnected; it can resume.
STALLED_S = 60.0
LINES_A_FRAME = 250
_CHARACTERS_A_FRAME = 128 * 1024
_FRAMES_A_TICK = 4
_RETRY_MS = 2000
# The panel lists no more; GET /api/backups returns all.
_SNAPSHOTS = 50
_HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
_LAST_ID = "Last-Event-ID"
_NOTHING_NEW = schemas.EventsBody()
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Query parameters of the stream.

    ``after`` is the id of the last event, for clients that cannot send the header; ``last`` is the number of history
    lines to begin with. Without either the stream begins with the whole history. ``figures`` adds an event with memory
    and CPU every five seconds, ``colors`` the ANSI colours of the lines.
    """

    after: str = ""
    last: Annotated[int, msgspec.Meta(ge=0, le=MOST_LINES)] | None = None
    process: str | None = None
    logs: Literal["on", "off"] = "on"
    figures: Literal["on", "off"] = "off"
    colors: Literal["on", "off"] = "off"


class _Shared(Generic[T]):
    """What all streams send of one snapshot: it is computed once for those that send it within ``most_s``."""

    def __init__(self, compute: Callable[[Context], T], most_s: float) -> None:
        self._compute = compute
        self._most_s = most_s
        self._last: tuple[Snapshot, float, T] | None = None

    def get(self, context: Context) -> T:
        """Return it."""
        snapshot, now_s = context.store.snapshot, time.monotonic()
        if self._last is None or self._last[0] is not snapshot or now_s - self._last[1] > self._most_s:
            self._last = snapshot, now_s, self._compute(context)
        return self._last[2]


# With hundreds of processes each takes ten milliseconds of the loop's time.
_PROCESSES = _Shared(schemas.processes, TICK_S)
_FIGURES = _Shared(lambda context: _encode(schemas.figures(context)), FIGURES_S / 5)


class Stream:
    """The event stream of one client."""

    def __init__(
        self,
        context: Context,
        caller: Caller,
        query: EventsQuery,
        after: int,
        response: web.StreamResponse,
        connection: Connection,
    ) -> None:
        self._context = context
        self._caller = caller
        self._query = query
        self._response = response
        self._connection = connection
        self._after = after
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._is_closing = False
        self._writing: asyncio.Timeout | None = None
        self._heartbeat_s = HEARTBEAT_S
        self._seen: Snapshot | None = None
        self._seen_health: schemas.HealthBody | None = None
        self._sent_s = 0.0
        self._figures_due_s = time.monotonic() + FIGURES_S if query.figures == "on" else math.inf

    def close(self) -> None:
        """Send what is new, then end."""
        self._is_closing = True
        self._wake()

    def _watch_for_disconnect(self) -> None:
        """Write a heartbeat every second: the client has closed its sending side and may be gone."""
        self._heartbeat_s = HALF_CLOSED_HEARTBEAT_S
        self._sent_s = 0.0
        self._wake()

    def recheck_session(self) -> None:
        """End the stream at once if its session has ended."""
        if not self._has_session():
            self._wake()
            if self._writing is not None and not self._writing.expired():
                # Unsent data is dropped with the connection.
                self._writing.reschedule(asyncio.get_running_loop().time())

    def _wake(self) -> None:
        self._urgent.set()
        self._news.set()

    async def run(self) -> None:
        """Send the current state and history, then changes, and finally an `end` event with the reason.

        Raises TimeoutError if the client stops reading, and ConnectionError if unsent data must be dropped because the
        session has ended.
        """
        self._connection.on_end = self._watch_for_disconnect
        if self._connection.has_ended:
            self._watch_for_disconnect()
        ends = [self._context.store.watch(lambda _snapshot: self._news.set())]
        if self._query.logs == "on":
            ends.append(self._context.log.subscribe(self._news.set))
        try:
            await self._write(b"retry: %d\n\n" % _RETRY_MS)
            over: RefusedError | None = None
            while over is None:
                if self._caller.grant is not None:
                    await self._context.keyring.refresh(TOKEN_S)
                # Checked before sending, so that new data precedes the `end` event.
                over = self._end_reason()
                self._news.clear()
                self._urgent.clear()
                await self._send_news()
                await self._wait(over)
            if over.code is Code.NOT_SIGNED_IN and self._connection.unsent_bytes:
                raise ConnectionAbortedError
            await self._send("end", encode_error(over))
        finally:
            for end in ends:
                end()

    async def _send_news(self) -> None:
        if self._query.logs == "on":
            await self._send_state()
            await self._send_lines()
        else:
            self._after = self._context.log.history.next - 1
            await self._send_state()
        await self._send_figures()

    def _has_session(self) -> bool:
        """Return whether the session is still valid; call it right before each write."""
        grant = self._caller.grant
        return grant is None or self._context.keyring.is_valid(grant)

    def _end_reason(self) -> RefusedError | None:
        if not self._has_session():
            return RefusedError(Code.NOT_SIGNED_IN, SESSION_ENDED)
        return RefusedError(Code.STOPPING) if self._is_closing else None

    async def _wait(self, over: RefusedError | None) -> None:
        """Wait for changes for at least one tick, and send a heartbeat comment when one is due."""
        if over is not None or await _wait_for(TICK_S, self._urgent):
            return
        silent_s = self._sent_s + self._heartbeat_s
        grant = self._caller.grant
        ends_s = math.inf if grant is None else self._context.keyring.ends_s(grant)
        await _wait_for(min(silent_s, self._figures_due_s, ends_s) - time.monotonic(), self._news)
        # Also after news: they may be of a process that this client does not follow.
        if silent_s <= time.monotonic() and self._has_session():
            await self._write(b": nothing new\n\n")

    async def _send_state(self) -> None:
        pieces = self._changed_pieces() if self._has_session() else _NOTHING_NEW
        if pieces != _NOTHING_NEW:
            await self._send("state", _encode(pieces))

    async def _send_figures(self) -> None:
        """Send memory and CPU usage when it is due."""
        now_s = time.monotonic()
        if now_s >= self._figures_due_s and self._has_session():
            self._figures_due_s = now_s + FIGURES_S
            await self._send("figures", _FIGURES.get(self._context))

    def _changed_pieces(self) -> schemas.EventsBody:
        """Return the parts of the state that have changed since the last call; all parts on the first call."""
        snapshot, seen = self._context.store.snapshot, self._seen
        if snapshot is seen:
            return _NOTHING_NEW
        self._seen = snapshot
        if seen is not None and seen.wall_offset_s != snapshot.wall_offset_s:
            # The clock was set, so all times have to be sent again.
            seen = None
        pieces = schemas.EventsBody()
        if seen is None or _shown_of_processes(snapshot) != _shown_of_processes(seen):
            pieces.processes = _PROCESSES.get(self._context).processes
        if seen is None or (snapshot.tailnet, snapshot.exposed) != (seen.tailnet, seen.exposed):
            pieces.tailnet = schemas.tailnet(self._context)
        if seen is None or snapshot.backup != seen.backup:
            pieces.backups = schemas.backups(self._context, most=_SNAPSHOTS)
        if seen is None or snapshot.incidents != seen.incidents:
            pieces.incidents = schemas.incident_news(self._context)
        health = schemas.health(self._context, signed_in=True)
        if health != self._seen_health:
            self._seen_health = pieces.health = health
        return pieces

    async def _send_lines(self) -> None:
        """Send new lines, a limited number per turn so that the event loop stays responsive."""
        history = self._context.log.history
        for _ in range(_FRAMES_A_TICK):
            if not self._has_session():
                return
            page = history.read(self._after, LINES_A_FRAME, self._query.process)
            lines = _frame_of(page.lines)
            is_cut = len(lines) < len(page.lines)
            self._after = lines[-1].number if is_cut else page.after
            if lines or page.lost:
                shown = schemas.lines(lines, colors=self._query.colors == "on")
                await self._send("log", _encode(schemas.LogBody(shown, page.lost)))
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
        self._sent_s = time.monotonic()


def _shown_of_processes(snapshot: Snapshot) -> tuple[object, ...]:
    is_held = any(map(snapshot.is_held, snapshot.processes))
    held = (snapshot.backup.holding, snapshot.backup.progress) if is_held else None
    return snapshot.processes, snapshot.tailnet.serve.external_url, held


def _frame_of(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Return the first lines that fit into one frame, at least one."""
    characters = 0
    for count, line in enumerate(lines):
        characters += len(line.message)
        if characters > _CHARACTERS_A_FRAME and count:
            return lines[:count]
    return lines


async def _wait_for(limit_s: float, event: asyncio.Event) -> bool:
    """Wait for an event; return whether it was set in time."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def events(context: Context, request: web.Request) -> web.StreamResponse:
    """Stream until the client disconnects, its session ends, or the supervisor stops."""
    query = parse_query(request, EventsQuery)
    require_process(context, query.process)
    if request.method == "HEAD":
        return web.Response(headers=_HEADERS)
    begin = _begin(context, request.headers.get(_LAST_ID, query.after), query)
    response = web.StreamResponse(headers=_HEADERS)
    stream = Stream(context, request[CALLER], query, begin, response, connection_of(request))
    context.streams.enter(stream)
    try:
        await response.prepare(request)
        await stream.run()
        await response.write_eof()
    except (TimeoutError, ConnectionError):
        # Only closing the connection frees its write buffer.
        if request.transport is not None:
            request.transport.abort()
    finally:
        context.streams.leave(stream)
    return response


def _begin(context: Context, event_id: str, query: EventsQuery) -> int:
    """Return the number of the line to resume after."""
    history = context.log.history
    number = line_of(event_id, context.streams.boot, history.next - 1) if "-" in event_id else None
    if number is not None:
        return number
    if query.last is None:
        return history.oldest - 1
    if not query.last:
        return history.next - 1
    page = history.read(-query.last, query.last, query.process)
    return page.lines[0].number - 1 if page.lines else page.after
