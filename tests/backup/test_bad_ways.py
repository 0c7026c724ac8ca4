"""Servers that are slow, silent or cut off answers, locks of others, and full disks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from supervisor.backup.words import SILENT, explain
from tests.backup.test_databases import make
from tests.backup.world import (
    World,
    back_up,
    call_without_waiting,
    is_root,
    listed,
    lost,
    small_disk,
    told,
    wait_for_state,
)
from tests.client.calling import call
from tests.support.backups import bucket, program, restic, restic_environment
from tests.support.flaky import Flaky, flaky
from tests.support.processes import below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.running import Run


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Flaky]:
    """A proxy in front of a bucket."""
    with bucket(tmp_path / "s3") as server, flaky(server.port) as running:
        yield running


def repository_at(way: Flaky) -> str:
    """Return the repository's location through the proxy."""
    return f"s3:http://127.0.0.1:{way.port}/bucket/snapshots"


def is_opened(run: Run, path: str) -> bool:
    """Return whether a process below the supervisor has a file open. Raises OSError if one has exited meanwhile."""
    fds = [f"/proc/{pid}/fd/{fd}" for pid in below(run.pid) for fd in os.listdir(f"/proc/{pid}/fd")]
    return path in [os.readlink(fd) for fd in fds]


def test_a_silent_server_is_told_and_the_next_snapshot_is_right(way: Flaky) -> None:
    """Neither restic nor the supervisor waits silently for minutes: it is reported after seconds, and retried."""
    world = World(repository_at(way))
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        way.mode = "silent"
        call_without_waiting(run)
        wait_until(lambda: "not answer" in (listed(run)["why"] or ""), 10.0, "words")
        way.mode = "pass"
        run.wait_for("snapshot taken", 90.0)
        wait_until(lambda: listed(run)["why"] is None, what="no trouble")


def test_a_silent_server_holds_a_start_and_is_told(way: Flaky) -> None:
    """restic reports nothing for minutes; once the server answers, the files are restored without intervention."""
    world = lost(repository_at(way))
    way.mode = "silent"
    with world.running() as run:
        told(run, SILENT.why)
        assert run.find("started") is None
        way.mode = "pass"
        run.wait_for("started", 90.0)
        assert (world.data / "note").read_text() == "kept"


def test_half_an_answer_is_no_answer(way: Flaky) -> None:
    """It is retried, reported, and never taken for an empty repository."""
    world = lost(repository_at(way))
    way.mode = "cut"
    with world.running() as run:
        run.wait_for("restic says", 15.0)
        assert run.find("started") is None
        assert run.find("backup repository made") is None
        way.mode = "pass"
        run.wait_for("started", 90.0)
        assert (world.data / "note").read_text() == "kept"


def test_half_an_answer_in_the_middle_of_a_life_is_told_and_the_next_snapshot_is_right(way: Flaky) -> None:
    """Nothing in the repository is damaged by it."""
    world = World(repository_at(way))
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        before = back_up(run)
        way.mode = "cut"
        call_without_waiting(run)
        told(run, "cuts off its answers")
        way.mode = "pass"
        wait_until(lambda: not listed(run)["why"], 90.0, "no trouble")
        assert back_up(run)["whole"]
        assert before["id"] in [each["id"] for each in listed(run)["snapshots"]]


def test_a_slow_server_is_just_slow(way: Flaky) -> None:
    """Slow transfers are not cancelled."""
    world = World(repository_at(way))
    way.mode = "slow"
    with world.running() as run:
        wait_for_state(run, "idle", 60.0)
        (world.data / "much").write_bytes(os.urandom(5_000_000))
        assert back_up(run)["whole"]


