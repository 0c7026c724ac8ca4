"""A life of a container that restarts with its files after an interrupted restore; some folders cannot be renamed."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.backup.world import World, back_up, wait_for_state
from tests.chaos.refused_lives import PATIENCE_S, fill, live, lost, of_all_lives
from tests.client.calling import call
from tests.support.backups import PASSWORD
from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.refused_lives import Outcome, Way
    from tests.process.running import Run

# In the image's layer, where folders cannot be renamed.
_IN_IMAGE = ("data/both/deep", "data/old/deep")
_PRISTINE = "pristine"
# Identical in each life.
_STAYS = frozenset({"lower", "merged", "link", _PRISTINE})
_ROWS = "deep/rows.db"


class _Left(NamedTuple):
    """What the previous container left, with the ids of an older and a newer snapshot."""

    world: World
    older: str
    newer: str


def coming_back(way: Way) -> Outcome:
    """Continue an interrupted restore, restore another snapshot by hand, and stop."""
    left = _left()
    world = left.world
    _reset(world)
    # As left by a killed restore.
    (world.data / ".moltis-supervisor/files").mkdir(parents=True)
    (world.data / "half").write_text("of it")
    (world.folder / "state/moltis-supervisor-backup/swapping").write_text(f"{left.older} app 1\n")
    port = free_port()

    def use(run: Run) -> None:
        run.wait_for("starting")
        wait_until(lambda: _ask(port) or run.find("started", child="moltis"), PATIENCE_S)
        run.wait_for("started", PATIENCE_S * 2, child="moltis")
        wait_for_state(run, "idle", PATIENCE_S)
        call(run.run_dir, "backup", "restore", left.newer, "--yes")
        wait_for_state(run, "idle", PATIENCE_S)

    (world.folder / "password").write_text(PASSWORD)
    (world.folder / "password").chmod(0o600)
    user = {"SUPERVISOR_APP_USER": "nobody"} if os.geteuid() == 0 else {}
    # The supervisor answers on the app's port until the app takes over; the app is probed by a TCP connection.
    more: dict[str, Any] = {"SUPERVISOR_EXPOSE": "public", "SUPERVISOR_PORT": "0", "SUPERVISOR_APP_HEALTH_URL": None}
    more |= {"PORT": str(port), "SUPERVISOR_BACKUP_PASSWORD": f"file:{world.folder}/password"}
    outcome = live(way.run(**world.env(**user, **more)), use)
    return outcome._replace(lost=lost(world, _ROWS))


def _ask(port: int) -> bool:
    """Request a page there, and return whether there was an answer."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
    ):
        connection.request("GET", "/")
        connection.getresponse().read()
        return True
    return False


@cache
def _left() -> _Left:
    world = World()
    for name in _IN_IMAGE:
        (world.folder / "lower" / name).mkdir(parents=True)
    for name in ("upper", "work", "merged"):
        (world.folder / name).mkdir()
    # A link created by root is followed.
    os.symlink(world.folder / "merged", world.folder / "link")
    world.data = world.folder / "link/data"
    _mount(world)
    of_all_lives.callback(_unmount, world)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "deep").mkdir()
        fill(world.data, _ROWS)
        (world.data / "file").write_text("a folder by then")
        (world.data / "both/deep/file").write_text("older")
        older = back_up(run)["id"]
        (world.data / "both/deep/file").write_text("newer")
        newer = back_up(run)["id"]
        run.stop()
    _unmount(world)
    # A later image has an additional folder, and a folder in the place of a file.
    (world.folder / "upper/data/file").unlink()
    for name in ("data/late/deep", "data/file/deep"):
        (world.folder / "lower" / name).mkdir(parents=True)
    left = [path for path in world.folder.iterdir() if path.name not in _STAYS]
    (world.folder / _PRISTINE).mkdir()
    for path in left:
        _copy(path, world.folder / _PRISTINE)
    return _Left(world, older, newer)


def _reset(world: World) -> None:
    """Restore the initial state in place: a snapshot contains the paths of its files."""
    _unmount(world)
    for path in world.folder.iterdir():
        if path.name not in _STAYS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (world.folder / _PRISTINE).iterdir():
        _copy(path, world.folder)
    _mount(world)


def _copy(path: Path, folder: Path) -> None:
    # Includes device files and attributes, by which overlayfs marks deletions.
    subprocess.run(["cp", "-a", str(path), str(folder)], check=True)


def _mount(world: World) -> None:
    """Mount the upper folder over the image's; without permission to mount, use the upper one alone."""
    folder = world.folder
    layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    words = ["mount", "-t", "overlay", "-o", layers, "overlay", str(folder / "merged")]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        (folder / "merged").rmdir()
        os.symlink(folder / "upper", folder / "merged")
        for name in _IN_IMAGE:
            (folder / "upper" / name).mkdir(parents=True, exist_ok=True)


def _unmount(world: World) -> None:
    merged = world.folder / "merged"
    if merged.is_symlink():
        merged.unlink()
        merged.mkdir()
    elif merged.is_mount():
        subprocess.run(["umount", "-l", str(merged)], check=True)
