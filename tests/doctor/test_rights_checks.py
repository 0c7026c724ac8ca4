"""The rights' part: users, util-linux' setpriv, and /proc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.doctor.asking import NEEDS_ROOT, doctor, environment

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"')
WITHOUT_SETPRIV = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /usr/bin/setpriv && exec "$@"', "sh")


def test_users(tmp_path: Path) -> None:
    """Who runs as whom, and what the command `check` notes of that."""
    report = doctor(environment(tmp_path))
    assert "moltis" in report.of("users")[0]["found"]


@NEEDS_ROOT
def test_proc(tmp_path: Path) -> None:
    """A container without its own /proc."""
    assert "not there" in doctor(environment(tmp_path), prefix=(*HIDDEN, "/proc")).problem("proc")


@NEEDS_ROOT
def test_launcher(tmp_path: Path) -> None:
    """An image without setpriv."""
    assert doctor(environment(tmp_path), prefix=WITHOUT_SETPRIV).problem("launcher")
