"""The operator's commands that use the control socket: status, processes, the tailnet, and sign-in codes."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from supervisor.client.control import EX_REFUSED, RequestRefusedError, Response, SkewError
from supervisor.client.render import (
    BAD,
    BOLD,
    DOUBTFUL,
    FAINT,
    GOOD,
    Cell,
    ago,
    entry,
    moment,
    qr_code,
    read_within,
    size,
    span,
    table,
)
from supervisor.core.order_states import DONE, FAILED, REPLACED, UNDER_WAY
from supervisor.errors import UsageError, host_port, quoted, remedy_for_resources
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from supervisor.arguments import ParsedArguments
    from supervisor.client.render import Console

# Accepted, but not finished, or a person has to act first.
EX_NOT_YET = 75
SETTLE_S = 5.0
_LOOK_AGAIN_S = 0.1
HEALTH = "/health"
PROCESSES = "/api/processes"
TAILNET = "/api/tailscale/status"
EX_FAIL = 1
_FAILING = 503
_HEAD = ("NAME", "STATE", "PID", "UPTIME", "RESTARTS", "MEMORY", "")
_NONE = Cell("-", FAINT)
_MARGIN = 12
_STATUS_COLORS = {"pass": GOOD, "warn": DOUBTFUL, "fail": BAD}
_STATE_COLORS = {"inactive": FAINT, "ended": FAINT, "failed": BAD, "held": BAD, "held: choose": BAD}
_OVER = frozenset({"inactive", "ended", "failed"})
CONNECT = "/api/tailscale/connect"
DISCONNECT = "/api/tailscale/disconnect"
AUTH_URL = "/api/tailscale/auth-url"
_MOST_KEY_CHARACTERS = 4096
# Includes the time that a password manager at the other end of a pipe takes to ask a person.
_READ_S = 30.0
CODE = "/api/session/code"


def status(args: ParsedArguments, console: Console) -> int:
    """Show the status; return 1 if health fails."""
    control = console.control
    health = control.get(HEALTH, also=(_FAILING,))
    processes = control.get(PROCESSES)
    tailnet = control.get(TAILNET)
    if "--json" in args.options:
        console.write_json({"health": health, "processes": processes.get("processes"), "tailscale": tailnet})
    else:
        console.write_lines(_health(console, Response(HEALTH, health)))
        console.write_line()
        console.write_lines(table(console, _HEAD, map(_row, Response(PROCESSES, processes).objects("processes"))))
        console.write_line()
        for lines in (tailnet_lines, _details):
            console.write_lines(lines(console, Response(TAILNET, tailnet)))
    return EX_FAIL if health.get("status") == "fail" else 0


def tailnet_lines(console: Console, tailnet: Response) -> Iterator[str]:
    """Yield the state of the tailnet: state, reason and remedy, or the device's address."""
    up = tailnet.flag("tailscale_up")
    state = tailnet.text("state")
    since = ago(tailnet.text("since"))
    told = f"{state}, for {since}" if since else state
    yield from _entry(console, "tailnet", [Cell(told, GOOD if up else FAINT if state == "off" else DOUBTFUL)])
    if not up:
        yield from _facts(console, "", tailnet.text("why"))
        yield from _facts(console, "what to do", tailnet.text("what_to_do"))
        error = tailnet.text("last_error")
        yield from _facts(
            console, "last error", "" if error in tailnet.text("why") or not _is_wanted(tailnet) else error
        )
        return
    yield from _facts(console, "name", tailnet.text("hostname"))
    yield from _facts(console, "address", tailnet.text("tailscale_ip"))
    serve = tailnet.object("serve")
    yield from _facts(console, "app at", *serve.texts("urls"), serve.text("why"))


def _details(console: Console, tailnet: Response) -> Iterator[str]:
    """Yield the other details of the tailnet."""
    up = tailnet.flag("tailscale_up")
    yield from _facts(console, "login", " in ".join(filter(None, map(tailnet.text, ("login_name", "tailnet")))))
    yield from _facts(console, "tags", ", ".join(tailnet.texts("tags")))
    yield from _facts(console, "routes", ", ".join(tailnet.texts("advertised_routes")))
    yield from _facts(console, "key expires", tailnet.text("key_expiry"))
    yield from _facts(console, "peers", _peers(tailnet.objects("peers")))
    yield from _facts(console, "open ports", *_exposed(tailnet.objects("exposed")), color=DOUBTFUL)
    # While the tailnet is down, tailscaled's health texts are part of the state's reason.
    complaints = tailnet.texts("health") if up else []
    yield from _facts(console, "warning", *complaints, *tailnet.texts("warnings"), color=DOUBTFUL)
    yield from _facts(console, "last error", "" if not up and _is_wanted(tailnet) else tailnet.text("last_error"))
    yield from _facts(console, "note", *tailnet.texts("notes"))


