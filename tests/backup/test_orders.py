"""Orders for the backups: each answer is about its own order, whatever came before it or comes beside it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from supervisor.core.backup import BackupOrderView, answered
from tests.backup.world import World, listed, path_with_wrapped_restic, wait_for_state
from tests.client.calling import PROGRAM, environment
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.process.running import Run


def begin(run: Run, *words: str) -> subprocess.Popen[bytes]:
    """Start the command, which gives an order and waits for its result."""
    return subprocess.Popen([*PROGRAM, *words], env=environment(run.run_dir), stdout=subprocess.DEVNULL)


def test_orders_that_come_beside_each_other() -> None:
    """A snapshot that succeeds is told as such, although a restore fails before its command has asked again."""
    world = World()
    world.data.mkdir()
    (world.data / "note").write_text("kept")
    go = world.folder / "go"
    waits = f"*reason=asked*) while [ ! -e {go} ]; do sleep 0.05; done"
    path = path_with_wrapped_restic(world, f"case $* in {waits};; *--target*) exit 1;; esac")
    with world.running(PATH=path) as run:
        old = wait_for_state(run, "idle")["snapshots"][0]["id"]
        snapshot = begin(run, "backup")
        wait_for_state(run, "snapshot")
        restore = begin(run, "backup", "restore", old, "--yes")
        wait_until(lambda: len(listed(run)["orders"]) == 2)
        go.touch()
        assert (snapshot.wait(60.0), restore.wait(60.0)) == (0, 1)
        told = listed(run)["orders"]
        assert [(order["kind"], order["state"], order["snapshot"]) for order in told] == [
            ("backup", "done", None),
            ("restore", "failed", old),
        ]
        assert [bool(order["why"]) for order in told] == [False, True]


def test_an_answer_is_final() -> None:
    """What is lost, as at a stop, fails; a result that was given stays."""
    orders = tuple(BackupOrderView(1.0, id=name) for name in ("a", "b", "c"))
    orders = answered(answered(orders, {"a"}, ""), {"a", "b"}, "the supervisor stops")
    assert [(order.state, order.why) for order in orders] == [
        ("done", ""),
        ("failed", "the supervisor stops"),
        ("under way", ""),
    ]
