"""The record of what we have published, in a folder that may belong to another user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.tailnet.serve.publisher import NAME, Ownership

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.tailnet.serve.diff import Entries

OURS: Entries = {("TCP", "80"): {"HTTP": True}, ("Web", "a.x:80", "Handlers", "/"): {"Proxy": "x"}}
MOVED: Entries = {("Web", "a.x:80", "Handlers", "/"): {"Proxy": "y"}}


def test_it_is_remembered(tmp_path: Path) -> None:
    """The next supervisor reads it; while a write is under way, both values are ours."""
    record = Ownership(str(tmp_path))
    assert record.entries() == {}
    record.put(OURS, MOVED)
    again = Ownership(str(tmp_path))
    assert again.entries() == {
        ("TCP", "80"): ({"HTTP": True},),
        ("Web", "a.x:80", "Handlers", "/"): ({"Proxy": "x"}, {"Proxy": "y"}),
    }
    again.put()
    assert Ownership(str(tmp_path)).entries() == {}
    assert again.why_not_kept == ""
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0


def test_the_same_again_is_not_written(tmp_path: Path) -> None:
    """Nothing is written to the disk."""
    record = Ownership(str(tmp_path))
    record.put()
    assert not (tmp_path / NAME).exists()
    record.put(OURS)
    (tmp_path / NAME).unlink()
    record.put(OURS, OURS)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("data", [b"", b"garbage", b"[]", b'{"entries": [{"path": 1}]}', b"\xff", b" " * 2_000_000])
def test_garbage_is_no_record(tmp_path: Path, data: bytes) -> None:
    """Then nothing counts as ours, and nothing else is lost."""
    (tmp_path / NAME).write_bytes(data)
    record = Ownership(str(tmp_path))
    assert record.entries() == {}
    assert record.why_unread
    record.put(OURS)
    again = Ownership(str(tmp_path))
    assert set(again.entries()) == set(OURS)
    assert again.why_unread == ""


def test_no_link_is_followed(tmp_path: Path) -> None:
    """This applies to reads and writes, including at the name of the temporary file."""
    Ownership(str(tmp_path)).put(OURS)
    outside = tmp_path / "outside"
    (tmp_path / NAME).rename(outside)
    before = outside.read_bytes()
    (tmp_path / NAME).symlink_to(outside)
    (tmp_path / f".{NAME}.new").symlink_to(outside)
    record = Ownership(str(tmp_path))
    assert record.entries() == {}
    record.put(MOVED)
    assert outside.read_bytes() == before
    assert not (tmp_path / NAME).is_symlink()
    assert set(Ownership(str(tmp_path)).entries()) == set(MOVED)


def test_a_pipe_holds_nothing_up(tmp_path: Path) -> None:
    """The owner of the folder may have put one there."""
    os.mkfifo(tmp_path / NAME)
    assert Ownership(str(tmp_path)).entries() == {}


def test_without_a_folder_it_lasts_for_this_run(tmp_path: Path) -> None:
    """And a message says that it is not kept longer."""
    record = Ownership(str(tmp_path / "none"))
    record.put(OURS)
    assert set(record.entries()) == set(OURS)
    assert "No such file" in record.why_not_kept
    assert Ownership(str(tmp_path / "none")).entries() == {}
