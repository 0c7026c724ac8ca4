"""Two containers with one repository: one works, the other stands by, and then takes over with all files."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.backup.world import APP, World, back_up, health_of, listed, lost, wait_for_state
from tests.client.calling import call
from tests.support.backups import Bucket, restic
from tests.support.processes import freeze, thaw
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.process.running import Run

LAST_WORD = """#!/bin/sh
trap 'echo last > $HOME/.moltis/word; exit 0' TERM
echo ready
while :; do sleep 0.1; done
"""


def ready(run: Run) -> bool:
    """Return whether /readyz answers with 200."""
    import http.client

    host, port = (run.run_dir / "http").read_text().split()
    connection = http.client.HTTPConnection(host.replace("*", "127.0.0.1").replace("0.0.0.0", "127.0.0.1"), int(port))
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def moltis(world: World) -> tuple[str, ...]:
    """Return the command of an app with Moltis' own folders, which writes a last word when it receives TERM."""
    program = world.folder / "bin/moltis"
    program.parent.mkdir(exist_ok=True)
    program.write_text(LAST_WORD)
    program.chmod(0o755)
    return (str(program),)


def settings(world: World) -> dict[str, str]:
    """Return settings that back up Moltis' own folders, which have another path in each container."""
    return {"HOME": str(world.folder), "SUPERVISOR_BACKUP_PATHS": ""}


def test_the_next_one_stands_by_and_takes_over_when_the_first_lets_go(repository: str) -> None:
    """It is ready while it waits, starts nothing, and has the first one's last word seconds after that one exits."""
    first, second = World(repository), World(repository)
    with first.running(*moltis(first), **settings(first)) as one:
        one.wait_for("ready")
        (first.folder / ".moltis/note").write_text("kept")
        back_up(one)
        with second.running(*moltis(second), **settings(second)) as two:
            wait_for_state(two, "standby")
            wait_until(lambda: ready(two), what="readiness in standby")
            assert health_of(two)["status"] == "warn"
            assert two.find("started") is None
            assert one.stop() == 0
            begin_s = time.monotonic()
            one.wait_for("handed over", whole=True)
            two.wait_for("ready", 30.0)
            assert time.monotonic() - begin_s < 20  # about six here; the machine is shared
            assert ready(two)
            assert (second.folder / ".moltis/word").read_text() == "last\n"
            assert (second.folder / ".moltis/note").read_text() == "kept"
            assert listed(two)["generation"] == 2


def test_term_in_standby_changes_nothing(repository: str) -> None:
    """Neither the holder's object nor the repository changes."""
    world, other = World(repository), World(repository)
    with world.running() as one:
        wait_for_state(one, "idle")
        back_up(one)
        with other.running() as two:
            wait_for_state(two, "standby")
            before = len(listed(one)["snapshots"])
            assert two.stop() == 0
            assert two.find("handed over") is None
        assert back_up(one)["generation"] == 1
        assert len(listed(one)["snapshots"]) == before + 1


def test_a_killed_container_that_comes_back_on_its_files_goes_on_at_once() -> None:
    """Its files identify it as the holder, so that it does not wait a minute for its own lease."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        back_up(run)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    with world.running() as run:
        wait_for_state(run, "idle", 30.0)
        assert listed(run)["generation"] == 1


def test_an_object_that_is_gone_is_waited_for_where_there_are_snapshots() -> None:
    """Its holder may still be alive and write it again: only a period of silence shows that it is gone."""
    world = lost("")
    (world.folder / "repository.holder").unlink()
    with world.hastened({"silence_s": 4.0}, *APP) as run:
        assert "is gone" in run.wait_for("standing by")["why"]
        run.wait_for("taking over")
        run.wait_for("started")
        assert (world.data / "note").read_text() == "kept"


def test_what_cannot_be_read_is_never_taken_for_nobodys() -> None:
    """With rubbish or an object of a later version, the start is held for the owner's choice, and says why."""
    world = World()
    with world.running() as run:
        wait_for_state(run, "idle")
        back_up(run)
        run.stop()
    holder = world.folder / "repository.holder"
    for text in ("rubbish", json.dumps(json.loads(holder.read_text()) | {"version": 9})):
        holder.write_text(text)
        world.lose_files()
        with world.running() as run:
            assert "who holds" in wait_for_state(run, "held: choose")["why"]
            assert run.find("started") is None


def test_one_that_has_to_ask_at_the_take_over_does_not_stay_ready() -> None:
    """It had rehearsed; what it would take over cannot be read, and nothing goes on before somebody does something."""
    world = World()
    with world.running() as one:
        wait_for_state(one, "idle")
        back_up(one)
        other = World(world.repository)
        haste = {"ready_s": 3.0, "again_s": 0.5}
        with other.hastened(haste, *APP, SUPERVISOR_BACKUP_RESTORE="never") as two:
            wait_for_state(two, "standby")
            wait_until(lambda: ready(two), what="readiness in standby")
            os.kill(one.pid, signal.SIGKILL)
            one.wait()
            holder = world.folder / "repository.holder"
            sealed = holder.read_text()
            holder.write_text("{}")
            wait_for_state(two, "held: choose")
            # As long as after a take-over; it may pass within seconds.
            wait_until(lambda: not ready(two), what="the end of its readiness")
            assert health_of(two)["status"] == "fail"
            holder.write_text(sealed)
            wait_for_state(two, "standby")
            wait_until(lambda: ready(two), what="readiness in standby")


@pytest.mark.slow
def test_a_holder_that_was_replaced_stops_and_adds_nothing() -> None:
    """Once the object names another instance, the app is stopped, and no snapshot is added: it would not count."""
    world = World()
    haste = {"silence_s": 10.0, "renew_s": 2.0}
    with world.hastened(haste, *APP) as run:
        wait_for_state(run, "idle")
        back_up(run)
        before = len(restic(world.repository, "snapshots"))
        # The object is written by another instance with the same password.
        with World(world.repository).hastened(haste, *APP, SUPERVISOR_BACKUP_RESTORE="never") as other:
            wait_for_state(other, "standby")
            freeze(run.pid)
            try:
                other.wait_for("started")
                back_up(other)
            finally:
                thaw(run.pid)
            run.wait_for("another instance has taken over", 60.0)
            wait_until(lambda: run.find("exited") is not None, what="the end of its app")
            assert health_of(run)["status"] == "fail"
            assert call(run.run_dir, "backup").code == 1
            # The request is refused at once, without asking for a confirmation first.
            for words in (("start", "moltis"), ("backup", "restore", listed(run)["snapshots"][0]["id"], "--yes")):
                said = call(run.run_dir, *words).err
                assert "another instance has taken over" in said
                assert "again" not in said.replace("started again", "")
            run.stop()
            assert run.find("snapshot taken", order="stop") is None
            assert len(restic(world.repository, "snapshots")) == before + 1
            assert back_up(other)["whole"]


def test_a_holder_that_cannot_reach_the_bucket_goes_on_and_takes_no_snapshot(server: Bucket) -> None:
    """The app keeps running; when the bucket is back, the lease is checked first, and snapshots are taken again."""
    world = World(server.repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        back_up(run)
        server.stop()
        assert call(run.run_dir, "backup").code == 1
        assert run.find("exited") is None
        server.start()
        assert back_up(run)["whole"]
        assert run.find("another instance has taken over") is None