def process_note(process: Response) -> str:
    """Return what is wrong with a process: why it is not ready or needs a restart, or how it ended and what is next."""
    state = process.text("state")
    if state == "running":
        return process.text("needs_restart") if process.flag("ready") else process.text("ready_why") or "not ready yet"
    if process.text("held_why"):
        return process.text("held_why")
    if state == "waiting":
        return process.text("ready_why")
    if state == "inactive":
        # The last exit of a stopped process is not of interest.
        return ""
    failed = [end for end in process.objects("exits")[-1:] if not end.flag("expected")]
    next_try_s = process.number("next_try_in_s")
    next_try = "" if next_try_s is None else f"next try in {span(next_try_s)}"
    reasons = ["given up" if state == "failed" else "", next_try, *(end.text("reason") for end in failed)]
    return "; ".join(filter(None, reasons))


def _health(console: Console, health: Response) -> Iterator[str]:
    verdict = health.text("status")
    checks = health.object("checks")
    reasons = []
    for name in checks.fields:
        for check in checks.objects(name):
            status = check.text("status")
            if status != "pass":
                text = f"{name}: {check.text('output') or check.text('observedValue')}"
                reasons.append(Cell(text, _STATUS_COLORS.get(status, "")))
    color = _STATUS_COLORS.get(verdict, "")
    yield from _entry(console, "health", [Cell(verdict, f"{BOLD};{color}" if color else BOLD), *reasons])


def _row(process: Response) -> list[Cell]:
    state = process.text("state")
    well = state == "running" and process.flag("ready")
    pid, uptime_s, memory_bytes = map(process.number, ("pid", "uptime_s", "memory_bytes"))
    return [
        Cell(process.text("name"), BOLD),
        Cell(state, GOOD if well else _STATE_COLORS.get(state, DOUBTFUL)),
        _NONE if pid is None else Cell(f"{pid:.0f}"),
        _NONE if uptime_s is None else Cell(span(uptime_s)),
        Cell(f"{process.number('restarts') or 0:.0f}"),
        _NONE if memory_bytes is None else Cell(size(memory_bytes)),
        Cell(process_note(process)),
    ]


def _is_wanted(tailnet: Response) -> bool:
    """Return whether the tailnet is wanted, so that the last error may explain why it is down."""
    return tailnet.text("choice") == "connected"


def _peers(peers: list[Response]) -> str:
    online = sum(peer.flag("online") for peer in peers)
    return f"{len(peers)}, {online} of them online" if peers else ""


def _exposed(listeners: list[Response]) -> Iterator[str]:
    if listeners:
        yield "every peer of the tailnet reaches these, bypassing serve:"
    for listener in listeners:
        address = host_port(listener.text("host"), int(listener.number("port") or 0))
        pid = listener.number("pid")
        whose = listener.text("process")
        yield " ".join(filter(None, [address, whose and f"of {whose}", "" if pid is None else f"(pid {pid:.0f})"]))


def _facts(console: Console, title: str, *texts: str, color: str = "") -> Iterator[str]:
    return _entry(console, title, [Cell(text, color) for text in texts if text])


def _entry(console: Console, title: str, cells: list[Cell]) -> Iterator[str]:
    return entry(console, title, cells, _MARGIN)


def _order(verb: str, args: ParsedArguments, console: Console) -> int:
    name = args.rest[0]
    path = f"{PROCESSES}/{path_part(name, f'{verb} needs the name of a process', 'status')}/{verb}"
    before = _find(console, name)
    post_confirmed(console, args, path, {}, option="--without-backup", field="without_backup")
    now = before

    def arrived() -> bool:
        nonlocal now
        now = _find(console, name)
        state = now.text("state")
        if verb == "stop":
            return state in _OVER
        return state == "running" and (verb == "start" or now.number("pid") != before.number("pid"))

    there = settle(arrived)
    if "--json" in args.options:
        console.write_json(now.fields)
    else:
        console.write_line(_told(name, now))
        if not there:
            console.write_err(
                f"{verb} was requested, and is not done after {SETTLE_S:g} s; `status` shows the progress"
            )
    return 0 if there else EX_NOT_YET


