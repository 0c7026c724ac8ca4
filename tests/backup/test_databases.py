"""Databases are copied by SQLite itself, while they are written to, and nobody waits for long."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.backup import copies as copies_module
from supervisor.backup.places import WORKSHOP
from tests.backup.world import World, back_up, health_of, is_root, listed, small_disk, wait_for_state
from tests.client.calling import call
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def copies(target: Path, *folders: Path) -> dict[str, dict[str, Any]]:
    """Run the helper as the supervisor does, and return its report on each database, by path."""
    words = [sys.executable, "-I", "-m", "supervisor.backup.copies", str(target), *map(str, folders)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    *lines, done = map(json.loads, ended.stdout.splitlines())
    assert done == {"done": True}
    return {line["path"]: line for line in lines}


def make(path: Path, mode: str, rows: int = 100) -> None:
    """Make a database in a journal mode."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text BLOB)")
        database.executemany("INSERT INTO rows VALUES (?, ?)", ((number, os.urandom(500)) for number in range(rows)))
        database.commit()


def rows_of(path: str | Path) -> int:
    """Return how many rows a database has, and check its integrity."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        count: int = database.execute("SELECT COUNT(*) FROM rows").fetchone()[0]
        return count


class Writer(threading.Thread):
    """Writes one row after another, waits at most ``patience_s`` for a lock, and records what was refused."""

    def __init__(self, path: Path, pause_s: float, patience_s: float) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._pause_s = pause_s
        self._patience_s = patience_s
        self.refused: list[str] = []
        self._over = threading.Event()
        self.took_s: list[float] = []

    def run(self) -> None:
        """Write until stopped."""
        with contextlib.closing(sqlite3.connect(self._path, timeout=self._patience_s)) as database:
            while not self._over.is_set():
                begin_s = time.monotonic()
                try:
                    database.execute("INSERT INTO rows (text) VALUES (?)", (os.urandom(500),))
                    database.commit()
                    self.took_s.append(time.monotonic() - begin_s)
                except sqlite3.OperationalError as error:
                    self.refused.append(str(error))
                self._over.wait(self._pause_s)

    @property
    def written(self) -> int:
        """Return how many rows have been written."""
        return len(self.took_s)

    def stop(self) -> None:
        """Stop writing, and wait for the thread to end."""
        self._over.set()
        self.join()


@contextlib.contextmanager
def written(path: Path, pause_s: float = 0.0, patience_s: float = 30.0) -> Iterator[Writer]:
    """Write to a database for the length of a block."""
    writer = Writer(path, pause_s, patience_s)
    writer.start()
    wait_until(lambda: writer.written > 5, what="the writer")
    try:
        yield writer
    finally:
        writer.stop()


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_a_copy_of_a_database_that_is_written_to_is_whole(tmp_path: Path, mode: str) -> None:
    """This holds in every journal mode, with a writer that never pauses; what was written before is in the copy."""
    (tmp_path / "app").mkdir()
    path = tmp_path / "app/a ?%#[x].db"
    make(path, mode)
    with written(path) as writer:
        for _ in range(2):
            before = 100 + writer.written
            said = copies(tmp_path / "copies", tmp_path / "app")[str(path)]
            assert said["state"] == "copied", said
            assert rows_of(f"{tmp_path}/copies{path}") >= before


def test_in_wal_mode_nobody_waits(tmp_path: Path) -> None:
    """A copy of a large database delays no writer: one that never waits for a lock is never refused."""
    (tmp_path / "app").mkdir()
    path = tmp_path / "app/large.db"
    make(path, "wal", rows=60_000)
    with written(path, 0.001, patience_s=0.0) as writer:
        first = writer.written
        said = copies(tmp_path / "copies", tmp_path / "app")[str(path)]
        wait_until(lambda: writer.written > first, what="a row")
    assert said["waited_s"] == 0
    assert not writer.refused


def test_one_pass_after_three_restarts_is_told(tmp_path: Path) -> None:
    """With a rollback journal and a writer that never pauses, steps start again until it is copied in one pass."""
    (tmp_path / "app").mkdir()
    path = tmp_path / "app/busy.db"
    make(path, "delete", rows=30_000)
    with written(path):
        said = copies(tmp_path / "copies", tmp_path / "app")[str(path)]
    assert said["state"] == "copied"
    assert said["waited_s"] > 0
    make(tmp_path / "app/quiet.db", "delete")
    assert copies(tmp_path / "copies", tmp_path / "app")[f"{tmp_path}/app/quiet.db"]["waited_s"] == 0


def test_what_has_not_changed_is_not_copied_again(tmp_path: Path) -> None:
    """One that changed within the clock's resolution is copied again; a database that is gone leaves no copy."""
    (tmp_path / "app").mkdir()
    path = tmp_path / "app/a.db"
    make(path, "wal")
    # As if it had just changed, however long the helper takes to start.
    os.utime(path, (time.time() + 1000, time.time() + 1000))
    assert copies(tmp_path / "copies", tmp_path / "app")[str(path)]["state"] == "copied"
    assert copies(tmp_path / "copies", tmp_path / "app")[str(path)]["state"] == "copied"
    os.utime(path, (1_000_000, 1_000_000))
    states = [copies(tmp_path / "copies", tmp_path / "app")[str(path)]["state"] for _ in range(2)]
    assert states == ["copied", "unchanged"]
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO rows (text) VALUES ('new')")
        database.commit()
        assert copies(tmp_path / "copies", tmp_path / "app")[str(path)]["state"] == "copied"
    assert rows_of(f"{tmp_path}/copies{path}") == 101
    path.unlink()
    assert copies(tmp_path / "copies", tmp_path / "app") == {}
    assert not os.path.exists(f"{tmp_path}/copies{path}")


