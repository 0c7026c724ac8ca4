"""The checks of rights: users, util-linux' setpriv, and /proc."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.client.calling import PROGRAM
from tests.doctor.asking import NEEDS_ROOT, doctor, environment

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"')
WITHOUT_SETPRIV = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /usr/bin/setpriv && exec "$@"', "sh")


def test_users(tmp_path: Path) -> None:
    """The report has the user of each process, and the notes of the command `check` about them."""
    env = environment(
        tmp_path,
        SUPERVISOR_TAILSCALE="embedded",
        SUPERVISOR_APP_USER="root",
        TS_STATE_DIR=str(tmp_path / "state"),
        TS_EXTRA_ARGS="--login-server=http://127.0.0.1:1",
    )
    users, *notes = doctor(env).of("users")
    assert "moltis: " in users["found"]
    assert "tailscaled: " in users["found"]
    checked = subprocess.run([*PROGRAM, "check", "--json"], env=env, capture_output=True, check=True)
    (shared,) = (text for text in json.loads(checked.stdout)["notices"] if "run as the same user" in text)
    assert shared in [f"{note['found']}; {note['what_to_do']}" for note in notes]


@NEEDS_ROOT
def test_proc(tmp_path: Path) -> None:
    """A container without its own /proc has a problem."""
    assert "not there" in doctor(environment(tmp_path), prefix=(*HIDDEN, "/proc")).problem("proc")


@NEEDS_ROOT
def test_launcher(tmp_path: Path) -> None:
    """An image without setpriv has a problem."""
    assert doctor(environment(tmp_path), prefix=WITHOUT_SETPRIV).problem("launcher")