def test_a_lock_that_a_killed_restic_left_is_taken_away() -> None:
    """An exclusive lock of a process that is gone does not block others for long."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        back_up(run)
        env = restic_environment(world.repository)
        locks = f"{world.repository}/locks"
        with subprocess.Popen([program("restic"), "check", "--read-data"], env=env, stdout=subprocess.DEVNULL) as other:
            wait_until(lambda: os.listdir(locks), what="its lock")
            other.send_signal(signal.SIGKILL)
        assert os.listdir(locks)
        (world.data / "note").write_text("2")
        assert back_up(run)["whole"]
        assert not listed(run)["why"]


@pytest.mark.skipif(not is_root(), reason="takes root, to mount a small disk")
def test_a_snapshot_that_would_fill_the_disk_is_not_taken() -> None:
    """This is reported, and the app keeps the remaining space; with room again the next one succeeds."""
    world = World()
    with small_disk(world.folder / "state", "200m"), world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        ballast = world.folder / "state/ballast"
        ballast.write_bytes(b"x" * 150_000_000)
        assert call(run.run_dir, "backup").code == 1
        run.wait_for("backup failed", why="the disk is nearly full, and a snapshot would fill it")
        ballast.unlink()
        assert back_up(run)["whole"]


@pytest.mark.skipif(not is_root(), reason="takes root, to mount a small disk")
def test_a_restore_for_which_the_disk_is_too_small_changes_nothing() -> None:
    """The old files and the new ones do not fit next to each other: this is reported, and the old ones stay."""
    world = World()
    with small_disk(world.data, "40m"), world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "much").write_bytes(os.urandom(25_000_000))
        taken = back_up(run)
        (world.data / "much").write_bytes(os.urandom(25_000_000))
        before = (world.data / "much").read_bytes()
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 1
        run.wait_for("restore failed", why="the disk is full")
        assert (world.data / "much").read_bytes() == before
        assert sorted(os.listdir(world.data)) == [".moltis-supervisor.json", "much"]


@pytest.mark.skipif(not is_root(), reason="takes root, for a file that nobody can read")
def test_a_file_that_cannot_be_read_makes_it_partial() -> None:
    """restic reports it by its exit code and in its messages; the rest of the snapshot is there."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "good").write_text("1")
        broken = world.data / "broken"
        broken.touch()
        mounted = subprocess.run(["mount", "--bind", "/proc/self/mem", str(broken)], check=False)
        if mounted.returncode:
            pytest.skip("nothing may be mounted here")
        try:
            call(run.run_dir, "backup")
            said = run.wait_for("snapshot taken, but not whole")["why"]
            call(run.run_dir, "backup")
            run.wait_count(2, "snapshot taken, but not whole")
        finally:
            subprocess.run(["umount", "-l", str(broken)], check=True)
        assert str(broken) in said
        assert not listed(run)["snapshots"][0]["whole"]
        marked = [each for each in restic(world.repository, "snapshots") if "partial" in each["tags"]]
        # The second one was marked from the beginning: a kill could come before a later mark.
        assert ["original" in each for each in marked] == [True, False]
        assert back_up(run)["whole"]


def test_a_folder_that_vanishes_while_its_databases_are_copied_makes_it_partial() -> None:
    """It existed at the beginning, and cannot be opened any more when restic is started."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        make(world.data / "held.db", "delete")
        with contextlib.closing(sqlite3.connect(world.data / "held.db", isolation_level=None)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            call_without_waiting(run)
            wait_until(partial(is_opened, run, str(world.data / "held.db")), what="the helper")
            world.data.rename(world.folder / "gone")
            holder.execute("COMMIT")
        assert "has vanished" in run.wait_for("snapshot taken, but not whole")["why"]
        shutil.move(world.folder / "gone", world.data)
        assert back_up(run)["whole"]


def test_a_folder_that_vanishes_meanwhile_makes_it_partial(way: Flaky) -> None:
    """A folder that existed at the beginning is reported missing, however long the server's first answer takes."""
    world = World(repository_at(way))
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        way.mode = "silent"
        call_without_waiting(run)
        # After the look at the folders.
        wait_until(way.is_asked.is_set, what="a request")
        world.data.rename(world.folder / "gone")
        way.mode = "pass"
        assert "has vanished" in run.wait_for("snapshot taken, but not whole")["why"]
        shutil.move(world.folder / "gone", world.data)
        assert back_up(run)["whole"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Stat: The specified bucket does not exist.", "the bucket does not exist"),
        ("client.PutObject: Access Denied.", "the bucket refuses the access key"),
        ("The difference between the request time and the server's time is too large.", "clock"),
        (
            "The request signature we calculated does not match the signature you provided.",
            "secret access key is wrong",
        ),
        ("The authorization header is malformed; AuthorizationHeaderMalformed", "another region"),
        ("write /x: no space left on device", "the disk is full"),
        ("dial tcp: lookup nyc9.example.com: no such host", "host is not known"),
        ("Cannot connect to host nyc9.example.com:443 ssl:default [Name or service not known]", "host is not known"),
        ("Cannot connect to host x:443 [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "not trusted"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "not trusted"),
        ("net/http: TLS handshake timeout", "does not answer"),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "does not answer"),
        ("dial tcp 192.0.2.1:443: connect: no route to host", "no route to the repository's server"),
        ("503 Service Unavailable", "is not available"),
        ("Please reduce your request rate.", "limits the rate of requests"),
        ("SlowDown", "limits the rate of requests"),
        ("We encountered an internal error. Please try again.", "internal error"),
        ("write /x: disk quota exceeded", "the disk is full"),
        ("read /x: input/output error", "a disk fails"),
        ("mkdir /x: read-only file system", "cannot be written"),
    ],
)
def test_words_for_what_servers_say(said: str, why: str) -> None:
    """These errors cannot be caused here: the messages of other servers, of DNS and of TLS."""
    assert why in explain(1, said).why


@pytest.mark.parametrize("said", ["load <data/4030d403c1>: unexpected size", "open /data/x509.pem: file exists"])
def test_names_and_numbers_are_no_words_of_a_server(said: str) -> None:
    """One in seventy ids of data contains 403."""
    assert said in explain(1, said).why


def test_a_second_restic_from_elsewhere_is_no_trouble() -> None:
    """Others may read and write in the repository; their snapshots are not listed, and are left alone."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        restic(world.repository, "backup", str(world.folder / "state"), "--tag", "another")
        ours = back_up(run)
        assert [each["id"] for each in listed(run)["snapshots"]] == [ours["id"]]
        assert len(restic(world.repository, "snapshots")) == 2
