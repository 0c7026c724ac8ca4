"""At a machine's limits, what cannot be started or followed is reported as trouble, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from supervisor.backup import programs
from supervisor.backup.restic import Restic
from supervisor.backup.threads import in_thread
from supervisor.backup.words import BackupError
from supervisor.core.process import ProcessSpec
from supervisor.doctor.facts import LoneParent
from supervisor.logs.redact import Redactor
from supervisor.runtime import loop_latency
from supervisor.system.spawn import SpawnError
from tests.support.processes import below

if TYPE_CHECKING:
    from collections.abc import Callable

NO_SECRETS = {"password": None, "access_key_id": None, "secret_access_key": None}
SETTINGS = SimpleNamespace(repository="/nowhere", in_folder=True, **NO_SECRETS)
SPEC = ProcessSpec("restic", ("sleep", "60"), {"PATH": os.defpath})


def refuse_thread(_thread: threading.Thread) -> None:
    """Refuse to start it, as the kernel does at a container's limit of processes."""
    raise RuntimeError("can't start new thread")


def refusing(number: int) -> Callable[..., None]:
    """Return a call that the kernel refuses with this error."""

    def refuse(*_words: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def children() -> set[str]:
    """Return the names of this process's children."""
    found = set()
    for pid in below(os.getpid()):
        with contextlib.suppress(OSError):
            found.add(Path(f"/proc/{pid}/comm").read_text().strip())
    return found


async def test_a_restic_that_cannot_be_started_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of processes, a call raises BackupError, which every caller handles."""
    monkeypatch.setattr("subprocess.Popen", refusing(errno.EAGAIN))
    log = SimpleNamespace(redactor=Redactor())
    engine = SimpleNamespace(launcher=(), reaper=LoneParent().reaper, log=log)
    plan = SimpleNamespace(program="/bin/sleep", folder="/")
    restic = Restic(cast("Any", plan), cast("Any", SETTINGS), cast("Any", engine), {"PATH": os.defpath})
    with pytest.raises(BackupError, match="at its limit of processes"):
        await restic.call("version", needs_repository=False)


async def test_a_program_whose_output_cannot_be_followed_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory to watch a pipe (epoll_ctl), the program is ended and its pipes are closed."""
    before = os.listdir("/proc/self/fd")
    async with LoneParent().reaping() as parent:
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refusing(errno.ENOMEM))
        with pytest.raises(SpawnError, match="cannot follow the output of restic"):
            await programs.run(parent, SPEC, lambda _line, _is_error: None)
    assert "sleep" not in children()
    assert os.listdir("/proc/self/fd") == before


async def output_of(script: str) -> tuple[list[bytes], int]:
    """Run a script; return its lines, and the most of them that were taken in one turn of the loop."""
    loop, most, before = asyncio.get_running_loop(), 0, 0
    taken: list[bytes] = []

    def turn() -> None:
        nonlocal most, before
        most, before = max(most, len(taken) - before), len(taken)
        if not running.done():
            loop.call_soon(turn)

    async with LoneParent().reaping() as parent:
        spec = SPEC._replace(argv=("sh", "-c", script))
        running = asyncio.ensure_future(programs.run(parent, spec, lambda line, _is_error: taken.append(line)))
        turn()
        await asyncio.wait_for(running, 60)
    return taken, most


async def test_what_others_keep_writing_does_not_keep_a_program_from_its_end() -> None:
    """The pipe belongs to the app's user, whose other processes may keep it full: no more is read than it holds."""
    taken, most = await output_of("yes & echo done")
    assert b"done" in taken
    assert most <= 2 * programs._MOST_LINES


async def test_many_short_lines_leave_turns_to_others() -> None:
    """A chunk of the pipe has up to thirty thousand of them; all are taken, a bounded number in each turn."""
    taken, most = await output_of("seq 100000; printf end")
    assert taken == [*(b"%d" % number for number in range(1, 100_001)), b"end"]
    assert most <= 2 * programs._MOST_LINES


async def test_a_program_that_ignores_term_is_killed_when_its_time_is_over() -> None:
    """The last snapshot's restic may take no longer than the stop."""
    begun = anyio.Event()
    words = ("sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.1; done")
    spec = ProcessSpec("stubborn", words, {"PATH": os.defpath})

    async def run_it(scope: anyio.CancelScope) -> None:
        with scope:
            await programs.run(parent, spec, lambda _line, _is_error: begun.set())

    async with LoneParent().reaping() as parent:
        begin_s, scope = anyio.current_time(), anyio.CancelScope()
        async with anyio.create_task_group() as group:
            with programs.ended_by(begin_s + 1.0):
                group.start_soon(run_it, scope)
            with anyio.fail_after(10):
                await begun.wait()
            scope.cancel()
        assert anyio.current_time() - begin_s < 4


@pytest.mark.parametrize("threads", [True, False])
async def test_work_in_a_thread_is_done_whole(monkeypatch: pytest.MonkeyPatch, *, threads: bool) -> None:
    """This holds even if no thread can be started, and if the waiting task is cancelled meanwhile."""
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", refuse_thread)
        monkeypatch.setattr(loop_latency, "_workers", loop_latency._Workers())
    loop, begun, over, done = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), []

    def work() -> str:
        loop.call_soon_threadsafe(begun.set)
        assert over.wait(10 if threads else 0.01) is threads
        done.append("all of it")
        return "its result"

    async def cancel_it(scope: anyio.CancelScope) -> None:
        await begun.wait()
        scope.cancel()
        over.set()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel_it, scope)
            assert await in_thread(work) == "its result"
    assert done == ["all of it"]
