"""The kinds of trouble that backups meet: how each is caused and removed, and the words in which it is reported."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.backup.world import (
    APP,
    World,
    back_up,
    call_without_waiting,
    child_of,
    holding,
    listed,
    lost,
    small_disk,
    wait_for_state,
)
from tests.client.calling import call
from tests.support.backups import bucket, program, restic, restic_environment
from tests.support.flaky import Flaky, flaky
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.process.running import Run
    from tests.support.backups import Bucket

_LOST_SETTINGS = {
    "wrong password": ({"SUPERVISOR_BACKUP_PASSWORD": "another password"}, "the password is not the repository's"),
    "wrong secret": ({"SUPERVISOR_BACKUP_SECRET_ACCESS_KEY": "another"}, "the secret access key is wrong"),
    "wrong key id": ({"SUPERVISOR_BACKUP_ACCESS_KEY_ID": "another"}, "the bucket does not know the access key"),
}


class Scene:
    """A bucket, a proxy in front of it, and a world that backs up into it. ``begin_s`` is when trouble was met."""

    def __init__(self, server: Bucket, way: Flaky, *, through: bool) -> None:
        self.server = server
        self.way = way
        port = way.port if through else server.port
        self.world = World(f"s3:http://127.0.0.1:{port}/bucket/snapshots")
        self.begin_s = 0.0

    def meet(self, run: Run) -> None:
        """Order a snapshot, which runs into the trouble."""
        self.begin_s = time.monotonic()
        call_without_waiting(run)

    def told_s(self, run: Run, words: str) -> float:
        """Wait for these words in `backup list`, and return how long that took."""
        wait_until(lambda: words in (listed(run)["why"] or ""), 60.0, f"the words {words!r}")
        return time.monotonic() - self.begin_s


class Kind(NamedTuple):
    """A kind of trouble: its words, and a context manager that causes it and orders a snapshot that runs into it.

    ``through`` is whether the bucket is reached through the proxy, which can disturb it.
    """

    words: str
    cause: Callable[[Scene, Run], contextlib.AbstractContextManager[None]]
    through: bool = False


def measure(name: str, folder: Path) -> float:
    """Cause one kind of trouble; return how long its report took. Nothing is lost, and the next snapshot succeeds."""
    if name in _LOST_SETTINGS:
        return _at_a_start(name, folder)
    if name == "disk full in a restore":
        return _in_a_restore()
    kind = KINDS[name]
    with bucket(folder) as server, flaky(server.port) as way:
        scene = Scene(server, way, through=kind.through)
        with _state_disk(scene.world, name), scene.world.running(*APP) as run:
            wait_for_state(run, "idle", 60.0)
            (scene.world.data / "note").write_text("1")
            before = back_up(run)
            with kind.cause(scene, run):
                took_s = scene.told_s(run, kind.words)
                assert run.find("exited") is None
            wait_for_state(run, "idle", 90.0)
            (scene.world.data / "note").write_text("2")
            assert back_up(run)["whole"]
            assert not listed(run)["why"]
            assert before["id"] in [each["id"] for each in listed(run)["snapshots"]]
            run.stop()
        restic(server.repository, "unlock")
        restic(server.repository, "check", "--read-data")
    return took_s


def _at_a_start(name: str, folder: Path) -> float:
    env, words = _LOST_SETTINGS[name]
    with bucket(folder) as server:
        world = lost(server.repository)
        begin_s = time.monotonic()
        with world.running(*APP, **env) as run:
            run.wait_for("starting")
            wait_until(lambda: words in _why(run), 60.0, f"the words {words!r}")
            took_s = time.monotonic() - begin_s
            assert run.find("started") is None
            assert run.find("backup repository made") is None
        with world.running(*APP) as run:
            wait_for_state(run, "idle", 120.0)
            assert (world.data / "note").read_text() == "kept"
            assert back_up(run)["whole"]
    return took_s


def _in_a_restore() -> float:
    world = World()
    with small_disk(world.data, "40m"), world.running(*APP) as run:
        wait_for_state(run, "idle")
        (world.data / "much").write_bytes(os.urandom(25_000_000))
        taken = back_up(run)
        (world.data / "much").write_bytes(os.urandom(25_000_000))
        before = (world.data / "much").read_bytes()
        begin_s = time.monotonic()
        assert call(run.run_dir, "backup", "restore", taken["id"], "--yes").code == 1
        assert "the disk is full" in _why(run)
        took_s = time.monotonic() - begin_s
        assert (world.data / "much").read_bytes() == before
        assert back_up(run)["whole"]
    return took_s


def _why(run: Run) -> str:
    with contextlib.suppress(AssertionError):
        return listed(run)["why"] or ""
    return ""


@contextlib.contextmanager
def _state_disk(world: World, name: str) -> Iterator[None]:
    if name != "disk full for a snapshot":
        yield
        return
    with small_disk(world.folder / "state", "200m"):
        yield


def _way(mode: str) -> Callable[[Scene, Run], contextlib.AbstractContextManager[None]]:
    """Return a cause that sets the proxy's mode."""

    @contextlib.contextmanager
    def disturbed(scene: Scene, run: Run) -> Iterator[None]:
        scene.way.mode = mode
        scene.meet(run)
        yield
        scene.way.mode = "pass"

    return disturbed


