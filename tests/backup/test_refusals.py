"""Refusals of real servers and real restics: reported within seconds, without loss, and the next snapshot succeeds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.backup.world import (
    APP,
    World,
    back_up,
    call_without_waiting,
    holding,
    is_root,
    listed,
    lost,
    small_disk,
    told,
    wait_for_state,
)
from tests.client.calling import call
from tests.support.backups import bucket, program, restic, restic_environment

if TYPE_CHECKING:
    from tests.support.backups import Bucket

RESTORE_PAGE = Path(__file__).parents[2] / "docs/how-to/restore-elsewhere.md"


def test_a_bucket_of_any_region(tmp_path: Path) -> None:
    """The host need not contain it: the server reports it, and object and snapshots are written."""
    with bucket(tmp_path / "s3", "--region", "eu-central-1") as server:
        world = World(server.repository)
        with world.running() as run:
            wait_for_state(run, "idle")
            assert back_up(run)["whole"]
            assert run.stop() == 0
            run.wait_for("handed over", whole=True)


def test_a_key_without_rights_is_told(tmp_path: Path) -> None:
    """403 is not taken for a wrong secret or an empty bucket: nothing is started, and no repository is made."""
    (tmp_path / "users").mkdir()
    with bucket(tmp_path / "s3", "--iam-dir", str(tmp_path / "users")) as server:
        server.add_user("a-stranger", "a secret of the stranger")
        keys = {
            "SUPERVISOR_BACKUP_ACCESS_KEY_ID": "a-stranger",
            "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY": "a secret of the stranger",
        }
        with World(server.repository).running(**keys) as run:
            told(run, "the bucket refuses the access key")
            assert run.find("started") is None
            assert run.find("backup repository made") is None


def test_a_key_that_cannot_delete_does_with_the_page_s_policy(tmp_path: Path) -> None:
    """With it, snapshots, a hand-over and a new container work, and what is in the bucket stays."""
    policy = json.loads(RESTORE_PAGE.read_text().split("```json\n")[1].split("```")[0].replace("BUCKET", "bucket"))
    for statement in policy["Statement"]:
        statement["Principal"] = "limited"
    (tmp_path / "users").mkdir()
    with bucket(tmp_path / "s3", "--iam-dir", str(tmp_path / "users")) as server:
        server.add_user("limited", "a secret of the limited one")
        server.set_policy(policy)
        world = World(server.repository.replace("/snapshots", "/moltis"))
        keys = {
            "SUPERVISOR_BACKUP_ACCESS_KEY_ID": "limited",
            "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY": "a secret of the limited one",
        }
        with world.running(**keys) as run:
            wait_for_state(run, "idle")
            (world.data / "note").write_text("kept")
            taken = back_up(run)
            assert taken["whole"]
            assert not listed(run)["why"]
            assert run.stop() == 0
            run.wait_for("handed over", whole=True)
        assert not any(path.is_file() for path in (tmp_path / "s3/bucket/moltis/locks").rglob("*"))
        limited = {**restic_environment(world.repository), "AWS_ACCESS_KEY_ID": "limited"}
        limited["AWS_SECRET_ACCESS_KEY"] = keys["SUPERVISOR_BACKUP_SECRET_ACCESS_KEY"]
        subprocess.run([program("restic"), "--no-cache", "forget", taken["id"]], env=limited, check=False)
        world.lose_files()
        with world.running(**keys) as run:
            wait_for_state(run, "idle")
            assert (world.data / "note").read_text() == "kept"
            assert taken["id"] in [each["id"] for each in listed(run)["snapshots"]]


def test_a_bucket_that_may_only_be_read_is_told_and_the_next_snapshot_is_right(server: Bucket) -> None:
    """If the key loses its right to write, the app keeps running; with the right back, snapshots are taken again."""
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        back_up(run)
        server.stop()
        server.options = ("--readonly",)
        server.start()
        (world.data / "note").write_text("2")
        call_without_waiting(run)
        told(run, "the bucket refuses the access key")
        assert run.find("exited") is None
        server.stop()
        server.options = ()
        server.start()
        assert back_up(run)["whole"]
        assert not listed(run)["why"]


def test_a_bucket_that_is_gone_in_the_middle_of_a_life(server: Bucket) -> None:
    """It is deleted and brought back: this is reported, it is never made again, and everything in it still counts."""
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        before = back_up(run)
        (server.folder / "bucket").rename(server.folder.with_name("gone"))
        call_without_waiting(run)
        told(run, "the bucket does not exist")
        server.folder.with_name("gone").rename(server.folder / "bucket")
        assert back_up(run)["whole"]
        assert before["id"] in [each["id"] for each in listed(run)["snapshots"]]


def test_an_exclusive_lock_of_another_restic_that_lives_is_told_and_left_alone() -> None:
    """Its holder is at work: a snapshot waits for it, even if it is frozen; a start reads what it needs at once."""
    world = lost("")
    env = restic_environment(world.repository)
    locks = f"{world.repository}/locks"
    with holding(locks, [program("restic"), "check", "--read-data"], env), world.running() as run:
        run.wait_for("started")
        assert (world.data / "note").read_text() == "kept"
        call_without_waiting(run)
        told(run, "the repository is locked by another restic")
        assert os.listdir(locks)
    with world.running() as run:
        wait_for_state(run, "idle")
        assert back_up(run)["whole"]
        assert not listed(run)["why"]


@pytest.mark.skipif(not is_root(), reason="takes root, to mount a small disk")
def test_a_repository_whose_disk_is_full_is_told_and_the_next_snapshot_is_right() -> None:
    """Half a snapshot does not count: with room again the next one is whole, and earlier ones are not damaged."""
    world = World()
    with small_disk(world.folder / "disk", "20m"):
        world.repository = str(world.folder / "disk/repository")
        with world.running() as run:
            wait_for_state(run, "idle")
            (world.data / "note").write_text("1")
            before = back_up(run)
            (world.data / "much").write_bytes(os.urandom(60_000_000))
            call_without_waiting(run)
            told(run, "the disk is full")
            (world.data / "much").unlink()
            wait_for_state(run, "idle")
            subprocess.run(["mount", "-o", "remount,size=200m", str(world.folder / "disk")], check=True)
            assert back_up(run)["whole"]
            assert before["id"] in [each["id"] for each in listed(run)["snapshots"]]
            restic(world.repository, "check")
            run.stop()


@pytest.mark.slow
def test_a_password_is_changed_as_the_page_says(tmp_path: Path) -> None:
    """The holder's object was sealed with the old one: the start is held, and continues once it is deleted."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        back_up(run)
        run.stop()
    (tmp_path / "new").write_text("the new password")
    restic(world.repository, "key", "add", "--new-password-file", str(tmp_path / "new"))
    world.lose_files()
    changed = {"SUPERVISOR_BACKUP_PASSWORD": f"file:{tmp_path}/new"}
    with world.hastened({"silence_s": 5.0, "renew_s": 1.0}, *APP, **changed) as run:
        held = wait_for_state(run, "held: choose")
        assert "it was not written with this password" in held["why"]
        assert "delete the holder's object" in held["what_to_do"]
        assert run.find("started") is None
        Path(f"{world.repository}.holder").unlink()
        run.wait_for("started")
        assert (world.data / "note").read_text() == "kept"
        assert back_up(run)["whole"]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_repository_that_was_in_use_and_is_gone_is_not_made_anew(comes_back: bool) -> None:  # noqa: FBT001 - a case
    """A volume may not be mounted yet: the start waits for it, or for the owner's choice."""
    world = lost(str(World().folder / "repository"))
    away = Path(f"{world.repository}.away")
    Path(world.repository).rename(away)
    with world.hastened({"again_s": 0.5}, *APP) as run:
        held = wait_for_state(run, "held: choose")
        assert "the repository is gone" in held["why"]
        assert call(run.run_dir, "backup", "restore", "latest", "--yes").code
        assert not Path(world.repository).exists()
        if comes_back:
            away.rename(world.repository)
        else:
            assert call(run.run_dir, "backup").code == 0
        run.wait_for("started")
        assert (world.data / "note").exists() is comes_back
        assert back_up(run)["generation"] > 1