@pytest.mark.parametrize(("ago_s", "settled"), [(0, False), (1, False), (3, True), (-1000, False)])
def test_a_database_that_has_just_changed_may_change_again_unseen(
    monkeypatch: pytest.MonkeyPatch, ago_s: int, *, settled: bool
) -> None:
    """A file's time is that of a clock tick, and coarser on some file systems: two changes may have the same."""
    now_ns = 1_800_000_000 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    assert copies_module._is_settled([[1, 4096, 10**9], [2, 4096, now_ns - ago_s * 10**9]]) is settled


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """Links are not followed, pipes are not opened; a damaged database is reported, and the others are copied."""
    app = tmp_path / "app"
    app.mkdir()
    make(app / "good.db", "wal")
    make(tmp_path / "outside.db", "wal")
    os.symlink(tmp_path / "outside.db", app / "link.db")
    os.mkfifo(app / "pipe.db")
    (app / "text.db").write_text("no database")
    (app / "damaged.db").write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    said = copies(tmp_path / "copies", app)
    assert {path.rpartition("/")[2]: line["state"] for path, line in said.items()} == {
        "good.db": "copied",
        "damaged.db": "failed",
    }


@pytest.mark.parametrize("now", ["text", "folder", "damaged"])
def test_a_copy_of_what_is_no_database_any_more_goes(tmp_path: Path, now: str) -> None:
    """A restore would replace what is there now by it; and if that is a folder, no copy could be made in it."""
    app = tmp_path / "app"
    app.mkdir()
    path = app / "a.db"
    make(path, "wal")
    copies(tmp_path / "copies", app)
    path.unlink()
    if now == "text":
        path.write_text("no database")
    elif now == "damaged":
        path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    else:
        path.mkdir()
        make(path / "b.db", "wal")
        copies(tmp_path / "copies", app)
        (said,) = copies(tmp_path / "copies", app).values()
        assert said["state"] == "copied"
    copies(tmp_path / "copies", app)
    assert not os.path.isfile(f"{tmp_path}/copies{path}")


def test_what_has_taken_a_database_s_place_comes_back() -> None:
    """It is restored instead of the database, whose copy is in earlier snapshots."""
    world = World()
    world.data.mkdir()
    for name in ("a.db", "b.db"):
        make(world.data / name, "delete")
    with world.running() as run:
        wait_for_state(run, "idle")
        back_up(run)
        (world.data / "a.db").write_text("new")
        taken = back_up(run)
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 0
        assert (world.data / "a.db").read_text() == "new"
        assert rows_of(world.data / "b.db") == 100


