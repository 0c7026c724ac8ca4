"""`logs`: the last lines of the merged log, and with -f the lines that follow."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from supervisor.client.control import NoSupervisorError, RequestRefusedError, Response, events
from supervisor.errors import UsageError
from supervisor.logs.format import COLORS, LEVEL_COLORS
from supervisor.logs.lines import SUPERVISOR

if TYPE_CHECKING:
    from supervisor.arguments import ParsedArguments
    from supervisor.client.render import Console

LOGS = "/api/logs"
EVENTS = "/api/events"
_DEFAULT_LINES = "100"
_MOST_LINES = 1_000_000
_PAGE_LINES = 1000
# The supervisor sends a heartbeat every 15 s.
_SILENCE_S = 60.0
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0
_MARGIN = len(SUPERVISOR)


def logs(args: ParsedArguments, console: Console) -> int:
    """Show the last lines; with -f continue until interrupted."""
    count = _count(args.options.get("-n", _DEFAULT_LINES))
    name = args.options.get("--process")
    chosen = {} if name is None else {"process": name}
    log_printer = LogPrinter(console, as_json="--json" in args.options)
    if "-f" in args.options:
        _follow(console, log_printer, chosen, count)
    else:
        log_printer.take(_last(console, chosen, count))
    return 0


class LogPrinter:
    """Writes lines as `process │ time LEVEL message`, or as JSON. A line with its own time is left unchanged."""

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self._as_json = as_json
        self._width = _MARGIN
        self._colors: dict[str, str] = {}

    def take(self, page: Response) -> None:
        """Write a page of lines, and the number of lines lost before it."""
        lost = page.number("lost")
        if lost:
            self._tell_lost(int(lost))
        lines = page.objects("lines")
        if self._as_json:
            self._console.out.writelines(json.dumps(line.fields) + "\n" for line in lines)
        else:
            self._width = max([self._width, *(len(line.text("process")) for line in lines)])
            self._console.out.writelines(map(self._pretty, lines))
        self._console.out.flush()

    def _tell_lost(self, count: int) -> None:
        if self._as_json:
            self._console.write_json({"lost": count})
        else:
            self._console.write_err(f"{count} {'line was' if count == 1 else 'lines were'} lost here")

    def _pretty(self, line: Response) -> str:
        process, message = line.text("process"), line.text("message")
        color = self._colors.setdefault(process, COLORS[len(self._colors) % len(COLORS)])
        prefix = self._console.paint(f"{process:<{self._width}} │", color)
        if _is_dated(message):
            return f"{prefix} {message}\n"
        level = line.text("level")
        painted = self._console.paint(level.upper(), LEVEL_COLORS.get(level, ""))
        return f"{prefix} {line.text('at')} {painted} {message}\n"


def _last(console: Console, chosen: dict[str, str], count: int) -> Response:
    """Return the last lines; more than the API's limit are combined from several pages."""
    if count <= _PAGE_LINES:
        page = console.control.get(LOGS, {**chosen, "last": max(count, 1)})
        return Response(LOGS, page if count else {**page, "lines": []})
    # Lines that arrive meanwhile are left out: there may be more of them than can be read.
    newest = _reached(console.control.get(LOGS, {**chosen, "last": 1}))
    lines: deque[object] = deque(maxlen=count)
    before, after = -1, 0
    while before < after < newest:
        page = console.control.get(LOGS, {**chosen, "after": after, "limit": _PAGE_LINES})
        lines += page.get("lines") or ()
        before, after = after, max(after, _reached(page))
    return Response(LOGS, {"lines": list(lines), "after": after})


def _reached(page: dict[str, Any]) -> int:
    """Return the number to continue after."""
    return int(Response(LOGS, page).number("after") or 0)


def _follow(console: Console, log_printer: LogPrinter, chosen: dict[str, str], count: int) -> None:
    """Follow forever: when the stream ends it is resumed after the last line, also with the next supervisor."""
    place = ""
    if count > _PAGE_LINES:
        boot = _boot(console)
        page = _last(console, chosen, count)
        log_printer.take(page)
        place = f"{boot}-{page.number('after') or 0:.0f}"
    wait_s = _FIRST_WAIT_S
    reached = told = False
    while True:
        query = urlencode(chosen if place else {**chosen, "last": str(count)}, errors="surrogateescape")
        resumed = {"Last-Event-ID": place} if place else {}
        try:
            with closing(console.control.stream(f"{EVENTS}?{query}", resumed, _SILENCE_S)) as lines:
                for event in events(f"GET {EVENTS}", lines):
                    reached, told, wait_s = True, False, _FIRST_WAIT_S
                    place = event.id or place
                    if event.kind == "log":
                        log_printer.take(Response(EVENTS, event.data))
        except NoSupervisorError:
            if not reached:
                raise
        except RequestRefusedError as refusal:
            if not reached or refusal.code != "STOPPING":
                raise
        if not told:
            console.write_err("the supervisor has ended; waiting for the next one (Ctrl-C ends this)")
            told = True
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


def _boot(console: Console) -> str:
    """Return the identifier of this run of the supervisor, from the id of the first event."""
    with closing(console.control.stream(f"{EVENTS}?logs=off", {}, _SILENCE_S)) as lines:
        first = next(events(f"GET {EVENTS}", lines), None)
    return "" if first is None else first.id.rpartition("-")[0]


def _is_dated(message: str) -> bool:
    """Return whether a line begins with a date, such as 2026-01-31 or 2026/01/31."""
    return message[:4].isdecimal() and message[4:5] in {"-", "/"} and message[5:7].isdecimal()


def _count(text: str) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST_LINES))
    if not is_number or int(text) > _MOST_LINES:
        raise UsageError(f"cannot use -n {text}: it is not a number from 0 to {_MOST_LINES}; write one, such as -n 20")
    return int(text)
