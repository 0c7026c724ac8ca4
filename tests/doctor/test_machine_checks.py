"""The checks of the machine, with real limits: control groups, a small disk, a limit on descriptors."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.doctor.asking import IN_GVISOR, NEEDS_ROOT, doctor, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUPS = Path("/sys/fs/cgroup")
IN_GROUP = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')
ROOM = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o "size=$0" tmpfs "$1" && shift && exec "$@"')


@contextlib.contextmanager
def group(controller: str, file: str, limit: str) -> Iterator[str]:
    """Create a control group with a limit for the length of a block."""
    folder = GROUPS / controller / f"doctor-{uuid.uuid4().hex[:8]}"
    if not os.access(GROUPS / controller, os.W_OK):
        pytest.skip("this machine lets nobody make control groups of version 1")
    folder.mkdir()
    try:
        (folder / file).write_text(limit)
        yield str(folder)
    finally:
        folder.rmdir()


def test_memory(tmp_path: Path) -> None:
    """A limit too low for Moltis is a problem."""
    with group("memory", "memory.limit_in_bytes", str(128 * 1024 * 1024)) as folder:
        report = doctor(environment(tmp_path), prefix=(*IN_GROUP, folder))
        assert "128 MiB" in report.problem("memory")


@NEEDS_ROOT
def test_limits_that_are_hidden(tmp_path: Path) -> None:
    """gVisor shows none, which does not mean that there is none."""
    report = doctor(environment(tmp_path), prefix=IN_GVISOR)
    for check in ("memory", "processes"):
        found = report.of(check)[0]
        assert (found["level"], "there may be one" in found["found"]) == ("note", True)


def test_processes(tmp_path: Path) -> None:
    """A limit at which nothing more can be started is a problem."""
    with group("pids", "pids.max", "60") as folder:
        report = doctor(environment(tmp_path), prefix=(*IN_GROUP, folder))
        assert "60" in report.problem("processes")


def test_descriptors(tmp_path: Path) -> None:
    """A hard limit too low for connections is a problem."""
    report = doctor(environment(tmp_path), prefix=("sh", "-c", 'ulimit -n 256 && exec "$@"', "sh"))
    assert "256" in report.problem("descriptors")


@NEEDS_ROOT
def test_disk(tmp_path: Path) -> None:
    """A disk with hardly any space is a problem, and so is one without free inodes."""
    (tmp_path / "run").mkdir(mode=0o700)
    env = environment(tmp_path)
    small = doctor(env, prefix=(*ROOM, "8m", str(tmp_path / "run")))
    assert "8 MiB" in small.problem("disk")
    few = doctor(env, prefix=(*ROOM, "128m,nr_inodes=20", str(tmp_path / "run")))
    assert "more files" in few.problem("disk")
    # Incidents are stored there without a tailnet too.
    (tmp_path / "state").mkdir()
    state = str(tmp_path / "state")
    assert state in doctor(env | {"TS_STATE_DIR": state}, prefix=(*ROOM, "8m", state)).problem("disk")
