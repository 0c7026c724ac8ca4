"""The workflows on GitHub: each step is a task of the Makefile, and each action is pinned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conventions.tree import ROOT, read

WORKFLOWS = sorted(Path(ROOT / ".github/workflows").glob("*.yml"))
TASKS = set(re.findall(r"[a-z][a-z-]+", " ".join(re.findall(r"^([a-z][a-z -]*):", read("Makefile"), re.MULTILINE))))
# The runner has an engine and can pull images; tests that change users run in `make contained`.
AS_ROOT = 'sudo --preserve-env=CI env "PATH=$PATH" TEST_ENGINE_PULL=1 '


def steps(path: Path) -> list[dict[str, Any]]:
    """Return the steps of all jobs."""
    found = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
    assert found
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_step_that_runs_something_calls_a_task(path: Path) -> None:
    """A step that fails there can be run locally with the same command."""
    lines = [step["run"].removeprefix(AS_ROOT) for step in steps(path) if "run" in step]
    assert lines
    assert not [line for line in lines if not line.startswith("make ") or line.split()[1] not in TASKS]
    inside = re.findall(r'make contained TASK="?([\w-]+)', "\n".join(lines))
    assert len(inside) == sum("contained" in line for line in lines)
    assert TASKS.issuperset(inside)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_test_runs_beside_what_everyone_may_write(path: Path) -> None:
    """On a hosted runner everyone may write to Python and the folders in PATH, so the supervisor refuses to start."""
    lines = [step["run"] for step in steps(path) if "run" in step]
    assert not [line for line in lines if re.search(r"make ((test|chaos)(?!-image)|soak|planted|refusals|fuzz)", line)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_an_action_is_pinned_by_its_commit(path: Path) -> None:
    """The version is next to it, for people and for Dependabot."""
    used = re.findall(r"uses: (.*)", path.read_text())
    assert len(used) == len([step for step in steps(path) if "uses" in step])
    assert not [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)]


def test_an_action_has_one_version_everywhere() -> None:
    """Otherwise a bug could occur in one workflow only."""
    pins = {pin for path in WORKFLOWS for pin in re.findall(r"uses: (.*)", path.read_text())}
    assert len(pins) == len({pin.split("@")[0] for pin in pins})
