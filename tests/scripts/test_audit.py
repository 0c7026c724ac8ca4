"""The audit of the locks: a vulnerability fails; an index that does not answer is reported, or fails if requested."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.control import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOUND = "echo Found 1 known vulnerability in 1 package; echo aiohttp 1.0 PYSEC-0; exit 1"
SILENT = "echo ERROR: the index does not answer >&2; exit 1"


def audit(root: Path, *words: str) -> tuple[int, str]:
    """Run the audit on a tree; return its exit code and output."""
    done = subprocess.run(
        [ROOT / "scripts/audit", *words],
        env={"PATH": "/usr/bin:/bin", "AUDIT_ROOT": str(root)},
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    return done.returncode, done.stdout.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with locks and without pip-audit."""
    (tmp_path / ".venv").mkdir()
    (tmp_path / "requirements").mkdir()
    for name in ("run", "run-otel", "build", "dev"):
        lock = tmp_path / f"requirements/{name}.txt"
        lock.touch()
        os.utime(lock, (1, 1))
    return tmp_path


def install(root: Path, script: str) -> None:
    """Install a script in place of pip-audit."""
    program = root / ".venv/audit/bin/pip-audit"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(("script", "code", "told"), [(FOUND, 1, 1), (SILENT, 1, 0), ("exit 0", 0, 0)])
def test_what_an_index_says(tree: Path, script: str, code: int, told: int) -> None:
    """A vulnerability fails with and without --or-tell, a missing answer only without it."""
    install(tree, script)
    assert audit(tree)[0] == code
    (tree / ".venv/.audited").unlink(missing_ok=True)
    assert audit(tree, "--or-tell")[0] == told


def test_what_cannot_be_asked_is_said(tree: Path) -> None:
    """It is reported without pip-audit, and if the index does not answer."""
    assert audit(tree, "--or-tell") == (
        0,
        "not checked for known vulnerabilities: run make audit once, which installs what is needed\n",
    )
    install(tree, SILENT)
    assert "the index does not answer" in audit(tree, "--or-tell")[1]


def test_it_is_asked_once_a_day(tree: Path) -> None:
    """It is asked again if a vulnerability was found, or on request."""
    install(tree, "exit 0")
    assert "no known vulnerabilities" in audit(tree, "--or-tell")[1]
    assert audit(tree, "--or-tell") == (0, "")
    assert "no known vulnerabilities" in audit(tree)[1]
    (tree / ".venv/.audited").unlink()
    install(tree, FOUND)
    assert [audit(tree, "--or-tell")[0] for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("lock", ["run", "build"])
def test_a_lock_that_has_changed_is_asked_about_again(tree: Path, lock: str) -> None:
    """A change of any lock counts."""
    install(tree, "exit 0")
    audit(tree)
    os.utime(tree / f"requirements/{lock}.txt")
    os.utime(tree / ".venv/.audited", (os.stat(tree / ".venv/.audited").st_atime, time.time() - 60))
    assert "no known vulnerabilities" in audit(tree, "--or-tell")[1]


def test_an_audit_that_was_broken_off_counts_as_none(tree: Path) -> None:
    """A result that was not reported does not count."""
    install(tree, "kill -KILL 0")
    assert audit(tree, "--or-tell")[0] != 0
    install(tree, "exit 0")
    assert "no known vulnerabilities" in audit(tree, "--or-tell")[1]
