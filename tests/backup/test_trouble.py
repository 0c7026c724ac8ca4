"""Trouble with a repository: it is reported within seconds, nothing is lost, and the next snapshot succeeds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.backup.test_placing import has_landlock
from tests.backup.world import (
    APP,
    World,
    back_up,
    call_without_waiting,
    child_of,
    health_of,
    listed,
    lost,
    told,
    wait_for_state,
)
from tests.client.calling import call
from tests.support.backups import KEY, KEY_ID, PASSWORD, Bucket, program, restic
from tests.support.processes import alive
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.process.running import Run


def test_a_bucket_takes_snapshots_and_comes_back_after_an_outage(server: Bucket) -> None:
    """Over S3, an unreachable server is reported, the app keeps running, and the next snapshot succeeds."""
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        back_up(run)
        server.stop()
        call_without_waiting(run)
        told(run, "connection refused")
        assert run.find("exited") is None
        server.start()
        wait_for_state(run, "idle", 90.0)
        (world.data / "note").write_text("2")
        assert back_up(run)["whole"]
        assert health_of(run)["status"] == "pass"


def test_an_unreachable_repository_is_not_taken_for_an_empty_one(server: Bucket) -> None:
    """The start is held and says why; when the server is back, it restores without intervention."""
    world = lost(server.repository)
    server.stop()
    with world.running() as run:
        told(run, "connection refused")
        assert run.find("started") is None
        server.start()
        run.wait_for("started", 90.0)
        assert (world.data / "note").read_text() == "kept"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"SUPERVISOR_BACKUP_PASSWORD": "another password"}, "the password is not the repository's"),
        ({"SUPERVISOR_BACKUP_SECRET_ACCESS_KEY": "another secret"}, "the secret access key is wrong"),
        ({"SUPERVISOR_BACKUP_ACCESS_KEY_ID": "another-id"}, "does not know the access key"),
    ],
)
def test_wrong_credentials_hold_a_start(server: Bucket, setting: dict[str, str], words: str) -> None:
    """Each is reported for what it is; nothing is started, and no new repository is made."""
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        run.stop()
    world.lose_files()
    with world.running(**setting) as run:
        told(run, words)
        assert run.find("started") is None
        assert run.find("backup repository made") is None


def test_a_bucket_that_is_not_there_is_told(server: Bucket) -> None:
    """restic itself would retry for a quarter of an hour."""
    world = World(server.repository.replace("/bucket/", "/no-such-bucket/"))
    with world.running() as run:
        told(run, "the bucket does not exist")
        assert run.find("started") is None


def test_what_is_held_can_be_started_without_a_backup_after_asking(server: Bucket) -> None:
    """This takes the owner's order; such a run takes no snapshots, and says so."""
    server.stop()
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "held")
        refused = call(run.run_dir, "start", "moltis")
        assert refused.code == 1
        assert "no snapshots are taken; --without-backup confirms it beforehand" in refused.err
        assert call(run.run_dir, "start", "moltis", "--without-backup").code == 0
        run.wait_for("started")
        assert listed(run)["state"] == "without"
        assert health_of(run)["status"] == "warn"
        assert call(run.run_dir, "backup").code == 1


def test_what_was_stopped_while_it_was_held_is_started_by_a_start_without_a_backup(server: Bucket) -> None:
    """The order names it, and is not only about the backups."""
    server.stop()
    with World(server.repository).running() as run:
        wait_for_state(run, "held")
        assert call(run.run_dir, "stop", "moltis").code == 0
        assert call(run.run_dir, "start", "moltis", "--without-backup").code == 0
        run.wait_for("started", child="moltis")


def has_ended(run: Run, before: int) -> bool:
    """Return whether more than ``before`` requested snapshots have ended, successfully or not."""
    return len([*run.all("backup failed"), *run.all("snapshot taken", order="asked")]) > before


