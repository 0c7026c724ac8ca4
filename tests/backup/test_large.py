"""Large amounts: many files, a large file, many snapshots during writes, and kills at any moment."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.backup.test_cost import child_peak
from tests.backup.test_databases import make, rows_of, written
from tests.backup.world import World, back_up, call_without_waiting, child_of, listed, wait_for_state
from tests.client.calling import call
from tests.support.backups import restic
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# How much memory restic may use: 90 MB with 100 MB of files, and not much more with twenty times as much.
MOST_BYTES = 120_000_000
pytestmark = [pytest.mark.slow_fault, pytest.mark.timeout(900)]


def digest(folder: Path) -> str:
    """Return a digest of the content of a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".moltis-supervisor"):
            found.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def test_twenty_thousand_small_files() -> None:
    """They are restored as they were, in a new container too."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        for number in range(20_000):
            folder = world.data / f"folder{number % 200}"
            folder.mkdir(exist_ok=True)
            (folder / f"file{number}").write_bytes(os.urandom(number % 700))
        before = digest(world.data)
        taken = back_up(run)
        assert taken["files"] >= 20_000
        for number in range(0, 20_000, 7):
            (world.data / f"folder{number % 200}/file{number}").unlink()
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 0
        assert digest(world.data) == before
        run.stop()
    world.lose_files()
    with world.running() as run:
        wait_for_state(run, "idle", 120.0)
        assert digest(world.data) == before


def test_a_file_of_two_gigabytes() -> None:
    """It is restored, and restic uses little more memory for it."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        with (world.data / "large").open("wb") as file:
            for _ in range(2048):
                file.write(os.urandom(1 << 20))
        before = digest(world.data)
        call_without_waiting(run)
        pid, most = wait_until(lambda: child_of(run, "restic"), what="restic"), 0
        while (now := child_peak(pid)) is not None:
            most = max(most, now)
        taken = wait_for_state(run, "idle")["snapshots"][0]
        assert taken["whole"]
        assert 0 < most < MOST_BYTES
        (world.data / "large").unlink()
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 0
        assert digest(world.data) == before


def test_a_hundred_snapshots_of_a_database_that_is_written_to() -> None:
    """Each copy is whole, and contains every row that was acknowledged before it was started."""
    world = World()
    world.data.mkdir()
    make(world.data / "moltis.db", "wal")
    make(world.data / "old.db", "delete")
    with world.running() as run:
        wait_for_state(run, "idle")
        least = []
        with written(world.data / "moltis.db", 0.005) as one, written(world.data / "old.db", 0.02) as other:
            for _ in range(100):
                least.append((100 + len(one.took_s), 100 + len(other.took_s)))
                assert back_up(run)["whole"]
        snapshots = [each for each in listed(run)["snapshots"] if each["reason"] == "asked"][::-1]
        assert len(snapshots) == 100
        for turn in (0, 33, 66, 99):
            target = world.folder / f"restored{turn}"
            restic(world.repository, "restore", snapshots[turn]["id"], "--target", str(target))
            copies = next(target.rglob("databases"))
            found = [rows_of(next(copies.rglob(name))) for name in ("moltis.db", "old.db")]
            assert found[0] >= least[turn][0]
            assert found[1] >= least[turn][1]
        assert sorted(one.took_s)[int(len(one.took_s) * 0.99)] < 0.1


def test_a_supervisor_killed_at_any_moment_of_its_backups() -> None:
    """After each of thirty kills the next start has its files, or restores them, and the database is whole."""
    world = World()
    world.data.mkdir()
    make(world.data / "moltis.db", "wal")
    chance = random.Random(1)  # noqa: S311 - any moments will do
    rows = 100
    for turn in range(30):
        with world.running() as run:
            # A new container waits a minute for the killed one.
            wait_for_state(run, "idle", 120.0)
            assert rows_of(world.data / "moltis.db") >= rows
            with closing(sqlite3.connect(world.data / "moltis.db")) as database:
                database.execute("INSERT INTO rows (text) VALUES (?)", (os.urandom(500),))
                database.commit()
            call_without_waiting(run)
            wait_until(lambda: child_of(run, "restic") or run.find("snapshot taken"), what="restic")
            # The test varies this moment.
            threading.Event().wait(chance.random() * 0.8)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            kept = bool(run.find("snapshot taken"))
        rows += 1
        if turn % 10 == 9 and kept:
            world.lose_files()
    restic(world.repository, "unlock")
    restic(world.repository, "check")
