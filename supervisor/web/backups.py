"""`/api/backups`: what there is, and orders to take a snapshot and to bring one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervisor.core.backup import BackUp, BackupState, Restore, StartWithout, find
from supervisor.web import documents
from supervisor.web.access import CALLER
from supervisor.web.bodies import Nothing, accepted, answer, body_of
from supervisor.web.error_codes import Code, RefusedError

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.core.backup import BackupOrder
    from supervisor.web.context import Context

_BUSY = frozenset({BackupState.RESTORING, BackupState.STARTING})


class RestoreWish(msgspec.Struct, forbid_unknown_fields=True):
    """``confirm`` says that what is replaced was read."""

    confirm: bool = False


async def backups(context: Context, _request: web.Request) -> web.Response:
    """Give all that is known of them."""
    return answer(documents.backups(context))


async def back_up(context: Context, request: web.Request) -> web.Response:
    """Order a snapshot; where a start is held, the files that are here become the newest."""
    await body_of(request, Nothing)
    _post(context, BackUp(), "back up", request[CALLER].source)
    return accepted()


async def restore(context: Context, request: web.Request) -> web.Response:
    """Order that the app's folders are brought back to a snapshot."""
    wish = await body_of(request, RestoreWish)
    view = context.store.snapshot.backup
    _check(context)
    found = find(view.snapshots, request.match_info["id"])
    if found is None:
        raise RefusedError(Code.UNKNOWN_SNAPSHOT)
    if not wish.confirm:
        raise RefusedError(
            Code.CONFIRMATION_NEEDED,
            f"the app is stopped, its folders are replaced by snapshot {found.id[:8]} of {found.at}, and it is started "
            "again; what is there now is kept as a snapshot first; send it again with confirm: true",
        )
    _post(context, Restore(found.id), f"restore {found.id[:8]}", request[CALLER].source)
    return accepted()


def start_without(context: Context, source: str, *, agreed: bool) -> None:
    """Order to start what is held though nothing was brought back. Raises RefusedError where that was not agreed to."""
    if not agreed:
        why = context.store.snapshot.backup.why or "what was backed up is not there yet"
        raise RefusedError(
            Code.CONFIRMATION_NEEDED,
            f"everything is held: {why}; started now, it runs on the files that are here, and takes no snapshots; "
            "send it again with without_backup: true",
        )
    _post(context, StartWithout(), "start without backups", source)


def _check(context: Context) -> None:
    view = context.store.snapshot.backup
    if view.state is BackupState.OFF:
        raise RefusedError(Code.BACKUPS_OFF)
    if context.store.snapshot.stopping:
        raise RefusedError(Code.STOPPING)


def _post(context: Context, order: BackupOrder, name: str, source: str) -> None:
    _check(context)
    view = context.store.snapshot.backup
    if view.state is BackupState.WITHOUT:
        raise RefusedError(Code.BACKUPS_OFF, "this life was started without backups; restart the container")
    if view.state in _BUSY and not isinstance(order, StartWithout):
        raise RefusedError(Code.BACKUP_BUSY)
    context.log.record("info", "order received", part="backup", order=name, source=source)
    context.channels.backups.send(order)
