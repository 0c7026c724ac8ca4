"""The checks of the settings: all problems at once, and the warnings of `check`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.doctor.asking import doctor, environment

if TYPE_CHECKING:
    from pathlib import Path


def test_settings(tmp_path: Path) -> None:
    """All problems that prevent a start are listed, and the other checks are still made."""
    report = doctor(environment(tmp_path, PORT="eighty", SUPERVISOR_STOP_TIMEOUT="soon"))
    found = report.problem("settings")
    assert "PORT" in found
    assert "SUPERVISOR_STOP_TIMEOUT" in found
    assert report.of("disk")


def test_warnings(tmp_path: Path) -> None:
    """A warning is reported with its remedy."""
    report = doctor(environment(tmp_path, SUPERVISOR_TOKEN="short"))
    assert "can be guessed" in report.problem("warnings")
    assert "no one can reach the app" in report.problem("warnings")


def test_a_plain_tailnet_is_no_warning(tmp_path: Path) -> None:
    """If there are no warnings, the report says so."""
    assert doctor(environment(tmp_path, SUPERVISOR_EXPOSE="public")).level("warnings") == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("user", ["nobody", "no-such-user"])
def test_what_cannot_be_trusted_is_not_run(tmp_path: Path, user: str) -> None:
    """The report says so instead of the version, also where invalid settings do not tell whom the program is for."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("tailscaled", "restic"):
        (theirs / name).write_text(f"#!/bin/sh\ntouch {theirs}/ran\necho 1.2.3\n")
        (theirs / name).chmod(0o755)
    theirs.chmod(0o777)
    env = environment(tmp_path, PATH=f"{theirs}:/usr/bin:/bin", SUPERVISOR_TAILSCALE="embedded")
    env |= {"SUPERVISOR_TAILSCALE_USER": "root", "SUPERVISOR_APP_USER": user, "TS_STATE_DIR": str(tmp_path / "state")}
    env |= {"SUPERVISOR_BACKUP_REPOSITORY": "/srv/backups", "SUPERVISOR_BACKUP_PASSWORD": "a good password"}
    report = doctor(env)
    assert user in report.problem("settings")
    why = f"not known: it was not run, as a user other than root can change {theirs}"
    assert {name: report.body["versions"][name] for name in ("tailscaled", "restic")} == {
        "tailscaled": why,
        "restic": why,
    }
    assert not (theirs / "ran").exists()
