"""Services that are loaded late: in which order, and how long they wait."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from supervisor.core.snapshot import Snapshot, TailnetView
from supervisor.runtime.main_loop import LazyServices
from supervisor.runtime.store import SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.runtime.main_loop import Service


class Parts:
    """Records which parts run; each runs until cancelled."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._change = anyio.Event()

    def make(self, name: str) -> Part:
        """Return a part."""
        return Part(name, self)

    def tell(self, name: str) -> None:
        """Record that a part runs."""
        self.told.append(name)
        self._change.set()

    async def wait(self, count: int) -> None:
        """Wait until this many parts run."""
        with anyio.fail_after(30):
            while len(self.told) < count:
                self._change = anyio.Event()
                await self._change.wait()


class Part:
    """A part that records its run."""

    def __init__(self, name: str, parts: Parts) -> None:
        self._name = name
        self._parts = parts

    async def run(self) -> None:
        """Run until cancelled."""
        self._parts.tell(self._name)
        await anyio.sleep_forever()


@pytest.fixture(name="slow")
def slow_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the stem of modules that take a moment to load, and fail if another one loads at the same time."""
    stem = "loaded_late"
    for letter in "ab":
        (tmp_path / f"{stem}_{letter}.py").write_text(
            "import sys, time\n"
            "assert not getattr(sys, 'loads', False)\n"
            "sys.loads = True\ntime.sleep(0.05)\nsys.loads = False\n"
            "turn_s = sys.getswitchinterval()\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield stem
    for letter in "ab":
        sys.modules.pop(f"{stem}_{letter}", None)


def store(state: str) -> SnapshotStore:
    """Return a store with a tailnet in this state."""
    return SnapshotStore(Snapshot(tailnet=TailnetView("embedded", state)))


async def test_one_after_the_other(slow: str) -> None:
    """Parts are loaded in the order in which they were started, one at a time; the loop gets its turn meanwhile."""
    late, parts, before_s = LazyServices(store("off")), Parts(), sys.getswitchinterval()
    turns: list[float] = []

    def part(letter: str) -> Service:
        def make(found: Any) -> Part:
            turns.append(found.turn_s)
            return parts.make(letter)

        return late.service(letter, f"{slow}_{letter}", make)

    async with anyio.create_task_group() as group:
        group.start_soon(run, part("a"))
        group.start_soon(run, part("b"))
        await parts.wait(2)
        assert list(late.running) == parts.told == ["a", "b"]
        group.cancel_scope.cancel()
    assert not late.running
    assert max(turns) < before_s == sys.getswitchinterval()


@pytest.mark.parametrize("state", ["starting", "connecting"])
async def test_a_login_goes_first(state: str) -> None:
    """Heavy services wait for it, but no longer if it takes long: health has to be loaded nevertheless."""
    late, parts = LazyServices(store(state)), Parts()
    async with anyio.create_task_group() as group:
        group.start_soon(run, late.heavy_service("heavy", "json", lambda _found: parts.make("heavy")))
        group.start_soon(run, late.service("light", "json", lambda _found: parts.make("light")))
        await parts.wait(2)
        assert parts.told == ["light", "heavy"]
        group.cancel_scope.cancel()


@pytest.mark.parametrize("before", ["connecting", "off", "needs login"])
@pytest.mark.parametrize("after", ["connected", "needs login", "key refused"])
async def test_no_login_to_wait_for(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    """If none is under way, or no longer, nothing is waited for."""
    monkeypatch.setattr("supervisor.runtime.main_loop._LOGIN_FIRST_S", 60.0)
    here = store(before)
    late, parts = LazyServices(here), Parts()
    async with anyio.create_task_group() as group:
        group.start_soon(run, late.heavy_service("heavy", "json", lambda _found: parts.make("heavy")))
        await anyio.lowlevel.checkpoint()
        here.update_tailnet(TailnetView("embedded", after))
        await parts.wait(1)
        group.cancel_scope.cancel()


class Crashing:
    """A part that fails in its first run."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self) -> None:
        """Fail the first time, then return."""
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("a defect of the tests' making")


async def test_what_is_kept_outlives_its_crash() -> None:
    """An ordered stop between a crash and the next try needs its state; otherwise each try creates a new part."""
    late, made = LazyServices(store("off")), list[Crashing]()

    def make(_found: Any) -> Crashing:
        made.append(Crashing())
        return made[-1]

    service = late.service("part", "json", make)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await service()
    assert late.running == {}
    assert late.keep("part") is made[1]
    await service()
    assert (len(made), made[1].runs) == (2, 2)
    assert late.keep("another") is None


async def run(service: Service) -> None:
    """Run a service as the loop does."""
    await service()