def test_a_restic_killed_at_any_moment_leaves_the_next_snapshot_right() -> None:
    """Its end is reported, and its lock does not prevent the next snapshot."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        for number in range(40):
            (world.data / f"file{number}").write_bytes(os.urandom(200_000))
        for turn in range(6):
            (world.data / "turn").write_bytes(os.urandom(3_000_000))
            call_without_waiting(run)
            pid = wait_until(lambda: child_of(run, "restic"), what="restic")
            # The test varies this moment; at the last ones restic may have exited.
            threading.Event().wait(turn * 0.15)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(partial(has_ended, run, turn), what="its end")
            wait_for_state(run, "idle")
        assert run.find("backup failed", why="restic was ended by SIGKILL")
        assert back_up(run)["whole"]
        assert health_of(run)["status"] == "pass"
        run.stop()
    restic(world.repository, "unlock")
    restic(world.repository, "check")


def test_restic_is_out_of_the_way_and_ends_with_the_supervisor(server: Bucket) -> None:
    """It is the first to be killed when memory runs out, has only the rights it needs, and dies with the supervisor."""
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "much").write_bytes(os.urandom(60_000_000))
        call_without_waiting(run)
        pid = wait_until(lambda: child_of(run, "restic"), what="restic")
        # The score is set after the start.
        wait_until(lambda: Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n", what="its score")
        with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/cmdline", "rb") as command:
            said = environ.read() + command.read()
        assert b"GOMAXPROCS=1\0GOMEMLIMIT=64MiB" in said
        # By a link in place of a folder, the app could make restic back up restic's own environment.
        for secret in (PASSWORD, KEY_ID, KEY):
            assert secret.encode() not in said
        if os.geteuid() == 0:
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                status = file.read()
            assert "CapEff:\t0000000000000002\n" in status
            # Set together with Landlock's confinement.
            assert ("NoNewPrivs:\t1\n" in status) == has_landlock()
        os.kill(run.pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), what="restic's end")


NOTES_ITS_PRIORITY = """#!/bin/sh
"$0.real" "$@"
status=$?
echo "$(nice) $*" >> {notes}
exit $status
"""


def test_restic_gives_way_to_the_app_only_where_nothing_waits_for_it() -> None:
    """A start, a stop or an order that waits for a niced restic would starve on a busy machine."""
    world = World()
    notes, wrapped = world.folder / "notes", world.folder / "bin/restic"
    wrapped.parent.mkdir()
    shutil.copy(program("restic"), f"{wrapped}.real")
    wrapped.write_text(NOTES_ITS_PRIORITY.format(notes=notes))
    wrapped.chmod(0o755)
    path = {"PATH": f"{wrapped.parent}:{world.env()['PATH']}"}
    with world.hastened({"interval_s": 0.5}, *APP, **path) as run:
        run.wait_for("snapshot taken", order="interval")
        taken = back_up(run)["id"]
        assert call(run.run_dir, "backup", "restore", taken, "--yes").code == 0
        assert run.stop() == 0
    world.lose_files()
    with world.running(**path) as run:
        run.wait_for("restored")
    usual, said = os.getpriority(os.PRIO_PROCESS, 0), notes.read_text().splitlines()
    assert {line.split()[0] for line in said if "reason=interval" in line} == {"19"}
    waited_for = [line for line in said if "reason=interval" not in line]
    assert {line.split()[0] for line in waited_for} == {str(usual)}
    reasons = {word for line in waited_for for word in line.split() if word.startswith("reason=")}
    assert reasons == {"reason=asked", "reason=before", "reason=stop"}
    assert any(" restore " in line for line in waited_for)


def test_no_secret_is_in_the_log(server: Bucket) -> None:
    """This holds even if restic fails."""
    world = World(server.repository)
    server.stop()
    with world.running(SUPERVISOR_BACKUP_PASSWORD="hunter-two-hunter") as run:
        run.wait_for("restic says")
        assert "hunter-two-hunter" not in str(run.records)
        assert "secret-key-of-tests" not in str(run.records)


def test_a_password_that_changes_in_its_file_is_masked_from_its_next_use_on() -> None:
    """Files of secrets are read at each use: one that was not known at the start is masked too."""
    world = World()
    file = world.folder / "password"
    file.write_text("the first one of them")
    app = ("sh", "-c", f"trap 'exit 0' TERM; while :; do cat {file}; echo; sleep 0.1; done")
    with world.running(*app, SUPERVISOR_BACKUP_PASSWORD=f"file:{file}") as run:
        wait_for_state(run, "idle")
        file.write_text("the second one of them")
        run.wait_for("the second one of them", process="moltis")
        assert call(run.run_dir, "backup").code == 1
        masked = len(run.all("[redacted]", process="moltis"))
        run.wait_count(masked + 3, "[redacted]", process="moltis")


def test_a_repository_that_was_half_begun_is_told_with_a_remedy() -> None:
    """A container that is killed while restic begins the repository leaves its key without a configuration."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        run.stop()
    (Path(world.repository) / "config").unlink()
    for path in Path(world.repository).parent.glob("repository.holder*"):
        path.unlink()
    with world.running() as run:
        told = run.wait_for("backups: trouble", 60.0)
        assert told["why"].startswith("the repository was begun and never finished")
        assert "remove what is in it" in told["what_to_do"]
        shutil.rmtree(world.repository)
        wait_for_state(run, "idle", 60.0)