def test_databases_come_back_whole_without_their_journals() -> None:
    """A snapshot taken during writes contains no live file, and a restore puts the copy in its place."""
    world = World()
    world.data.mkdir()
    path = world.data / "moltis.db"
    make(path, "wal")
    # JSON cannot represent this name as it is.
    odd = world.data / os.fsdecode(b"caf\xe9 [1]\n.db")
    make(odd, "wal")
    with world.running() as run:
        wait_for_state(run, "idle")
        with written(path, 0.001) as writer:
            before = 100 + writer.written
            taken = back_up(run)
        assert taken["whole"]
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 0
        assert sorted(name for name in os.listdir(world.data) if ".db" in name) == [odd.name, "moltis.db"]
        assert rows_of(path) >= before
        assert rows_of(odd) == 100
        # The snapshot before the restore contains nothing of what was being restored.
        assert not list((world.folder / "state/moltis-supervisor-backup/snapshot").rglob(WORKSHOP))
        assert copies_module.WORKSHOP == WORKSHOP


def test_a_damaged_database_makes_a_snapshot_partial_and_is_in_it_as_it_lies() -> None:
    """A live file is better than none; and the damage is reported."""
    world = World()
    world.data.mkdir()
    with world.running() as run:
        wait_for_state(run, "idle")
        damaged = b"SQLite format 3\0" + os.urandom(5000)
        (world.data / "damaged.db").write_bytes(damaged)
        taken = back_up(run)
        assert not taken["whole"]
        run.wait_for("snapshot taken, but not whole")
        (world.data / "damaged.db").unlink()
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 0
        assert (world.data / "damaged.db").read_bytes() == damaged
        (world.data / "note").write_text("newer")
        assert not back_up(run)["whole"]
        assert run.stop() == 0
    world.lose_files()
    with world.running() as run:
        wait_for_state(run, "idle")
        # The newest snapshot counts, although a file in it is damaged.
        assert (world.data / "note").read_text() == "newer"


@pytest.mark.skipif(not is_root(), reason="takes root, to mount a small disk")
def test_a_database_for_whose_copy_there_is_no_room_fails_the_snapshot() -> None:
    """A live file instead might be torn; nothing is left of the copy, and with room the next snapshot succeeds."""
    world = World()
    with small_disk(world.folder / "state", "100m"), world.running() as run:
        wait_for_state(run, "idle")
        make(world.data / "moltis.db", "delete")
        before = back_up(run)
        make(world.data / "large.db", "delete", 100_000)
        assert call(run.run_dir, "backup").code == 1
        assert "there is no room to copy a database" in wait_until(lambda: listed(run)["why"], what="the reason")
        assert health_of(run)["status"] == "warn"
        assert [each["id"] for each in listed(run)["snapshots"]] == [before["id"]]
        assert not list((world.folder / "state").rglob("large.db*"))
        (world.data / "large.db").unlink()
        assert back_up(run)["whole"]
        assert not listed(run)["why"]


@pytest.mark.skipif(not is_root(), reason="takes root, for an app's user")
def test_databases_are_opened_by_the_app_s_user_alone() -> None:
    """Whatever SQLite does with a file that the app has written, it does with the app's rights."""
    world = World()
    world.data.mkdir()
    nobody = pwd.getpwnam("nobody")
    make(world.data / "moltis.db", "wal")
    os.chown(world.data, nobody.pw_uid, nobody.pw_gid)
    os.chown(world.data / "moltis.db", nobody.pw_uid, nobody.pw_gid)
    with world.running(SUPERVISOR_APP_USER="nobody") as run:
        wait_for_state(run, "idle")
        assert back_up(run)["whole"]
        (copy,) = (world.folder / "state/moltis-supervisor-backup/snapshot/databases").rglob("moltis.db")
        assert copy.stat().st_uid == nobody.pw_uid