def _clock(shift_s: int) -> Callable[[Scene, Run], contextlib.AbstractContextManager[None]]:
    """Return a cause that shifts the server's clock."""

    @contextlib.contextmanager
    def shifted(scene: Scene, run: Run) -> Iterator[None]:
        scene.server.stop()
        scene.server.clock_shift_s = shift_s
        scene.server.start()
        scene.meet(run)
        yield
        scene.server.stop()
        scene.server.clock_shift_s = 0
        scene.server.start()

    return shifted


@contextlib.contextmanager
def _server_away(scene: Scene, run: Run) -> Iterator[None]:
    scene.server.stop()
    scene.meet(run)
    yield
    scene.server.start()


@contextlib.contextmanager
def _bucket_gone(scene: Scene, run: Run) -> Iterator[None]:
    gone = scene.server.folder.with_name("gone")
    (scene.server.folder / "bucket").rename(gone)
    scene.meet(run)
    yield
    gone.rename(scene.server.folder / "bucket")


@contextlib.contextmanager
def _disk_full(scene: Scene, run: Run) -> Iterator[None]:
    ballast = scene.world.folder / "state/ballast"
    ballast.write_bytes(b"x" * 150_000_000)
    scene.meet(run)
    yield
    ballast.unlink()


@contextlib.contextmanager
def _killed(scene: Scene, run: Run) -> Iterator[None]:
    scene.meet(run)
    pid = wait_until(lambda: child_of(run, "restic"), what="restic")
    os.kill(pid, signal.SIGKILL)
    yield


@contextlib.contextmanager
def _second_restic(scene: Scene, run: Run) -> Iterator[None]:
    env = restic_environment(scene.world.repository)
    locks = str(scene.server.folder / "bucket/snapshots/locks")
    with holding(locks, [program("restic"), "--no-cache", "check", "--read-data"], env):
        scene.meet(run)
        yield


KINDS = {
    "bucket gone": Kind("the bucket does not exist", _bucket_gone),
    "server away": Kind("connection refused", _server_away),
    "silent": Kind("not answer", _way("silent"), through=True),
    "slow": Kind("not answer", _way("crawl"), through=True),
    "403": Kind("the bucket refuses the access key", _way("forbidden"), through=True),
    "half an answer": Kind("cuts off its answers", _way("cut"), through=True),
    "half an answer, then silence": Kind("not answer", _way("half"), through=True),
    "wrong region": Kind("the bucket is in another region", _way("elsewhere"), through=True),
    "server error": Kind("the repository's server has an internal error", _way("error"), through=True),
    "clock an hour off": Kind("the bucket's clock and this machine's differ too much", _clock(3600)),
    "clock a year off": Kind("the bucket's clock and this machine's differ too much", _clock(-365 * 24 * 3600)),
    "disk full for a snapshot": Kind("the disk is nearly full", _disk_full),
    "restic killed": Kind("restic was ended by SIGKILL", _killed),
    "second restic": Kind("the repository is locked by another restic", _second_restic),
}
NAMES = (*KINDS, *_LOST_SETTINGS, "disk full in a restore")
