"""Any JSON from restic, tailscaled, a bucket or a disk is decoded, or refused in one way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given

from supervisor.backup.holder import Lease, _completed, _Sealed
from supervisor.backup.marker import Kept
from supervisor.backup.messages import message_of, snapshots_of
from supervisor.backup.objects import StoredObject
from supervisor.core.holding import LeaseRecord, Unreadable
from supervisor.json_input import decode_json, decode_object
from supervisor.tailnet.localapi import LocalApiError, _decoded
from supervisor.tailnet.state_file import Record
from supervisor.tailnet.wire import Json, Notify, Status
from tests.backup.test_holder import settings
from tests.fuzz.mutating import mutations, thorough

if TYPE_CHECKING:
    from collections.abc import Callable

RESTIC = (
    b'{"message_type":"status","percent_done":0.5,"files_done":3,"bytes_done":5}',
    b'{"message_type":"summary","snapshot_id":"ab","backup_start":"2026-01-01T00:00:00Z","total_duration":1.5}',
    b'{"message_type":"error","error":{"message":"no"},"during":"archival","item":"/data/\xc3\xa4"}',
    b'{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist"}',
)
SNAPSHOTS = (
    (
        b'[{"id":"ab","time":"2026-01-01T00:00:00Z","paths":["/d"],"tags":["moltis-supervisor","generation=3","sequence=7",'
        b'"partial"],"summary":{"backup_start":"2026-01-01T00:00:00Z","backup_end":"2026-01-01T00:00:01Z"}}]'
    ),
    b'[{"id":"ab","paths":[],"tags":null}]',
    b"null",
)
BUS = (
    b'{"Version":"1.102","State":6,"Prefs":{},"ErrMessage":null,"BrowseToURL":"https://login.example.com/a/1"}',
    b'{"Health":{"Warnings":{"login-state":{"WarnableCode":"login-state","Text":"You are logged out."}}}}',
    (
        b'{"BackendState":"Running","Self":{"DNSName":"moltis.tail1.ts.net.","TailscaleIPs":["100.64.0.1"],"Online":true},'
        b'"Peer":{"nodekey:1":{"Tags":["tag:a"],"UserID":1}},"User":{"1":{"LoginName":"a@example.com"}}}'
    ),
)
HOLDER = (
    b'{"version":1,"instance":"a","generation":2,"counter":9,"files":"f","released":false,"whole":true,"mac":"00"}',
)
RECORD = LeaseRecord("a", 2, 9, "f", released=True, whole=True, owner="g", last=(2, 7))


def _of_the_bus(data: bytes) -> Any:
    try:
        return _decoded(data, Notify), _decoded(data, Status), _decoded(data, Json)
    except LocalApiError:
        return None


@thorough
@given(mutations(RESTIC + SNAPSHOTS))
def test_what_restic_says(line: bytes) -> None:
    """A line is a message or not; a list of snapshots is decoded, or raises DecodeError."""
    message_of(line)
    try:
        found = snapshots_of(line)
    except msgspec.DecodeError:
        return
    assert [view.order for view in found] == sorted(view.order for view in found)


@thorough
@given(mutations(BUS))
def test_what_tailscaled_says(data: bytes) -> None:
    """A response or a notification is decoded, or raises LocalApiError."""
    _of_the_bus(data)


@thorough
@given(mutations(HOLDER))
def test_what_lies_in_a_bucket_or_on_a_disk(data: bytes) -> None:
    """The holder's object, a marker and a record are decoded, or raise DecodeError; a helper's output may be None."""
    for kind in (_Sealed, Kept, Record):
        try:
            decode_json(data, kind)
        except msgspec.DecodeError:
            continue
    assert decode_object(data) is None or isinstance(decode_object(data), dict)


_LEASE = Lease(settings("/nowhere"))
_SEALED = asyncio.run(_LEASE._seal(RECORD))


@thorough
@given(mutations((*HOLDER, _SEALED)))
def test_the_object_of_the_holder(data: bytes) -> None:
    """It is what was sealed, or cannot be read; what an earlier supervisor does not seal may be missing."""
    seen = asyncio.run(_LEASE._read(StoredObject(data, "")))
    if isinstance(seen, LeaseRecord):
        assert seen in {RECORD, _completed(RECORD)}
    else:
        assert isinstance(seen, Unreadable)


@pytest.mark.parametrize("data", [b'{"message":"\xff"}', b'{"error":' + b"[" * 100_000, b"[" * 100_000, b"\xff", b"{"])
@pytest.mark.parametrize("read", [message_of, decode_object, _of_the_bus])
def test_what_msgspec_has_errors_of_its_own_for(read: Callable[[bytes], Any], data: bytes) -> None:
    """Invalid UTF-8 and deep nesting are refused like all other invalid input."""
    assert read(data) is None