start, stop, restart = (partial(_order, verb) for verb in ("start", "stop", "restart"))


def path_part(text: str, needed: str, lister: str) -> str:
    """Return text as one part of a path. Raises UsageError for text that would change the path."""
    if text in {"", ".", ".."}:
        raise UsageError(f"{needed}, not {quoted(text)}; `{lister}` lists them")
    return quote(os.fsencode(text), safe="")


def _find(console: Console, name: str) -> Response:
    """Return a process; an empty response if there is none of that name, for which the order will be refused."""
    listed = Response(PROCESSES, console.control.get(PROCESSES)).objects("processes")
    return next((process for process in listed if process.text("name") == name), Response(PROCESSES, {}))


def _told(name: str, process: Response) -> str:
    pid = process.number("pid")
    note = process_note(process)
    beside = "".join([f", pid {pid:.0f}" if pid is not None else "", f" ({note})" if note else ""])
    return f"{name} is {process.text('state')}{beside}"


def connect(args: ParsedArguments, console: Console) -> int:
    """Connect, and show a pending login URL; 0 when connected, 1 for a refused key, 75 if not finished."""
    path = args.options.get("--auth-key-file")
    key = None if path is None else _read_key(console, path)
    order = order_id(CONNECT, console.control.post(CONNECT, {} if key is None else {"auth_key": key.reveal()}))
    outcome = _outcome(console, order)
    _write_outcome(console, args, outcome)
    if outcome.state == FAILED:
        if outcome.tailnet.flag("tailscale_up"):
            console.write_err(f"not reconnected: {outcome.why}")
        return EX_REFUSED
    return 0 if outcome.state == DONE else EX_NOT_YET


def disconnect(args: ParsedArguments, console: Console) -> int:
    """Disconnect, or also forget the login, after a confirmation if the supervisor requires one."""
    forget = "--forget" in args.options
    body: dict[str, object] = {"forget": True} if forget else {}
    order = order_id(DISCONNECT, post_confirmed(console, args, DISCONNECT, body))
    outcome = _outcome(console, order)
    _write_outcome(console, args, outcome)
    if outcome.state == UNDER_WAY and "--json" not in args.options:
        what = "forgotten" if forget else "disconnected"
        console.write_err(f"not {what} after {SETTLE_S:g} s; `status` shows the progress")
    return 0 if outcome.state == DONE else EX_NOT_YET


def auth_url(args: ParsedArguments, console: Console) -> int:
    """Print the pending login URL; return 1 if there is none."""
    body = console.control.get(AUTH_URL)
    if "--json" in args.options:
        console.write_json(body)
    else:
        url = Response(AUTH_URL, body).text("auth_url")
        console.write_line(url)
        if "--qr" in args.options:
            _show_code(console, url)
    return 0


class _Outcome(NamedTuple):
    """The result of an order so far, and the state of the tailnet."""

    state: str
    why: str
    tailnet: Response


def order_id(path: str, answer: Mapping[str, Any]) -> str:
    """Return the id in the answer to an order."""
    taken = Response(path, answer).text("order")
    if not taken:
        raise SkewError(path, "it names no order")
    return taken


def _outcome(console: Console, order: str) -> _Outcome:
    """Wait for the result of an order, or until a person has to act; other orders do not count."""
    found = _Outcome(UNDER_WAY, "", Response(TAILNET, {}))

    def settled() -> bool:
        nonlocal found
        tailnet = Response(TAILNET, console.control.get(TAILNET))
        mine = [each for each in tailnet.objects("orders") if each.text("id") == order]
        found = (
            _Outcome(mine[0].text("state"), mine[0].text("why"), tailnet) if mine else found._replace(tailnet=tailnet)
        )
        return found.state != UNDER_WAY

    settle(settled)
    return found