def test_a_snapshot_that_restic_cannot_read_is_not_passed_over_for_an_older_one() -> None:
    """restic omits it from its list, and exits with 0; a bucket's answer that is cut off looks the same."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        for text in ("older", "newer"):
            (world.data / "note").write_text(text)
            taken = back_up(run)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    world.lose_files()
    newest = Path(world.repository) / "snapshots" / taken["id"]
    newest.chmod(0o600)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:40])
    with world.hastened({"silence_s": 2.0, "again_s": 0.5}, *APP) as run:
        assert taken["id"][:8] in wait_for_state(run, "held: choose")["why"]
        newest.write_bytes(whole)
        run.wait_for("started")
        assert (world.data / "note").read_text() == "newer"


def test_a_second_supervisor_with_the_same_folder_for_its_snapshots_does_not_start() -> None:
    """What it puts there would get into the snapshots of the first."""
    world, other = World(), World()
    with world.running() as run:
        wait_for_state(run, "idle")
        with other.running(TS_STATE_DIR=str(world.state)) as second:
            assert second.wait() == os.EX_CONFIG
            assert "another supervisor prepares its snapshots there" in second.stderr


def test_a_repository_without_the_snapshot_that_was_handed_over_is_not_taken_for_a_new_one() -> None:
    """restic lists a folder that is away as empty: no start begins without files while a snapshot may exist."""
    world = lost(str(World().folder / "repository"))
    snapshots, away = Path(world.repository) / "snapshots", Path(f"{world.repository}.away")
    snapshots.rename(away)
    with world.hastened({"again_s": 0.5}, *APP) as run:
        assert "lacks its last snapshot" in wait_for_state(run, "held: choose")["why"]
        away.rename(snapshots)
        run.wait_for("started")
        assert (world.data / "note").read_text() == "kept"


def test_snapshots_of_a_clock_that_was_a_year_fast_do_not_count_as_newer() -> None:
    """Only their times are newer; generation and number count."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("old")
        old = back_up(run)["id"]
        (world.data / "note").write_text("new")
        back_up(run)
        run.stop()
    restic(world.repository, "rewrite", "--forget", "--new-time", "2038-01-01 00:00:00", old)
    world.lose_files()
    with world.running() as run:
        wait_for_state(run, "idle")
        assert (world.data / "note").read_text() == "new"
        assert listed(run)["snapshots"][-1]["at"].startswith("2038")
        assert call(run.run_dir, "backup").code == 0


