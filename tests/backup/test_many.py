"""Containers one after another, as in months of deploys and unexpected ends: what is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.backup.deploying import KEY, KEY_OF_PEER, Disk, device, through, wait_ready, when, writing
from tests.backup.world import wait_for_state
from tests.support.control import controlling
from tests.support.peer import peer
from tests.support.waiting import wait_until
from tests.tailnet.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.deploying import Writer
    from tests.process.running import Run
    from tests.support.backups import Bucket
    from tests.support.control import Control

pytestmark = [pytest.mark.slow_fault, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("KILLS", "100"))
DEPLOYS = int(os.environ.get("DEPLOYS", "50"))
HASTE = {"silence_s": 4.0, "renew_s": 1.0, "interval_s": 3.0}
AWAY_S = 10.0


@pytest.fixture
def control() -> Iterator[Control]:
    """A control server that accepts each of two keys once."""
    with controlling("-auth") as running:
        for key in (KEY, KEY_OF_PEER):
            running.order("key", value=key)
        yield running


def is_whole(database: str) -> bool:
    """Return whether SQLite finds no error in a database."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as found:
        return [row[0] for row in found.execute("PRAGMA integrity_check")] == ["ok"]


def begin_of_last_snapshot(run: Run) -> float:
    """Return when the last snapshot of a run began, by the wall clock; 0 if there was none."""
    taken = run.all("snapshot taken")
    end_s = when(run, "snapshot taken")
    return 0.0 if end_s is None else end_s - taken[-1]["took_s"]


def check_rows(old: Run, new: Disk, writer: Writer, end_s: float, pid: int) -> float:
    """Check that lost rows are younger than the start of the last snapshot; return the oldest one's age at the end."""
    kept = set(new.kept())
    lost = [answer for answer in list(writer.answers) if answer.pid == pid and answer.text not in kept]
    begun_s = begin_of_last_snapshot(old)
    assert [answer.text for answer in lost if answer.at_s < begun_s] == [], (begun_s, lost[0].at_s)
    return max((end_s - answer.at_s for answer in lost), default=0.0)


def test_ends_by_kill_at_any_moment(server: Bucket) -> None:
    """The next one takes over, its database is whole, and lost rows are younger than the last snapshot."""
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    dice = random.Random(seed)  # noqa: S311 - chance, no secret
    oldest_s = longest_s = 0.0
    disk = Disk(server.repository)
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(disk.container(HASTE))
        wait_ready(run)
        for number in range(KILLS):
            new = Disk(server.repository)
            with writing(disk.keep) as writer:
                # At random, a successor is ready from here on, or is started only after the kill.
                early = dice.random() < 0.5
                two = stack.enter_context(new.container(HASTE)) if early else None
                if two is not None:
                    wait_ready(two)
                wait_until(lambda: writer.answers, what="an acknowledged row")
                threading.Event().wait(dice.uniform(0.0, 6.0))
                pid = writer.answers[-1].pid
                os.kill(run.pid, signal.SIGKILL)
                end_s = time.time()
                run.wait()
            if two is None:
                two = stack.enter_context(new.container(HASTE))
            two.wait_for("started", 120.0, child="moltis")
            # It may have no rows: the previous one may have been killed before its first snapshot.
            wait_until(partial(new.ask, "GET", "/stand-in/kept"), 60.0, "the next one's app")
            longest_s = max(longest_s, time.time() - end_s)
            assert is_whole(new.memory), (seed, number)
            oldest_s = max(oldest_s, check_rows(run, new, writer, end_s, pid))
            run.close()
            disk, run = new, two
    print(
        f"{KILLS} kills, seed {seed}: lost rows were at most {oldest_s:.1f} s old, away for at most {longest_s:.1f} s"
    )


def end(run: Run, writer: Writer, server: Bucket, number: int, pid: int) -> float:
    """End a container in the way that its number selects; return how long nothing answered."""
    away = threading.Timer(AWAY_S, server.start)
    if number % 7 == 0:
        server.stop()
        away.start()
    end_s = time.time()
    run.send(signal.SIGKILL if number % 5 == 0 else signal.SIGTERM)
    first = writer.first_of_another(pid)
    run.wait(60.0)
    if number % 7 == 0:
        away.join()
    return first.at_s - end_s


def test_many_deploys_in_a_row(control: Control, server: Bucket) -> None:
    """Every fifth ends by KILL, every seventh without the bucket for ten seconds: one device, and every row."""
    disk = Disk(server.repository, control)
    longest_s = 0.0
    kept: list[str] = []
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(peer(control, key=KEY_OF_PEER))
        run = stack.enter_context(disk.container(HASTE))
        Node(run).wait_state("connected")
        before = device(Node(run))
        wait_for_state(run, "idle")
        for number in range(1, DEPLOYS + 1):
            wait_until(partial(disk.ask, "GET", "/health"), what="the app")
            with writing(through(other)) as writer:
                wait_until(lambda: len(writer.answers) > 3, 60.0, "acknowledged rows")
                pid = writer.answers[-1].pid
                new = Disk(server.repository, control)
                two = stack.enter_context(new.container(HASTE))
                wait_ready(two, 120.0)
                longest_s = max(longest_s, end(run, writer, server, number, pid))
            if number % 5:
                now = set(new.kept())
                mine = writer.acknowledged(pid)
                assert [text for text in [*kept, *mine] if text not in now] == [], number
            else:
                check_rows(run, new, writer, time.time(), pid)
            kept = new.kept()
            Node(two).wait_state("connected")
            assert device(Node(two)) == before, number
            run.close()
            disk, run = new, two
        assert is_whole(disk.memory)
        assert len(control.nodes()) == 2  # the device and the peer
    print(f"{DEPLOYS} deploys: the longest pause was {longest_s:.1f} s")
