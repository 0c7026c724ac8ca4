"""The checks of the settings: all problems at once, and the warnings of `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
