"""Two instances on one repository, and everything that may go wrong: one counts, and the fuller one wins."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.backup.deploying import Disk, readiness, wait_ready
from tests.backup.world import (
    back_up,
    health_of,
    is_root,
    listed,
    small_disk,
    wait_for_state,
)
from tests.client.calling import call
from tests.support.backups import restic
from tests.support.clock import WALL_CLOCK_ALONE
from tests.support.processes import below, freeze, thaw
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.process.running import Run
    from tests.support.backups import Bucket
    from tests.support.flaky import Flaky

# All waits take a fifteenth of their usual time.
HASTE = {"silence_s": 4.0, "renew_s": 1.0}
TOLD_S = 5.0
# How long an immediate step may take on a busy machine.
CROWD_S = 10.0


def by(way: Flaky) -> str:
    """Return the location of the same repository through a proxy."""
    return f"s3:http://127.0.0.1:{way.port}/bucket/snapshots"


@contextlib.contextmanager
def at_work(disk: Disk, *rows: str, haste: Mapping[str, float] = HASTE) -> Iterator[Run]:
    """Run a container that holds the repository, with these rows in its database and in a snapshot."""
    with disk.container(haste) as run:
        wait_ready(run)
        for row in rows:
            disk.keep(row)
        wait_for_state(run, "idle")
        back_up(run)
        yield run


def takes_over(run: Run, disk: Disk) -> list[str]:
    """Wait until a container has taken over, and return its rows."""
    run.wait_for("started", 120.0, child="moltis")
    wait_until(lambda: disk.ask("GET", "/health"), 60.0, "the app of the next one")
    return disk.kept()


def snapshots(disk: Disk) -> int:
    """Return the number of snapshots in the repository."""
    return len(restic(disk.repository, "snapshots"))


def is_out(run: Run) -> None:
    """Check that a replaced instance says so in time, and has ended what uses its files."""
    begin_s = time.monotonic()
    run.wait_for("another instance has taken over", TOLD_S + CROWD_S)
    wait_until(lambda: health_of(run)["status"] == "fail", TOLD_S + CROWD_S, "health that fails")
    run.wait_for("exited", child="moltis")
    assert time.monotonic() - begin_s < TOLD_S + CROWD_S
    assert readiness(run) == 503


TWO_MINUTES_S = 120.0
REAL = pytest.param({}, TWO_MINUTES_S, marks=[pytest.mark.slow_fault, pytest.mark.timeout(600)], id="two minutes")


@pytest.mark.parametrize(("haste", "frozen_s"), [pytest.param(HASTE, 0.0, id="hastened"), REAL])
def test_one_that_was_frozen_is_out_when_it_thaws(server: Bucket, haste: dict[str, float], frozen_s: float) -> None:
    """The whole container is frozen for longer than the silence; when thawed, it ends the app and adds nothing."""
    old, new, last = (Disk(server.repository) for _ in range(3))
    with at_work(old, "old", haste=haste) as one, new.container(haste) as two:
        wait_ready(two)
        pids = [one.pid, *below(one.pid)]
        for pid in pids:
            freeze(pid)
        thaw_s = time.monotonic() + frozen_s
        try:
            assert takes_over(two, new) == ["old"]
            new.keep("new")
            wait_until(lambda: time.monotonic() >= thaw_s, frozen_s + 10.0, "two minutes")
            back_up(two)
            count = snapshots(new)
        finally:
            for pid in pids:
                thaw(pid)
        is_out(one)
        assert call(one.run_dir, "backup").code == 1
        assert one.stop() == 0
        assert snapshots(new) == count
        assert two.stop() == 0
        with last.container(HASTE) as three:
            assert takes_over(three, last) == ["old", "new"]


def test_a_holder_whose_bucket_is_away_serves_on_and_is_out_when_it_is_back(server: Bucket, way: Flaky) -> None:
    """The other one cannot tell it from a dead one and takes over; what the first one wrote since does not count."""
    old, new = Disk(by(way)), Disk(server.repository)
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        way.mode = "refuse"
        wait_until(lambda: listed(one)["why"], TOLD_S + CROWD_S, "the reason")
        old.keep("lost")
        assert takes_over(two, new) == ["old"]
        assert call(one.run_dir, "backup").code == 1
        way.mode = "pass"
        is_out(one)
        assert readiness(two) == 200


def test_a_holder_that_is_ended_while_its_bucket_is_away_is_replaced_after_the_silence(
    server: Bucket, way: Flaky
) -> None:
    """Neither the last snapshot nor the hand-over can be made, and both failures are reported."""
    old, new = Disk(by(way)), Disk(server.repository)
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        way.mode = "refuse"
        # The stop waits for the bucket as long as it has time.
        assert one.stop(90.0) == 0
        assert one.find("cannot hand over")
        told = one.find("no last snapshot")
        assert told is not None
        assert "no time" not in told["why"]  # but the error of the bucket
        assert len(one.all("backup failed")) <= 1
        assert takes_over(two, new) == ["old"]


def test_one_that_stands_by_stays_ready_while_its_bucket_is_away(server: Bucket, way: Flaky) -> None:
    """Once ready it stays ready; it reports the trouble, and takes over when it can read the object again."""
    old, new = Disk(server.repository), Disk(by(way))
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        way.mode = "refuse"
        two.wait_for("backups: trouble", TOLD_S + CROWD_S)
        old.keep("last")
        assert one.stop() == 0
        assert readiness(two) == 200
        assert two.find("started") is None
        way.mode = "pass"
        assert takes_over(two, new) == ["old", "last"]


def test_one_that_cannot_rehearse_is_not_ready_until_it_can(server: Bucket, way: Flaky) -> None:
    """If the bucket is away before the first look or during the rehearsal, it is held, and never taken for empty."""
    old, new = Disk(server.repository), Disk(by(way))
    with at_work(old, "old") as one:
        way.mode = "refuse"
        with new.container(HASTE) as two:
            two.wait_for("backups: trouble", TOLD_S + CROWD_S)
            wait_until(lambda: health_of(two)["output"], what="the reason")
            assert readiness(two) == 503
            way.mode = "pass"
            wait_ready(two)
            assert one.stop() == 0
            assert takes_over(two, new) == ["old"]


def test_a_take_over_in_whose_middle_the_bucket_goes_away_is_gone_on_with(server: Bucket, way: Flaky) -> None:
    """It is held, reported, and retried until the files are there; nothing is started on half of them."""
    old, new = Disk(server.repository), Disk(by(way))
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        one.send(signal.SIGTERM)
        two.wait_for("taking over")
        way.mode = "refuse"
        assert one.wait() == 0
        two.wait_for("backups: trouble", TOLD_S + CROWD_S)
        assert two.find("started") is None
        way.mode = "pass"
        assert takes_over(two, new) == ["old"]


def test_an_outage_for_both_changes_nothing(server: Bucket) -> None:
    """However long it is, an instance that could not read the object has not seen silence; the holder renews first."""
    old, new = Disk(server.repository), Disk(server.repository)
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        server.stop()
        two.wait_for("backups: trouble", TOLD_S + CROWD_S)
        # Three times the silence.
        end_s = time.monotonic() + 3 * HASTE["silence_s"]
        wait_until(lambda: time.monotonic() > end_s, what="a long outage")
        server.start()
        assert back_up(one)["whole"]
        wait_until(lambda: "another instance" in listed(two)["why"], what="the end of the trouble")
        assert two.find("started") is None
        assert one.find("another instance has taken over") is None


@pytest.mark.parametrize("what", ["deleted", "rubbish", "another password"])
def test_an_object_that_is_spoilt_while_its_holder_lives_is_written_anew(tmp_path: Path, what: str) -> None:
    """It is not taken for free: the waiting instance keeps waiting."""
    old, new = Disk(str(tmp_path / "repository")), Disk(str(tmp_path / "repository"))
    path = tmp_path / "repository.holder"
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        if what == "deleted":
            path.unlink()
        else:
            sealed = json.loads(path.read_text())
            path.write_text("rubbish" if what == "rubbish" else json.dumps(sealed | {"mac": sealed["mac"][::-1]}))
        wait_until(lambda: path.read_text().startswith('{"version"'), what="a good object")
        assert back_up(one)["whole"]
        assert two.find("started") is None
        assert readiness(two) == 200
        assert one.stop() == 0
        assert takes_over(two, new) == ["old"]


def test_an_object_of_a_later_version_is_left_to_it(tmp_path: Path) -> None:
    """The holder stops its app, and the waiting instance starts nothing: the later version knows what to do."""
    old, new = Disk(str(tmp_path / "repository")), Disk(str(tmp_path / "repository"))
    path = tmp_path / "repository.holder"
    with at_work(old, "old") as one, new.container(HASTE) as two:
        wait_ready(two)
        # Under the lock that every version takes, as the holder writes the object too.
        with path.with_name(f"{path.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
        is_out(one)
        assert "later version" in wait_for_state(two, "held: choose")["why"] or "not known" in listed(two)["why"]
        assert two.find("started") is None
        assert json.loads(path.read_text())["version"] == 9


def test_a_restore_that_is_killed_is_done_again(server: Bucket) -> None:
    """Half-restored files do not count: the next start on that disk restores all of them."""
    old, new = Disk(server.repository), Disk(server.repository)
    with at_work(old, "old") as one:
        (old.folder / ".moltis/much").write_bytes(os.urandom(50_000_000))
        back_up(one)
        assert one.stop() == 0
    for _ in range(3):
        with new.container(HASTE) as two:
            two.wait_for("restoring")
            os.kill(two.pid, signal.SIGKILL)
            two.wait()
            assert two.find("started") is None
    with new.container(HASTE) as two:
        assert takes_over(two, new) == ["old"]
        assert (new.folder / ".moltis/much").stat().st_size == 50_000_000


@pytest.mark.parametrize("clock", ["+1y", "-1y"])
def test_a_clock_that_is_a_year_off_decides_nothing(tmp_path: Path, clock: str) -> None:
    """Order and silence are determined by counters; a bucket would refuse such a clock, and say so."""
    old, new, last = (Disk(str(tmp_path / "repository")) for _ in range(3))
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not here; on Debian it is in the package faketime")
    off = {"LD_PRELOAD": str(libraries[0]), "FAKETIME": clock} | WALL_CLOCK_ALONE
    program = new.folder / "bin/moltis"
    # Only the supervisor's clock is to be off.
    program.write_text(program.read_text().replace("exec", "unset LD_PRELOAD; exec"))
    with at_work(old, "old") as one, new.container(HASTE, **off) as two:
        wait_ready(two)
        assert one.stop() == 0
        assert takes_over(two, new) == ["old"]
        new.keep("new")
        with last.container(HASTE) as three:
            wait_ready(three)
            assert two.stop() == 0
            assert takes_over(three, last) == ["old", "new"]


@pytest.mark.skipif(not is_root(), reason="takes root, to mount a small disk")
def test_one_without_room_is_not_ready_and_the_old_one_stays(server: Bucket) -> None:
    """Its rehearsal fails, so that the platform keeps the old one; with room it becomes ready by itself."""
    old, new = Disk(server.repository), Disk(server.repository)
    with at_work(old, "old") as one:
        (old.folder / ".moltis/much").write_bytes(os.urandom(40_000_000))
        back_up(one)
        with small_disk(new.folder / ".moltis", "20m"), new.container(HASTE) as two:
            two.wait_for("take-over cannot be rehearsed", 60.0, why="the disk is full")
            assert readiness(two) == 503
            assert "disk is full" in listed(two)["why"]
            assert one.find("exited") is None
            (old.folder / ".moltis/much").unlink()
            back_up(one)
            wait_ready(two)


def test_a_snapshot_that_arrives_after_the_take_over_is_never_restored_by_itself(server: Bucket) -> None:
    """It has its old generation, which decides whatever its number and its time are."""
    old, new, last = (Disk(server.repository) for _ in range(3))
    with at_work(old, "old") as one:
        late = restic(server.repository, "snapshots")[-1]
        assert one.stop() == 0
    with new.container(HASTE) as two:
        assert takes_over(two, new) == ["old"]
        new.keep("new")
        assert two.stop() == 0
    words = ["--add", "sequence=99", "--remove", next(tag for tag in late["tags"] if tag.startswith("sequence="))]
    restic(server.repository, "tag", *words[:2], late["id"])
    late = next(each for each in restic(server.repository, "snapshots") if "sequence=99" in each["tags"])
    restic(server.repository, "tag", *words[2:], late["id"])
    with last.container(HASTE) as three:
        assert takes_over(three, last) == ["old", "new"]


def test_standing_by_for_long_is_warned_about_and_its_end_changes_nothing(tmp_path: Path) -> None:
    """Of two instances by mistake, one serves, and the other says why it does not; its TERM changes nothing."""
    old, new = Disk(str(tmp_path / "repository")), Disk(str(tmp_path / "repository"))
    with at_work(old, "old") as one, new.container({**HASTE, "long_s": 3.0}) as two:
        two.wait_for("standing by for long")
        assert "two instances" in wait_until(lambda: listed(two)["what_to_do"], what="what to do")
        assert health_of(two)["status"] == "warn"
        assert "another instance" in health_of(two)["output"]
        wait_ready(two)
        # The holder keeps writing its own object; it is frozen for the comparison.
        freeze(one.pid)
        try:
            before = everything(tmp_path)
            assert two.stop() == 0
            assert everything(tmp_path) == before
        finally:
            thaw(one.pid)
        assert one.find("exited") is None
        assert back_up(one)["generation"] == 1


def answer_on(port: int, path: str) -> tuple[int, Any]:
    """Return the answer on the app's own port, from the app or the supervisor."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_in_public_mode_the_port_answers_with_the_reason_until_the_app_takes_it(server: Bucket) -> None:
    """It answers every request with 503 during standby; then the app itself answers on the same port."""
    old, new = Disk(server.repository), Disk(server.repository)
    public = {"SUPERVISOR_EXPOSE": "public", "PORT": str(new.port), "SUPERVISOR_PORT": "0"}
    with at_work(old, "old") as one, new.container(HASTE, **public) as two:
        wait_ready(two)
        for path in ("/", "/health", "/readyz"):
            status, told = answer_on(new.port, path)
            assert status == 503
            assert told["code"] == "NOT_STARTED"
            assert "standby" in told["error"]
            assert "another instance" in told["error"]
        with socket.create_connection(("127.0.0.1", new.port)) as silent:
            assert one.stop() == 0
            assert takes_over(two, new) == ["old"]
            # The client has lost only a moment; an orderly close would keep the port busy.
            with pytest.raises(ConnectionResetError):
                silent.recv(1)
        assert answer_on(new.port, "/health")[0] == 200
        assert len(two.all("started", child="moltis")) == 1


def everything(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder, by path."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_deploy_of_an_app_that_is_broken_is_rolled_back(server: Bucket) -> None:
    """It was ready before its app was started; when that is given up, the lease is released, and nothing is lost."""
    old, broken, again = (Disk(server.repository) for _ in range(3))
    with at_work(old, "old") as one:
        (broken.folder / "bin/moltis").write_text("#!/bin/sh\nexit 3\n")
        with broken.container(HASTE, SUPERVISOR_GIVE_UP="2/1m") as two:
            wait_ready(two)
            old.keep("last")
            assert one.stop() == 0
            assert two.wait(60.0) == 70
            two.wait_for("handed over")
    with again.container(HASTE) as three:
        assert takes_over(three, again) == ["old", "last"]
