"""What is saved at a stop: a last snapshot after the app's last word, within the time of the stop."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.backup.holder import Lease
from supervisor.backup.places import MARKER, WORKSHOP
from supervisor.client.backup_commands import BACKUPS
from supervisor.client.control import Control
from tests.backup.test_holder import never, settings
from tests.backup.world import (
    APP,
    World,
    back_up,
    call_without_waiting,
    child_of,
    health_of,
    listed,
    make_unclear,
    path_with_wrapped_restic,
    wait_for_state,
)
from tests.client.calling import call
from tests.support.backups import PASSWORD, restic
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.backup.words import Trouble
    from supervisor.core.holding import Seen

# Exits after TERM, once a file exists.
SLOW_END = (
    "sh",
    "-c",
    "trap 'echo ending; while [ ! -e $0 ]; do sleep 0.1; done; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
)
# Writes its last word when it receives TERM.
LAST_WORD = ("sh", "-c", "trap 'echo last > $0/word; exit 0' TERM; echo ready; while :; do sleep 0.1; done")


def test_the_last_word_of_the_app_is_in_the_last_snapshot() -> None:
    """At a stop the snapshot is taken after the app has exited, and a new container starts with its last word."""
    world = World()
    with world.running(*LAST_WORD, str(world.data)) as run:
        run.wait_for("ready")
        assert run.stop() == 0
        run.wait_for("snapshot taken", order="stop")
    world.lose_files()
    with world.running() as run:
        wait_for_state(run, "idle")
        assert (world.data / "word").read_text() == "last\n"


def test_a_snapshot_that_is_under_way_at_a_stop_gives_way_to_the_last_one() -> None:
    """It would lack the last word: its restic is ended, and the stop does not exceed its time."""
    world = World()
    with world.running(*LAST_WORD, str(world.data)) as run:
        run.wait_for("ready")
        (world.data / "much").write_bytes(os.urandom(80_000_000))
        call_without_waiting(run)
        wait_until(lambda: child_of(run, "restic"), what="restic")
        assert run.stop() == 0
        run.wait_for("snapshot taken", order="stop")
        assert not run.all("snapshot taken", order="asked")
    restic(world.repository, "check")


def test_a_last_snapshot_that_takes_too_long_is_told_and_the_stop_ends_in_time() -> None:
    """It has the time that the app has left; the exit code is that of the stop."""
    world = World()
    with world.running(*LAST_WORD, str(world.data), SUPERVISOR_STOP_TIMEOUT="2s") as run:
        run.wait_for("ready")
        (world.data / "much").write_bytes(os.urandom(300_000_000))
        begin_s = time.monotonic()
        assert run.stop() == 0
        assert time.monotonic() - begin_s < 15  # 2 s, and what a busy machine adds
        run.wait_for("no last snapshot")


def test_the_repository_is_let_go_though_the_last_snapshot_s_restic_does_not_end() -> None:
    """Neither the next instance nor the stop waits for a restic that hangs."""
    world = World()
    path = path_with_wrapped_restic(world, "case \"$*\" in *reason=stop*) trap '' TERM; sleep 60;; esac")
    more = {"PATH": path, "SUPERVISOR_STOP_TIMEOUT": "6s"}
    with world.running(*LAST_WORD, str(world.data), **more) as run:
        run.wait_for("ready")
        begin_s = time.monotonic()
        assert run.stop() == 0
        # 6 s, and what a crowded machine adds; restic's own five seconds after TERM would make it 9.5 s.
        assert time.monotonic() - begin_s < 8.5
        run.wait_for("no last snapshot")
        run.wait_for("handed over", whole=False)


@pytest.mark.slow
def test_a_killed_container_loses_no_more_than_the_last_interval() -> None:
    """The next one starts with the last snapshot and the next generation; with its files it just continues."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("1")
        back_up(run)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    with world.running() as run:
        wait_for_state(run, "idle")
        assert listed(run)["generation"] == 1
        assert back_up(run)["sequence"] == 2
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    world.lose_files()
    with world.running() as run:
        # The killed one has not released the lease: only a minute of silence shows that it is gone.
        wait_for_state(run, "idle", 110.0)
        assert listed(run)["generation"] == 2
        assert (world.data / "note").read_text() == "1"


