"""What the plan finds out about this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.config.users import Host

if TYPE_CHECKING:
    from pathlib import Path


def test_a_plain_folder_ends_with_its_container(tmp_path: Path) -> None:
    """This holds for a folder of the image's own file system, and for a missing one."""
    assert not Host().outlives_container(str(tmp_path / "no such"))
    assert not Host().outlives_container(str(tmp_path))


def test_a_mount_outlives_its_container() -> None:
    """The root is a mount everywhere."""
    assert Host().outlives_container("/")


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="there is no mount in memory here")
def test_a_mount_in_memory_ends_with_its_container() -> None:
    """A tmpfs for a read-only image is an example."""
    assert not Host().outlives_container("/dev/shm")


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to mount")
@pytest.mark.parametrize("name", ["two words", "caf\u00e9", "back\\slash"])
def test_a_mount_is_found_whatever_its_name_is(tmp_path: Path, name: str) -> None:
    """The kernel writes some characters of the name as numbers, and others as they are."""
    path = tmp_path / name
    path.mkdir()
    code = (
        "import sys; from supervisor.config.users import Host; from supervisor.system.mounts import file_system; "
        "print(file_system(sys.argv[1]) == (sys.argv[1], 'tmpfs'), Host().outlives_container(sys.argv[1]))"
    )
    words = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(path)]
    done = subprocess.run([*words, sys.executable, "-I", "-c", code, str(path)], capture_output=True, check=True)
    assert done.stdout == b"True False\n"