@pytest.mark.slow_fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shift_s", [3600, -365 * 24 * 3600])
def test_a_clock_that_is_off_is_told_and_with_the_right_time_it_goes_on(server: Bucket, shift_s: int) -> None:
    """If it is off by an hour or a year, signatures are refused, in a run and at a start; nothing is made again."""

    def shift(seconds: int) -> None:
        server.stop()
        server.clock_shift_s = seconds
        server.start()

    words = "the bucket's clock and this machine's differ too much"
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        before = back_up(run)
        shift(shift_s)
        call_without_waiting(run)
        told(run, words)
        assert run.find("exited") is None
        shift(0)
        assert back_up(run)["whole"]
        assert before["id"] in [each["id"] for each in listed(run)["snapshots"]]
        run.stop()
    world.lose_files()
    shift(shift_s)
    with world.running() as run:
        told(run, words)
        assert run.find("started") is None
        shift(0)
        run.wait_for("started", 90.0)
        assert (world.data / "note").read_text() == "kept"


@pytest.mark.slow_fault
@pytest.mark.timeout(900)
def test_a_restic_that_is_too_old_is_refused() -> None:
    """That of Debian 12 does not report by its exit code what is wrong; the message names the required version."""
    world = World()
    old = Path(program("restic", "0.14.0")).parent
    with world.running(PATH=f"{old}:{os.environ['PATH']}") as run:
        told(run, "restic 0.14.0 is too old")
        assert listed(run)["what_to_do"] == "install 0.17 or newer in the image"
        assert run.find("started") is None
        assert not Path(world.repository).exists()
