"""`start`, `stop` and `restart`: the order, the short wait, and the state afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from supervisor.client import commands
from tests.client.answering import RUNNING, Answer, Asked, Supervisor, answering
from tests.client.calling import call, on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

STOPPED = {"name": "moltis", "state": "inactive", "restarts": 2}
STOPPING = {**RUNNING, "state": "stopping"}


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor that accepts every order for moltis."""
    with answering() as answers:
        for verb in ("start", "stop", "restart"):
            answers.given[f"POST /api/processes/moltis/{verb}"] = (202, {"ok": True})
        yield answers


def showing(supervisor: Supervisor, *documents: dict[str, Any]) -> None:
    """Make it show these states one after the other; the last one stays."""
    left = list(documents)

    def show(_asked: Asked) -> Answer:
        return 200, {"processes": [left.pop(0) if len(left) > 1 else left[0]]}

    supervisor.given["GET /api/processes"] = show


@pytest.mark.parametrize(
    ("verb", "states", "said"),
    [
        ("start", (STOPPED, {**STOPPED, "state": "spawning"}, {**RUNNING, "pid": 43}), "moltis is running, pid 43"),
        ("stop", (RUNNING, STOPPING, STOPPED), "moltis is inactive"),
        ("restart", (RUNNING, RUNNING, STOPPING, {**RUNNING, "pid": 42}), "moltis is running, pid 42"),
        ("restart", (STOPPED, {**RUNNING, "pid": 42}), "moltis is running, pid 42"),
    ],
)
def test_it_waits_until_it_is_done(
    supervisor: Supervisor, verb: str, states: tuple[dict[str, Any], ...], said: str
) -> None:
    """After a restart was requested, the old process that still runs is not taken for the new one."""
    showing(supervisor, *states)
    assert call(supervisor.folder, verb, "moltis") == (0, f"{said}\n", "")
    assert supervisor.bodies(f"/api/processes/moltis/{verb}") == [{}]


HELD = {"code": "CONFIRMATION_NEEDED", "error": "the start is held: no such bucket; a start takes no snapshots"}


def wanting_agreement(supervisor: Supervisor, verb: str) -> str:
    """Let starts be held until they are agreed to; return the order's path."""
    path = f"/api/processes/moltis/{verb}"
    supervisor.given["GET /api/processes"] = lambda _asked: (
        (200, {"processes": [RUNNING if {"without_backup": True} in supervisor.bodies(path) else STOPPED]})
    )
    supervisor.given[f"POST {path}"] = lambda asked: (
        (202, {"ok": True}) if asked.body.get("without_backup") else (409, HELD)
    )
    return path


@pytest.mark.parametrize("verb", ["start", "restart"])
@pytest.mark.parametrize(("typed", "code", "sent"), [("y\n", 0, [{}, {"without_backup": True}]), ("\n", 1, [{}])])
def test_a_person_is_asked_before_a_start_without_a_backup(
    supervisor: Supervisor, verb: str, typed: str, code: int, sent: list[Any]
) -> None:
    """The question gives the reason; an answer of no changes nothing."""
    path = wanting_agreement(supervisor, verb)
    called = on_terminal(supervisor.folder, verb, "moltis", typed=typed, asked="go on?")
    assert (called.code, "no such bucket" in called.out) == (code, True)
    assert ("nothing was changed" in called.out) == (code == 1)
    assert supervisor.bodies(path) == sent


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_start_without_a_backup_is_not_done_unasked(supervisor: Supervisor, verb: str) -> None:
    """Without a terminal it is refused with the way to confirm it; the option does so beforehand."""
    path = wanting_agreement(supervisor, verb)
    called = call(supervisor.folder, verb, "moltis")
    assert (called.code, called.out) == (1, "")
    assert called.err == f"moltis-supervisor: {HELD['error']}; --without-backup confirms it beforehand\n"
    assert call(supervisor.folder, verb, "moltis", "--without-backup").code == 0
    assert supervisor.bodies(path) == [{}, {"without_backup": True}]


def test_it_does_not_wait_for_ever(supervisor: Supervisor) -> None:
    """The exit code is 75, with the state so far."""
    showing(supervisor, RUNNING, STOPPING)
    with patch.object(commands, "SETTLE_S", 0.2):
        called = call(supervisor.folder, "stop", "moltis")
    assert called.code == 75
    assert called.out.startswith("moltis is stopping, pid 41")
    assert "stop was requested" in called.err


def test_why_it_does_not_run_is_said(supervisor: Supervisor) -> None:
    """If a start fails, the reason of the last exit is shown."""
    ended = [{"reason": "cannot run moltis: No such file or directory"}]
    showing(supervisor, STOPPED, {**STOPPED, "state": "failed", "exits": ended})
    with patch.object(commands, "SETTLE_S", 0.2):
        called = call(supervisor.folder, "start", "moltis")
    assert called.code == 75
    assert "moltis is failed (given up; cannot run moltis: No such file or directory)" in called.out


def test_programs_get_the_process(supervisor: Supervisor) -> None:
    """The output is the process as in GET /api/processes."""
    called = call(supervisor.folder, "start", "moltis", "--json")
    assert json.loads(called.out) == RUNNING


def test_an_id_of_a_snapshot_is_no_path(supervisor: Supervisor) -> None:
    """The ID is sent as it was written, whatever its encoding."""
    supervisor.given["GET /api/backups"] = (200, {"state": "idle"})
    for written, sent in (("../x", "..%2Fx"), ("a?b", "a%3Fb"), ("\udcff", "%FF")):
        path = f"/api/backups/{sent}/restore"
        supervisor.given[f"POST {path}"] = (404, {"code": "UNKNOWN_SNAPSHOT", "error": f"there is no {sent}"})
        called = call(supervisor.folder, "backup", "restore", written, "--yes")
        assert (called.code, called.err) == (1, f"moltis-supervisor: there is no {sent}\n")
        assert supervisor.bodies(path) == [{"confirm": True}]


@pytest.mark.parametrize("snapshot", ["", ".", ".."])
def test_what_can_be_no_id_is_a_slip(supervisor: Supervisor, snapshot: str) -> None:
    """As a segment of the path these would lead elsewhere, so nothing is sent."""
    called = call(supervisor.folder, "backup", "restore", snapshot, "--yes")
    assert called.code == 64
    assert f"backup restore needs the ID of a snapshot, not {snapshot!r}; `backup list` lists them" in called.err
    assert not supervisor.asked


def test_a_name_is_no_path(supervisor: Supervisor) -> None:
    """A name stays one segment of the path, and the supervisor's refusal is shown."""
    supervisor.given["POST /api/processes/..%2Fmoltis/stop"] = (
        404,
        {"code": "UNKNOWN_PROCESS", "error": "no such one"},
    )
    assert call(supervisor.folder, "stop", "../moltis") == (1, "", "moltis-supervisor: no such one\n")


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_can_be_no_name_is_a_slip(supervisor: Supervisor, verb: str, name: str) -> None:
    """The exit code is 64, and nothing is sent: `stop "$NAME"` with NAME unset is not an order."""
    called = call(supervisor.folder, verb, name)
    said = f"moltis-supervisor: {verb} needs the name of a process, not {name!r}; `status` lists them\n"
    assert called == (64, "", said)
    assert not supervisor.asked
