"""Runs the doctor: the command as a user calls it, and the report as programs get it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.client.calling import DEADLINE_S, PROGRAM

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.running import Run

NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip"), reason="takes root and iproute2 for namespaces"
)

# A command after this finds gVisor's /proc/version.
IN_GVISOR = (
    *("unshare", "--mount", "sh", "-c"),
    'f=$(mktemp) && echo 4.19.0-gvisor >"$f" && mount --bind "$f" /proc/version && rm "$f" && exec "$@"',
    "sh",
)


class Report(NamedTuple):
    """A report; ``code`` is the exit code of the command."""

    code: int
    body: dict[str, Any]

    def of(self, check: str) -> list[dict[str, Any]]:
        """Return the findings of one check."""
        return [each for each in self.body["findings"] if each["check"] == check]

    def level(self, check: str) -> str:
        """Return the worst level of one check."""
        levels = {each["level"] for each in self.of(check)}
        return next(level for level in ("problem", "note", "ok") if level in levels)

    def problem(self, check: str) -> str:
        """Return the problems that one check found, as one text."""
        found = [each for each in self.of(check) if each["level"] == "problem"]
        assert found, self.body["text"]
        assert self.code == 1
        return "; ".join(each["found"] for each in found)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return settings with no running supervisor, and without a tailnet."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "SUPERVISOR_RUN_DIR": str(folder / "run"),
        "SUPERVISOR_TAILSCALE": "off",
        **more,
    }


def doctor(env: dict[str, str], *, prefix: tuple[str, ...] = (), **options: Any) -> Report:
    """Call the command with these settings."""
    done = subprocess.run(
        [*prefix, *PROGRAM, "doctor", "--json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd="/",
        **options,
    )
    assert not done.stderr, done.stderr
    report = Report(done.returncode, json.loads(done.stdout))
    for each in report.body["findings"]:
        assert all(each[name] for name in ("looked_at", "found", "why")), each
        assert each["level"] == "ok" or each["what_to_do"], each
    return report


def doctor_of(run: Run) -> Report:
    """Call the command for a running supervisor."""
    return doctor({**run.env, "SUPERVISOR_RUN_DIR": str(run.run_dir)})
