"""`status`: health with its reasons, the processes, and the tailnet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.commands.answers import Answer
from supervisor.commands.layout import BAD, BOLD, DOUBTFUL, FAINT, GOOD, Cell, ago, entry, size, span, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.commands.operator import Operator
    from supervisor.commands.table import Words

HEALTH = "/health"
PROCESSES = "/api/processes"
TAILNET = "/api/tailscale/status"
EX_FAIL = 1
_FAILING = 503
_HEAD = ("NAME", "STATE", "PID", "UPTIME", "RESTARTS", "MEMORY", "")
_NONE = Cell("-", FAINT)
_MARGIN = 12
_STATUS_COLORS = {"pass": GOOD, "warn": DOUBTFUL, "fail": BAD}
_STATE_COLORS = {"inactive": FAINT, "ended": FAINT, "failed": BAD}


def status(words: Words, operator: Operator) -> int:
    """Show how things are; return 1 where health fails."""
    control = operator.control
    health = control.get(HEALTH, also=(_FAILING,))
    processes = control.get(PROCESSES)
    tailnet = control.get(TAILNET)
    if "--json" in words.options:
        operator.give({"health": health, "processes": processes.get("processes"), "tailscale": tailnet})
    else:
        for line in _health(operator, Answer(HEALTH, health)):
            operator.say(line)
        operator.say()
        for line in table(operator, _HEAD, map(_row, Answer(PROCESSES, processes).objects("processes"))):
            operator.say(line)
        operator.say()
        for lines in (tailnet_lines, _details):
            for line in lines(operator, Answer(TAILNET, tailnet)):
                operator.say(line)
    return EX_FAIL if health.get("status") == "fail" else 0


def tailnet_lines(operator: Operator, tailnet: Answer) -> Iterator[str]:
    """Yield how the tailnet is: its state, why, and what to do, or where the device is found in it."""
    up = tailnet.flag("tailscale_up")
    state = tailnet.text("state")
    since = ago(tailnet.text("since"))
    told = f"{state}, for {since}" if since else state
    yield from _entry(operator, "tailnet", [Cell(told, GOOD if up else FAINT if state == "off" else DOUBTFUL)])
    if not up:
        yield from _facts(operator, "", tailnet.text("why"))
        yield from _facts(operator, "what to do", tailnet.text("what_to_do"))
        error = tailnet.text("last_error")
        yield from _facts(
            operator, "last error", "" if error in tailnet.text("why") or not _is_wanted(tailnet) else error
        )
        return
    yield from _facts(operator, "name", tailnet.text("hostname"))
    yield from _facts(operator, "address", tailnet.text("tailscale_ip"))
    serve = tailnet.object("serve")
    yield from _facts(operator, "app at", *serve.texts("urls"), serve.text("why"))


def _details(operator: Operator, tailnet: Answer) -> Iterator[str]:
    """Yield what else there is to know of the tailnet."""
    up = tailnet.flag("tailscale_up")
    yield from _facts(operator, "login", " in ".join(filter(None, map(tailnet.text, ("login_name", "tailnet")))))
    yield from _facts(operator, "tags", ", ".join(tailnet.texts("tags")))
    yield from _facts(operator, "routes", ", ".join(tailnet.texts("advertised_routes")))
    yield from _facts(operator, "key expires", tailnet.text("key_expiry"))
    yield from _facts(operator, "peers", _peers(tailnet.objects("peers")))
    yield from _facts(operator, "open ports", *_exposed(tailnet.objects("exposed")), color=DOUBTFUL)
    # What tailscaled complains of while it is away stands in the state's reason.
    complaints = tailnet.texts("health") if up else []
    yield from _facts(operator, "warning", *complaints, *tailnet.texts("warnings"), color=DOUBTFUL)
    yield from _facts(operator, "last error", "" if not up and _is_wanted(tailnet) else tailnet.text("last_error"))
    yield from _facts(operator, "note", *tailnet.texts("notes"))


def process_note(process: Answer) -> str:
    """Return what is not as it should be with a process: why it is not ready, or how it ended and what comes next."""
    state = process.text("state")
    if state == "running":
        return "" if process.flag("ready") else process.text("ready_why") or "not ready yet"
    if state == "inactive":
        # How it ended is no news of a process that is not to run.
        return ""
    failed = [end for end in process.objects("exits")[-1:] if not end.flag("expected")]
    next_try_s = process.number("next_try_in_s")
    next_try = "" if next_try_s is None else f"next try in {span(next_try_s)}"
    reasons = ["given up" if state == "failed" else "", next_try, *(end.text("reason") for end in failed)]
    return "; ".join(filter(None, reasons))


def _health(operator: Operator, health: Answer) -> Iterator[str]:
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
    yield from _entry(operator, "health", [Cell(verdict, f"{BOLD};{color}" if color else BOLD), *reasons])


def _row(process: Answer) -> list[Cell]:
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


def _is_wanted(tailnet: Answer) -> bool:
    """Tell whether the tailnet is to be there, so that the last error may be why it is not."""
    return tailnet.text("choice") == "connected"


def _peers(peers: list[Answer]) -> str:
    online = sum(peer.flag("online") for peer in peers)
    return f"{len(peers)}, {online} of them online" if peers else ""


def _exposed(listeners: list[Answer]) -> Iterator[str]:
    if listeners:
        yield "every peer of the tailnet reaches these past serve:"
    for listener in listeners:
        host, port, pid = listener.text("host"), listener.number("port") or 0, listener.number("pid")
        address = f"[{host}]:{port:.0f}" if ":" in host else f"{host}:{port:.0f}"
        whose = listener.text("process")
        yield " ".join(filter(None, [address, whose and f"of {whose}", "" if pid is None else f"(pid {pid:.0f})"]))


def _facts(operator: Operator, title: str, *texts: str, color: str = "") -> Iterator[str]:
    return _entry(operator, title, [Cell(text, color) for text in texts if text])


def _entry(operator: Operator, title: str, cells: list[Cell]) -> Iterator[str]:
    return entry(operator, title, cells, _MARGIN)
