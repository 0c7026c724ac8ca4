"""The messages of restic 0.17 and newer with `--json`, as far as they are used here."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.backup.places import STAGED
from supervisor.characters import printable
from supervisor.config.backup_plan import FOLDER
from supervisor.core.backup import SnapshotView
from supervisor.json_input import decode_json

# Every snapshot of the supervisor has this tag; others in the same repository are left alone.
TAG = "moltis-supervisor"
PARTIAL, MISSING, REPLACED = "partial", "missing", "replaced"
_STAGED = f"/{FOLDER}/{STAGED}"


class Message(msgspec.Struct):
    """One line of output; its type determines which fields are set."""

    message_type: str = ""
    percent_done: float = 0.0
    files_done: int = 0
    bytes_done: int = 0
    files_restored: int = 0
    bytes_restored: int = 0
    code: int | None = None
    message: str = ""
    item: str = ""
    error: Any = None
    snapshot_id: str = ""
    backup_start: str = ""
    backup_end: str = ""
    total_files_processed: int = 0
    total_bytes_processed: int = 0
    data_added_packed: int = 0
    total_duration: float = 0.0
    num_errors: int = 0
    version: str = ""
    id: str = ""


class _Snapshot(msgspec.Struct):
    id: str
    time: str = ""
    original: str = ""
    paths: list[str] = []
    tags: list[str] | None = None
    summary: Message | None = None


def message_of(line: bytes) -> Message | None:
    """Return the message in a line; None if it is another kind of line."""
    try:
        return decode_json(line, Message)
    except msgspec.DecodeError:
        return None


def tags_of(view: SnapshotView) -> list[str]:
    """Return the tags of a snapshot."""
    faults = [] if view.whole else [PARTIAL] if view.complete else [PARTIAL, MISSING]
    return [
        *faults,
        *([REPLACED] if view.replaced else []),
        TAG,
        f"generation={view.generation}",
        f"sequence={view.sequence}",
        f"reason={view.reason}",
        f"programs={view.programs}",
        f"instance={view.instance}",
    ]


def snapshots_of(line: bytes) -> tuple[SnapshotView, ...]:
    """Return our snapshots from the output of `restic snapshots`, oldest first. Raises msgspec.DecodeError."""
    found = decode_json(line, list[_Snapshot] | None) or []  # type: ignore[arg-type]
    # A key that may not delete leaves a snapshot beside those that replace it with other tags.
    latest: dict[str, _Snapshot] = {}
    for each in sorted(found, key=_tagged):
        latest[each.original or each.id] = each
    views = [_view(each) for each in latest.values() if TAG in (each.tags or ())]
    return tuple(sorted(views, key=lambda view: view.order))


def _tagged(found: _Snapshot) -> tuple[bool, bool]:
    """Return the sort key of snapshots of the same files: tags were changed, and this mark is the last to come."""
    return bool(found.original), REPLACED in (found.tags or ())


def _view(found: _Snapshot) -> SnapshotView:
    said = dict(tag.partition("=")[::2] for tag in found.tags or ())
    summary = found.summary or Message()
    return SnapshotView(
        id=printable(found.id),
        at=printable(found.time),
        generation=_number(said.get("generation", "")),
        sequence=_number(said.get("sequence", "")),
        whole=PARTIAL not in said,
        complete=MISSING not in said,
        replaced=REPLACED in said,
        reason=printable(said.get("reason", "")),
        programs=said.get("programs", ""),
        instance=said.get("instance", ""),
        size_bytes=summary.total_bytes_processed,
        added_bytes=summary.data_added_packed,
        files=summary.total_files_processed,
        duration_s=_seconds(summary.backup_start, summary.backup_end),
        staged=next((path for path in found.paths if path.endswith(_STAGED)), ""),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else 0  # noqa: PLR2004 - a sane count


def _seconds(start: str, end: str) -> float:
    from datetime import datetime

    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except ValueError:
        return 0.0
