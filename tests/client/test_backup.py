"""`backup` and `backup restore`: the confirmation, the wait, and what programs get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tests.client.answering import Supervisor, answering
from tests.client.calling import call, on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

RESTORE = "/api/backups/2a588ecc/restore"
OVER = {"state": "idle", "orders": [{"id": "1", "state": "done"}]}
REPLACES = {"code": "CONFIRMATION_NEEDED", "error": "its folders are replaced"}


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor with backups."""
    with answering() as answers:
        yield answers


def wanting_confirmation(supervisor: Supervisor) -> None:
    """Let a restore be refused until it is confirmed."""
    supervisor.given["GET /api/backups"] = (200, OVER)
    supervisor.given[f"POST {RESTORE}"] = lambda asked: (
        (202, {"order": "1"}) if asked.body.get("confirm") else (409, REPLACES)
    )


@pytest.mark.parametrize(("typed", "code", "sent"), [("y\n", 0, [{}, {"confirm": True}]), ("\n", 1, [{}])])
def test_a_person_is_asked_before_a_restore(supervisor: Supervisor, typed: str, code: int, sent: list[Any]) -> None:
    """Programs get the response, or the refusal where the answer was no."""
    wanting_confirmation(supervisor)
    called = on_terminal(supervisor.folder, "backup", "restore", "2a588ecc", "--json", typed=typed, asked="go on?")
    assert called.code == code
    assert "its folders are replaced" in called.out
    assert json.dumps(OVER if code == 0 else REPLACES) in called.out.splitlines()
    assert ("nothing was changed" in called.out) == (code == 1)
    assert supervisor.bodies(RESTORE) == sent


def test_a_restore_is_not_done_unasked(supervisor: Supervisor) -> None:
    """Without a terminal it is refused with the way to confirm it; --yes does so beforehand."""
    wanting_confirmation(supervisor)
    called = call(supervisor.folder, "backup", "restore", "2a588ecc")
    assert (called.code, called.out) == (1, "")
    assert called.err == "moltis-supervisor: its folders are replaced; --yes confirms it beforehand\n"
    wanting_confirmation(supervisor)
    assert call(supervisor.folder, "backup", "restore", "2a588ecc", "--yes").code == 0
    assert supervisor.bodies(RESTORE) == [{}, {"confirm": True}]


@pytest.mark.parametrize(("words", "out"), [((), ""), (("--json",), '{"state": "snapshot"}\n')])
def test_a_snapshot_that_takes_longer(supervisor: Supervisor, words: tuple[str, ...], out: str) -> None:
    """The exit code is 75, and programs get the state so far."""
    supervisor.given["GET /api/backups"] = (200, {"state": "snapshot"})
    supervisor.given["POST /api/backups"] = (202, {"order": "1"})
    with patch("supervisor.client.backup_commands._FOLLOW_S", 0.0):
        called = call(supervisor.folder, "backup", *words)
    assert (called.code, called.out) == (75, out)
    assert "the snapshot was requested, and is still in progress" in called.err