def _write_outcome(console: Console, args: ParsedArguments, outcome: _Outcome) -> None:
    if "--json" in args.options:
        console.write_json(outcome.tailnet.fields)
        return
    _tell(console, outcome.tailnet)
    if outcome.state == REPLACED:
        console.write_err(f"stopped waiting: {outcome.why}")


def _tell(console: Console, tailnet: Response) -> None:
    console.write_lines(tailnet_lines(console, tailnet))
    if not tailnet.flag("auth_url_pending"):
        return
    try:
        url = Response(AUTH_URL, console.control.get(AUTH_URL)).text("auth_url")
    except RequestRefusedError:
        # The URL has just been used.
        return
    console.write_line()
    console.write_line(f"open this URL to log in: {url}")
    if console.on_terminal:
        _show_code(console, url)


def _show_code(console: Console, url: str) -> None:
    lines = qr_code(console, url)
    console.write_lines(lines)
    if not lines:
        console.write_err("the terminal is too narrow for the QR code")


def post_confirmed(
    console: Console,
    args: ParsedArguments,
    path: str,
    body: Mapping[str, object],
    option: str = "--yes",
    field: str = "confirm",
) -> Mapping[str, Any]:
    """Return the response to a POST, after a confirmation if the supervisor requires one.

    ``field`` of the request confirms it, as ``option`` does beforehand; without that a person is asked. Raises the
    refusal if nobody can be asked, or the person does not agree.
    """
    confirmed = {**body, field: True}
    try:
        return console.control.post(path, confirmed if option in args.options else body)
    except RequestRefusedError as refusal:
        if refusal.code != "CONFIRMATION_NEEDED":
            raise
        agreed = console.can_ask and console.agrees(f"{refusal}\ngo on?")
        if not agreed:
            why = "nothing was changed" if console.can_ask else f"{refusal}; {option} confirms it beforehand"
            # Programs get the refusal, as for every command.
            raise RequestRefusedError(refusal.status, refusal.code, why, refusal.body) from refusal
    return console.control.post(path, confirmed)


def _read_key(console: Console, path: str) -> Secret:
    """Return the key from a file, from standard input, or from a hidden prompt."""
    try:
        if path == "-" and console.can_ask:
            from getpass import getpass

            text = getpass("auth key (not shown): ")
        elif path == "-":
            text = console.stdin.read(_MOST_KEY_CHARACTERS + 1)
        else:
            text = _read_in_time(path)
    except EOFError as error:
        raise UsageError(f"cannot read the auth key from {path}: nothing was typed; type or paste it") from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or "it is not text"
        remedy = remedy_for_resources(error) if isinstance(error, OSError) else ""
        to_do = remedy or "check the path, and its rights"
        raise UsageError(f"cannot read the auth key from {path}: {why}; {to_do}") from error
    key = text.removeprefix("\ufeff").strip()
    if not key or len(text) > _MOST_KEY_CHARACTERS or not key.isprintable():
        raise UsageError(f"cannot use the auth key from {path}: it is not one line of text; put the key there alone")
    return Secret(key)


def _read_in_time(path: str) -> str:
    """Return the beginning of a file. Raises OSError, ValueError, and UsageError if it takes too long."""

    def read() -> str:
        with open(path, encoding="utf-8") as file:
            return file.read(_MOST_KEY_CHARACTERS + 1)

    found = read_within(_READ_S, read)
    if not found:
        raise UsageError(
            f"cannot read the auth key from {path}: it did not end within {_READ_S:g} s; check its disk, and if it is "
            "a pipe, that something writes to it"
        )
    return found[0]


def token(args: ParsedArguments, console: Console) -> int:
    """Print only the code to standard output, so that it can be piped; its validity goes to standard error."""
    body = console.control.post(CODE)
    if "--json" in args.options:
        console.write_json(body)
        return 0
    answer = Response(CODE, body)
    console.write_line(answer.text("code"))
    if console.on_terminal:
        until = moment(answer.text("expires_at"))
        ends = "" if until is None else f", until {until.astimezone():%H:%M}"
        console.write_err(f"good for one sign-in to the panel{ends}")
        if answer.text("link"):
            console.write_err(f"or open {answer.text('link')}")
    return 0


def settle(look: Callable[[], bool]) -> bool:
    """Wait up to 5 s until ``look`` reports a final state; return whether it did."""
    end_s = time.monotonic() + SETTLE_S
    while not look():
        if time.monotonic() >= end_s:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
