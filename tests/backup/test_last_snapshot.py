"""The object beside a repository names the last snapshot: what is older is never taken for it by itself."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.backup.test_hand_over import moltis, settings
from tests.backup.world import (
    APP,
    World,
    back_up,
    health_of,
    listed,
    path_with_wrapped_restic,
    wait_for_state,
    whole_files,
)
from tests.client.calling import call
from tests.support.backups import restic
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from tests.process.running import Run

HASTE = {"silence_s": 2.0, "renew_s": 0.3, "again_s": 0.5}


class Disk(World):
    """The disk of a container of its own, on which the app's folders have other paths than elsewhere."""

    def __init__(self, repository: str = "") -> None:
        super().__init__(repository)
        self.data = self.folder / ".moltis"

    def container(self, haste: Mapping[str, float]) -> AbstractContextManager[Run]:
        """Run the container for the length of a block."""
        return self.hastened(haste, *moltis(self), **settings(self))


def write(world: World, text: str, run: Run) -> dict[str, object]:
    """Write the note, and return a snapshot of it."""
    (world.data / "note").write_text(text)
    return back_up(run)


def note(world: World) -> str:
    """Return the note."""
    return (world.data / "note").read_text()


def kill(run: Run) -> None:
    """Kill the container."""
    os.kill(run.pid, signal.SIGKILL)
    run.wait()


def wait_for_last(world: World, sequence: int) -> None:
    """Wait until the object names the snapshot of this number."""
    path = Path(f"{world.repository}.holder")
    wait_until(lambda: json.loads(path.read_text())["last"][1] == sequence, what="the last snapshot in the object")


class Away:
    """Some snapshots that are not in the repository at the moment."""

    def __init__(self, world: World, names: Iterable[str] | None = None) -> None:
        self._there = Path(world.repository) / "snapshots"
        self._away = world.folder / "away"
        self._away.mkdir()
        for name in list(names or whole_files(str(self._there))):
            (self._there / name).rename(self._away / name)

    def bring_back(self) -> None:
        """Put them back."""
        for path in self._away.iterdir():
            path.rename(self._there / path.name)


