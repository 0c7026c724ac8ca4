"""What the plan asks this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.config.users import Host

if TYPE_CHECKING:
    from pathlib import Path


def test_a_plain_folder_ends_with_its_container(tmp_path: Path) -> None:
    """A folder of the image's own file system, and one that is not there."""
    assert not Host().outlives_container(str(tmp_path / "no such"))
    assert not Host().outlives_container(str(tmp_path))


def test_a_mount_outlives_its_container() -> None:
    """The root is one everywhere."""
    assert Host().outlives_container("/")


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="there is no mount in memory here")
def test_a_mount_in_memory_ends_with_its_container() -> None:
    """As a tmpfs does for a read-only image."""
    assert not Host().outlives_container("/dev/shm")
