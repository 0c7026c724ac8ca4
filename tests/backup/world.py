"""A supervisor with backups, and helpers for the tests that use it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.client.backup_commands import BACKUPS
from supervisor.client.control import Control
from tests.client.calling import call
from tests.process.running import Run
from tests.support.backups import KEY, KEY_ID, PASSWORD, path_with_restic, program
from tests.support.processes import freeze, thaw
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HASTENED = Path(__file__).with_name("hastened.py")
# An app that the supervisor does not know: it runs until it receives TERM.
APP = ("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")


class World:
    """Folders that outlive a run of the supervisor, as a volume would, and the repository."""

    def __init__(self, repository: str = "", prefix: tuple[str, ...] = ()) -> None:
        self.prefix = prefix
        self.folder = Path(tempfile.mkdtemp(prefix="backup-"))
        # Removed after the test, or at the latest when the test run exits: some are large.
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        # The app's user must be able to traverse it.
        self.folder.chmod(0o755)
        self.repository = repository or str(self.folder / "repository")
        self.data = self.folder / "data"
        self.state = self.folder / "state" / "tailscale"

    def env(self, **more: str) -> dict[str, str]:
        """Return the settings."""
        return {
            "PATH": path_with_restic(),
            "TS_STATE_DIR": str(self.state),
            "SUPERVISOR_BACKUP_REPOSITORY": self.repository,
            "SUPERVISOR_BACKUP_PASSWORD": PASSWORD,
            "SUPERVISOR_BACKUP_PATHS": str(self.data),
            "SUPERVISOR_STOP_TIMEOUT": "30s",
            "SUPERVISOR_TOKEN": "a token of sixteen characters",
            **({} if self.repository.startswith("/") else _KEYS),
            **more,
        }

    @contextlib.contextmanager
    def running(self, *command: str, **env: str) -> Iterator[Run]:
        """Run a supervisor on these folders for the length of a block."""
        with _for_a_block(Run(*(command or APP), env=self.env(**env), prefix=self.prefix)) as run:
            yield run

    @contextlib.contextmanager
    def hastened(self, haste: Mapping[str, Any], *command: str, **env: str) -> Iterator[Run]:
        """Run one whose waits are shorter (see hastened.py); without a command it runs the app of the settings."""
        program = [sys.executable, "-I", str(_HASTENED), "run", "--", *command]
        with _for_a_block(Run(env=self.env(**env, HASTE=json.dumps(haste)), program=program)) as run:
            yield run

    def lose_files(self) -> None:
        """Become a new container: remove everything except the repository."""
        for folder in (self.data, self.folder / "state"):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _for_a_block(run: Run) -> Iterator[Run]:
    try:
        yield run
    finally:
        run.close()


def lost(repository: str) -> World:
    """Return a new container without files; the previous one's note is only in a snapshot in the repository."""
    world = World(repository)
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("kept")
        back_up(run)
        run.stop()
    world.lose_files()
    return world


_KEYS = {"SUPERVISOR_BACKUP_ACCESS_KEY_ID": KEY_ID, "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY": KEY}


def listed(run: Run) -> dict[str, Any]:
    """Return the output of `backup list --json`."""
    called = call(run.run_dir, "backup", "list", "--json")
    assert called.code == 0, called
    answer: dict[str, Any] = json.loads(called.out)
    return answer


def wait_for_state(run: Run, state: str, deadline_s: float = 30.0) -> dict[str, Any]:
    """Wait until the backups are in a state; return the output of `backup list --json` at that time."""

    def look() -> dict[str, Any] | None:
        called = call(run.run_dir, "backup", "list", "--json")
        if called.code:
            return None
        now: dict[str, Any] = json.loads(called.out)
        return now if now["state"] == state else None

    return wait_until(look, deadline_s, what=f"backups that are {state}")


def back_up(run: Run) -> dict[str, Any]:
    """Take a snapshot and return it."""
    called = call(run.run_dir, "backup", "--json")
    assert called.code == 0, (called, run.records[-10:])
    newest: dict[str, Any] = json.loads(called.out)["snapshots"][0]
    return newest


def make_unclear(world: World) -> dict[str, Any]:
    """Take a snapshot, put other files in place, and return the snapshot: the next start has to ask which count."""
    with world.running() as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("theirs")
        theirs = back_up(run)
        run.stop()
    world.lose_files()
    world.data.mkdir()
    (world.data / "note").write_text("ours")
    return theirs


def health_of(run: Run) -> dict[str, Any]:
    """Return the health check of the backups."""
    called = call(run.run_dir, "status", "--json")
    check: dict[str, Any] = json.loads(called.out)["health"]["checks"]["backup"][0]
    return check


def is_root() -> bool:
    """Return whether the tests run as root, and so may give files to other users."""
    return os.geteuid() == 0


def call_without_waiting(run: Run) -> None:
    """Order a snapshot without waiting for it."""
    Control(str(run.run_dir)).post(BACKUPS)


def child_of(run: Run, name: str) -> int | None:
    """Return the pid of the supervisor's child that runs the program with this name; None if there is none."""
    with open(f"/proc/{run.pid}/task/{run.pid}/children", encoding="ascii") as file:
        pids = [int(pid) for pid in file.read().split()]
    for pid in pids:
        with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
            if comm.read().strip() == name:
                return pid
    return None


def told(run: Run, words: str) -> None:
    """Wait until the trouble is shown in these words, long before restic itself gives up (15 min)."""
    run.wait_for("starting")
    now: dict[str, Any] = {}

    def look() -> bool:
        called = call(run.run_dir, "backup", "list", "--json")
        now.update(json.loads(called.out or "{}"))
        return words in (now.get("why") or "")

    wait_until(look, what=words)
    assert health_of(run)["status"] in {"warn", "fail"}


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a small disk for the length of a block."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def path_with_wrapped_restic(world: World, before: str) -> str:
    """Return a PATH whose restic runs the shell code ``before``, with the arguments in `$*`, and then the real one."""
    folder = world.folder / "bin"
    folder.mkdir()
    # In the same folder: if it is confined, root's restic cannot read any other program.
    shutil.copy2(program("restic"), folder / "real")
    (folder / "restic").write_text(f'#!/bin/sh\n{before}\nexec {folder}/real "$@"\n')
    (folder / "restic").chmod(0o755)
    return f"{folder}:{path_with_restic()}"


def whole_files(folder: str) -> list[str]:
    """Return the files that restic has finished writing; until then they have a temporary name."""
    return [name for name in os.listdir(folder) if "-tmp-" not in name]


@contextlib.contextmanager
def holding(locks: str, words: list[str], env: dict[str, str]) -> Iterator[None]:
    """Run a restic that is frozen while it holds a lock, for the length of a block; check that it then succeeds."""
    frozen = False
    while not frozen:
        with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL) as other:
            wait_until(lambda: whole_files(locks) or other.poll() is not None, what="its lock")
            if other.poll() is None:
                freeze(other.pid)
            # With such a small repository it may have exited before it was frozen.
            frozen = other.poll() is None and bool(whole_files(locks))
            try:
                if frozen:
                    yield
            finally:
                if other.poll() is None:
                    thaw(other.pid)
        assert other.returncode == 0
