"""`backup`, `backup list` and `backup restore ID`: send the order, wait for it, and show the result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.client.commands import EX_NOT_YET, order_id, path_part, post_confirmed
from supervisor.client.control import Response
from supervisor.client.render import BOLD, DOUBTFUL, FAINT, GOOD, Cell, ago, size, span, table
from supervisor.core.order_states import FAILED, UNDER_WAY
from supervisor.errors import UsageError, did_you_mean, quoted

if TYPE_CHECKING:
    from supervisor.arguments import ParsedArguments
    from supervisor.client.render import Console

BACKUPS = "/api/backups"
_VERBS = ("list", "restore")
_HEAD = ("ID", "GENERATION", "NUMBER", "TAKEN", "AGO", "SIZE", "ADDED", "WHY")
_LOOK_AGAIN_S = 0.3
# The order continues after the command has stopped waiting for it.
_FOLLOW_S = 600.0


def backup(args: ParsedArguments, console: Console) -> int:
    """Take a snapshot, list them, or restore one."""
    verb, *rest = args.rest or [""]
    if verb and verb not in _VERBS:
        raise UsageError(f"backup does not know {quoted(verb)}{did_you_mean(verb, _VERBS)}; see backup --help")
    wanted = 1 if verb == "restore" else 0
    if len(rest) != wanted:
        raise UsageError(
            "backup restore needs the ID of one snapshot" if wanted else f"backup {verb} takes no more arguments"
        )
    if verb == "list":
        return _list(args, console)
    return _restore(args, console, rest[0]) if wanted else _take(args, console)


def _list(args: ParsedArguments, console: Console) -> int:
    document = console.control.get(BACKUPS)
    if "--json" in args.options:
        console.write_json(document)
        return 0
    answer = Response(BACKUPS, document)
    console.write_line(_told(answer))
    snapshots = answer.objects("snapshots")
    if snapshots:
        console.write_line()
        console.write_lines(table(console, _HEAD, map(_row, snapshots)))
    return 0


def _take(args: ParsedArguments, console: Console) -> int:
    return _follow(args, console, order_id(BACKUPS, console.control.post(BACKUPS, {})), "the snapshot")


def _restore(args: ParsedArguments, console: Console, wanted: str) -> int:
    path = f"{BACKUPS}/{path_part(wanted, 'backup restore needs the ID of a snapshot', 'backup list')}/restore"
    order = order_id(path, post_confirmed(console, args, path, {}))
    return _follow(args, console, order, "the restore")


def _follow(args: ParsedArguments, console: Console, order: str, what: str) -> int:
    """Wait for the result of an order, whatever others there are; return 0 if it succeeded, 1 if it failed."""
    end_s = time.monotonic() + _FOLLOW_S
    while True:
        now = Response(BACKUPS, console.control.get(BACKUPS))
        mine = [each for each in now.objects("orders") if each.text("id") == order]
        ended = bool(mine) and mine[0].text("state") != UNDER_WAY
        if ended or time.monotonic() >= end_s:
            break
        time.sleep(_LOOK_AGAIN_S)
    if "--json" in args.options:
        console.write_json(now.fields)
    elif ended:
        console.write_line(_told(now))
    if not ended:
        console.write_err(f"{what} was requested, and is still in progress; `backup list` shows the progress")
        return EX_NOT_YET
    if mine[0].text("state") != FAILED:
        return 0
    why = mine[0].text("why")
    if why != now.text("why"):
        console.write_err(f"{what} failed: {why}")
    return 1


def _told(answer: Response) -> str:
    """Return the state of the backups as one line."""
    state, why = answer.text("state"), answer.text("why")
    newest = answer.objects("snapshots")[:1]
    last = "".join(f"; the newest snapshot is {each.text('id')[:8]}, {ago(each.text('at'))} old" for each in newest)
    trouble = f": {why}; {answer.text('what_to_do')}".rstrip("; ") if why else ""
    warning = f"; not whole: {answer.text('warning')}" if answer.text("warning") else ""
    return f"backups are {state}{trouble}{last}{warning}"


def _row(snapshot: Response) -> list[Cell]:
    whole = snapshot.flag("whole")
    notes = ["" if whole else "not whole", "of a replaced instance" if snapshot.flag("replaced") else ""]
    told = ", ".join(filter(None, [snapshot.text("reason"), *notes]))
    return [
        Cell(snapshot.text("id")[:8], BOLD),
        Cell(f"{snapshot.number('generation') or 0:.0f}"),
        Cell(f"{snapshot.number('sequence') or 0:.0f}"),
        Cell(snapshot.text("at")[:19].replace("T", " "), FAINT),
        Cell(ago(snapshot.text("at"))),
        Cell(size(snapshot.number("size_bytes") or 0)),
        Cell(f"{size(snapshot.number('added_bytes') or 0)} in {span(snapshot.number('duration_s') or 0)}"),
        Cell(told, DOUBTFUL if any(notes) else GOOD),
    ]
