"""Moltis' password: it is for the first start; later Moltis would still take it beside one that its owner has set.

The app is the stand-in for Moltis, which keeps the password and tells of its set-up as Moltis does.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.client.calling import call
from tests.process.running import PATIENT, running
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.running import Run

STAND_IN = Path(__file__).parents[2] / "examples/app/moltis_stand_in.py"
WORD = "the first password"
BANNER = "stand-in for Moltis: it answers /health and little else"
KEPT = "migrating MOLTIS_PASSWORD env var to credential store"
INCOMPLETE = "its set-up is not complete"


@contextmanager
def moltis(home: Path, **more: str) -> Iterator[Run]:
    """Run the stand-in under the supervisor."""
    program = home / "moltis"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    program.chmod(0o755)
    env = {
        "HOME": str(home),
        "SUPERVISOR_APP_COMMAND": str(program),
        "SUPERVISOR_APP_BIND": "127.0.0.2",
        "SUPERVISOR_APP_PORT": str(free_port("127.0.0.2")),
        "SUPERVISOR_APP_HEALTH_URL": "/health",
        **more,
    }
    with running(env=env, prefix=PATIENT) as run:
        yield run


def given(run: Run, start: int) -> str | None:
    """Return the password that the app was given at a start, counted from 1, once it is ready."""
    run.wait_count(start, f"this is a {BANNER}", process="moltis")
    pid = run.all("started", child="moltis")[start - 1]["pid"]
    variables = dict(each.partition("=")[::2] for each in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return variables.get("MOLTIS_PASSWORD")


def restart(run: Run) -> None:
    """Order a restart, once the first start is over."""
    run.wait_for("health is pass")
    assert call(run.run_dir, "restart", "moltis").code == 0


def test_only_the_first_start_gets_it(tmp_path: Path) -> None:
    """A later start gets it no more, under this supervisor or the next one, as after a restored backup."""
    with moltis(tmp_path, MOLTIS_PASSWORD=WORD) as run:
        assert given(run, 1) == WORD
        run.wait_for(KEPT, process="moltis")
        restart(run)
        assert given(run, 2) is None
    with moltis(tmp_path, MOLTIS_PASSWORD=WORD) as run:
        assert given(run, 1) is None
        restart(run)
        assert given(run, 2) is None
        assert not run.all(INCOMPLETE)
        assert len(run.all("started", child="moltis")) == 2


def test_a_changed_file_is_masked_though_it_is_not_given(tmp_path: Path) -> None:
    """Its owner may have given Moltis the same one; an unreadable file concerns nobody then."""
    file = tmp_path / "password"
    file.write_text(f"{WORD}\n")
    with moltis(tmp_path, MOLTIS_PASSWORD_FILE=str(file)) as run:
        assert given(run, 1) == WORD
        file.write_text("another password\n")
        restart(run)
        assert given(run, 2) is None
        file.unlink()
        restart(run)
        assert given(run, 3) is None
        assert not run.all("started with a former secret")


def test_moltis_that_was_set_up_without_one_is_restarted_with_it(tmp_path: Path) -> None:
    """Its first start came before the password was set, so that it waits for whoever has its setup code."""
    (tmp_path / ".moltis/agents/main").mkdir(parents=True)
    with moltis(tmp_path, MOLTIS_PASSWORD=WORD) as run:
        told = run.wait_for(INCOMPLETE, child="moltis")
        assert told["level"] == "warning"
        assert given(run, 2) == WORD
        run.wait_for(KEPT, process="moltis")
        assert run.wait_for("exited", child="moltis")["level"] == "info"
        restart(run)
        assert given(run, 3) is None
        restart(run)
        assert given(run, 4) is None
        assert len(run.all(INCOMPLETE)) == 1


def test_one_without_a_password_is_asked_nothing(tmp_path: Path) -> None:
    """Without MOLTIS_PASSWORD its owner sets one in its set-up."""
    (tmp_path / ".moltis/agents/main").mkdir(parents=True)
    with moltis(tmp_path) as run:
        assert given(run, 1) is None
        restart(run)
        assert given(run, 2) is None
        assert not run.all(INCOMPLETE)