@pytest.mark.parametrize("ends_by_kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("all_of_them", [False, True], ids=["the last", "all"])
def test_a_new_container_waits_for_the_last_snapshot(*, ends_by_kill: bool, all_of_them: bool) -> None:
    """Neither the one before it nor an empty life is begun, by the container after the next one neither."""
    world = World()
    with world.hastened(HASTE, *APP) as run:
        wait_for_state(run, "idle")
        write(world, "first", run)
        before = set(whole_files(f"{world.repository}/snapshots"))
        write(world, "last", run)
        wait_for_last(world, 2)
        if ends_by_kill:
            kill(run)
        else:
            run.stop()
    names = set(whole_files(f"{world.repository}/snapshots")) - (set() if all_of_them else before)
    away = Away(world, names)
    world.lose_files()
    for _ in range(2):
        with world.hastened(HASTE, *APP) as run:
            held = wait_for_state(run, "held: choose")
            assert f"number {2 if ends_by_kill else 3} of generation 1" in held["why"]
            assert "bring it back" in held["what_to_do"]
            assert health_of(run)["status"] == "fail"
            assert run.find("started") is None
            run.stop()
    with world.hastened(HASTE, *APP) as run:
        wait_for_state(run, "held: choose")
        away.bring_back()
        run.wait_for("started")
        assert note(world) == "last"
        assert listed(run)["generation"] == 2


def test_snapshots_that_were_removed_on_purpose_are_given_up_by_a_choice() -> None:
    """The owner restores an older one; the container after that does not ask again."""
    world = World()
    with world.hastened(HASTE, *APP) as run:
        wait_for_state(run, "idle")
        older = write(world, "older", run)
        write(world, "newer", run)
        run.stop()
    names = set(whole_files(f"{world.repository}/snapshots")) - {str(older["id"])}
    Away(world, names)
    world.lose_files()
    with world.hastened(HASTE, *APP) as run:
        wait_for_state(run, "held: choose")
        assert call(run.run_dir, "backup", "restore", str(older["id"]), "--yes").code == 0
        run.wait_for("started")
        assert note(world) == "older"
        kill(run)
    world.lose_files()
    with world.hastened(HASTE, *APP) as run:
        run.wait_for("started")
        assert note(world) == "older"


def test_a_container_with_the_newest_files_does_not_wait_for_an_older_snapshot() -> None:
    """It goes on and says what is gone; its next snapshot has a number of its own."""
    world = World()
    with world.hastened(HASTE, *APP) as run:
        wait_for_state(run, "idle")
        write(world, "last", run)
        run.stop()
    Away(world)
    with world.hastened(HASTE, *APP) as run:
        run.wait_for("started")
        assert "number 2 of generation 1" in run.wait_for("a snapshot is gone")["why"]
        taken = back_up(run)
        assert (taken["generation"], taken["sequence"]) == (1, 3)


def test_a_container_that_returns_on_older_files_asks_though_the_next_one_left_no_snapshot() -> None:
    """The next one has worked on other files since; it goes on where it was if it returns first."""
    old = Disk()
    new, fresh = Disk(old.repository), Disk(old.repository)
    with old.container(HASTE) as run:
        wait_for_state(run, "idle")
        write(old, "old", run)
        (old.data / "note").write_text("old, later")
        kill(run)
    with new.container(HASTE) as run:
        run.wait_for("started")
        assert note(new) == "old"
        (new.data / "note").write_text("new")
        kill(run)
    with old.container(HASTE) as run:
        held = wait_for_state(run, "held: choose")
        assert "another instance has worked as generation 2" in held["why"]
        assert run.find("started") is None
        run.stop()
    # A container without files has only the snapshots to go by, as after any kill.
    with fresh.container(HASTE) as run:
        wait_for_state(run, "restoring")
        kill(run)
    with new.container(HASTE) as run:
        run.wait_for("started")
        assert note(new) == "new"
        assert back_up(run)["generation"] == 2
        run.stop()
    with old.container(HASTE) as run:
        assert "newer snapshots than these files" in wait_for_state(run, "held: choose")["why"]
        assert call(run.run_dir, "backup").code == 0
        run.wait_for("started")
        assert note(old) == "old, later"
        assert listed(run)["generation"] == 3


def test_a_snapshot_that_comes_after_the_take_over_is_not_restored_though_there_is_none_since() -> None:
    """The next one has begun without it, and may have been killed before its own first snapshot."""
    old = Disk()
    new, last = Disk(old.repository), Disk(old.repository)
    with old.container({**HASTE, "renew_s": 60.0}) as run:
        wait_for_state(run, "idle")
        write(old, "in time", run)
        before = set(whole_files(f"{old.repository}/snapshots"))
        late = write(old, "late", run)
        kill(run)
    away = Away(old, set(whole_files(f"{old.repository}/snapshots")) - before)
    with new.container(HASTE) as run:
        run.wait_for("started")
        assert note(new) == "in time"
        away.bring_back()
        kill(run)
    with last.container(HASTE) as run:
        run.wait_for("started")
        assert note(last) == "in time"
        run.wait_for("snapshot of a replaced instance")
        found = next(each for each in listed(run)["snapshots"] if each["replaced"])
        assert found["sequence"] == late["sequence"]


def test_a_snapshot_that_is_stored_without_an_answer_keeps_its_number_for_itself() -> None:
    """The next one has a later number: of two with the same, a restore could take the older."""
    world = World()
    lost = world.folder / "lost"
    lose = (
        f'case "$*" in *"--json backup"*) if [ -e {lost} ]; then rm {lost}; '
        f'{world.folder}/bin/real "$@" >/dev/null; exit 1; fi;; esac'
    )
    with world.running(PATH=path_with_wrapped_restic(world, lose)) as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("old")
        lost.touch()
        assert call(run.run_dir, "backup").code != 0
        assert write(world, "new", run)["id"] == listed(run)["snapshots"][0]["id"]
        tags = [each["tags"] for each in restic(world.repository, "--no-lock", "snapshots")]
        numbers = [tag for each in tags for tag in each if tag.startswith("sequence=")]
        assert len(numbers) == len(set(numbers)) >= 2
        run.stop()