def test_a_crash_of_the_backups_own_service_changes_nothing_of_what_was_decided() -> None:
    """It continues as the same holder of the same files, though their marker is gone: nothing is held or restarted."""
    world = World()
    crash = world.folder / "crash"
    with world.hastened({"crash": str(crash)}, *APP) as run:
        wait_for_state(run, "idle")
        taken = back_up(run)
        (world.data / MARKER).unlink()
        crash.touch()
        call_without_waiting(run)
        run.wait_for("service crashed", part="backup")
        crash.unlink()
        run.wait_for("backups go on")
        again = back_up(run)
        assert (again["generation"], again["sequence"]) == (taken["generation"], taken["sequence"] + 1)
        assert len(run.all("started", child="moltis")) == 1
        assert run.find("nothing is started", state="held: choose") is None


def test_a_term_while_the_backups_own_service_is_down_takes_the_last_snapshot_and_lets_go() -> None:
    """It has crashed, and waits for its restart; its lease is not forgotten."""
    world = World()
    crash = world.folder / "crash"
    with world.hastened({"crash": str(crash)}, *LAST_WORD, str(world.data)) as run:
        run.wait_for("ready")
        wait_for_state(run, "idle")
        crash.touch()
        call_without_waiting(run)
        # The pause before each restart is longer than the last one.
        run.wait_count(3, "service crashed", part="backup")
        assert run.stop() == 0
        run.wait_for("snapshot taken", order="stop")
        run.wait_for("handed over", whole=True)


def test_a_term_during_a_restore_leaves_nothing_half_done(tmp_path: Path) -> None:
    """It is cancelled in order: fetched files and restic's lock are removed, and the next instance need not wait."""
    world = World(str(tmp_path / "repository"))
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "much").write_bytes(os.urandom(150_000_000))
        back_up(run)
        run.stop()
    world.lose_files()
    with world.running() as run:
        run.wait_for("restoring")
        assert run.stop() == 0
        run.wait_for("handed over", whole=False)
        assert run.find("started") is None
    assert not (world.data / WORKSHOP).exists()
    assert not list((tmp_path / "repository/locks").iterdir())


def test_nothing_is_kept_of_a_start_that_was_held() -> None:
    """A held start has nothing to add: TERM changes nothing in the repository."""
    world = World()
    make_unclear(world)
    with world.running() as run:
        before = wait_for_state(run, "held: choose")["snapshots"]
        assert run.stop() == 0
        # The next instance need not wait for this one.
        run.wait_for("handed over", whole=False)
        assert [each["id"] for each in restic(world.repository, "snapshots")] == [each["id"] for each in before][::-1]


async def test_an_app_that_was_stopped_for_a_restore_stays_so_where_another_instance_takes_over() -> None:
    """What it would write no longer counts, and two instances would run as the same device."""
    world = World()
    may_end = world.folder / "may_end"
    with world.running(*SLOW_END, str(may_end)) as run:
        run.wait_for("ready")
        wait_for_state(run, "idle")
        taken = back_up(run)
        Control(str(run.run_dir)).post(f"{BACKUPS}/{taken['id']}/restore", {"confirm": True})
        run.wait_for("ending")
        await Lease(settings(world.repository, PASSWORD)).acquire("", never, force=True)
        may_end.touch()
        run.wait_for("another instance has taken over")
        health = health_of(run)
        assert (health["status"], len(run.all("ready"))) == ("fail", 1)
        assert "another instance" in health["output"]


async def again(_seen: Seen, _trouble: Trouble | None) -> None:
    """Try again: the lease was renewed at that moment."""


async def test_one_that_was_replaced_ends_its_snapshot_and_starts_nothing_more() -> None:
    """Orders are refused, as its files no longer count, and at its stop there is nothing to save or to release."""
    world = World()
    path = path_with_wrapped_restic(world, 'case "$*" in *reason=asked*) exec sleep 600;; esac')
    with world.hastened({"renew_s": 1.0}, *APP, PATH=path) as run:
        run.wait_for("ready")
        wait_for_state(run, "idle")
        before = len(restic(world.repository, "snapshots"))
        call_without_waiting(run)
        wait_until(lambda: child_of(run, "sleep"), what="a snapshot under way")
        await Lease(settings(world.repository, PASSWORD)).acquire("", again, force=True)
        run.wait_for("another instance has taken over")
        run.wait_for("exited", child="moltis")
        wait_until(lambda: child_of(run, "sleep") is None, what="the end of the snapshot")
        for words in (["start", "moltis"], ["backup"]):
            assert call(run.run_dir, *words).code == 1
        assert (listed(run)["state"], len(run.all("ready"))) == ("replaced", 1)
        assert run.stop() == 0
        assert run.find("no last snapshot") is None
        assert run.find("cannot hand over") is None
        assert len(restic(world.repository, "snapshots")) == before
