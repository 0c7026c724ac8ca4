"""A world finds what its supervisor has left."""

from __future__ import annotations

import subprocess

from tests.chaos.sight import MARK
from tests.chaos.world import World


def test_a_helper_with_another_home_is_found() -> None:
    """Such as restic, and the helper that copies databases."""
    world = World("plain")
    try:
        world.start()
        for mark, is_ours in ((f"restic:{world.pid}", True), (f"restic:{world.pid}0", False)):
            with subprocess.Popen(["sleep", "60"], env={"HOME": "/", MARK: mark}, cwd="/") as helper:
                found = world.marked()
                helper.kill()
            assert (helper.pid in found) == is_ours
    finally:
        world.close()
