"""What an instance in standby rehearses: the restore that a take-over would make."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from supervisor.backup import marker
from supervisor.backup.marker import Kept
from supervisor.backup.standby import Standby
from supervisor.backup.threads import SEE, Steps
from supervisor.backup.words import BackupError, Trouble
from supervisor.config.plan import BackupSource
from supervisor.core.backup import BackupView, Head, SnapshotView

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.backup.work import Work

OLD, NEW = SnapshotView("a" * 64, generation=1, sequence=1), SnapshotView("b" * 64, generation=2, sequence=1)


def standby(tmp_path: Path, wish: str, noted: str = "") -> Standby:
    """Return the standby of a new container, with this setting and a wish noted as done in the repository."""

    async def was_restored(asked: str) -> bool:
        return asked == noted

    sources = [BackupSource("data", str(tmp_path), None)]
    work = SimpleNamespace(
        settings=SimpleNamespace(restore=wish),
        plan=SimpleNamespace(all_sources=sources),
        look=partial(Steps(SEE).take, lambda: marker.look(sources)),
        view=BackupView(snapshots=(OLD, NEW)),
        newest=NEW,
        head=Head(),
        holder=SimpleNamespace(was_restored=was_restored),
    )
    return Standby(cast("Work", work), "repository")


@pytest.mark.parametrize(
    ("wish", "noted", "expected"),
    [
        ("auto", "", NEW),
        ("never", "", None),
        ("a" * 8, "", OLD),
        # The setting is still there, but was carried out.
        ("a" * 8, "a" * 8, NEW),
    ],
)
async def test_what_would_be_restored(tmp_path: Path, wish: str, noted: str, expected: SnapshotView | None) -> None:
    """The newest snapshot is restored, or the one that the owner wishes, but only once."""
    assert await standby(tmp_path, wish, noted)._to_restore() == expected


async def test_a_wish_that_the_files_here_fulfil_is_done(tmp_path: Path) -> None:
    """Nothing is restored over them, even if the note in the repository failed."""
    kept = Kept("repository", 2, "", "a" * 8)
    marker.write([BackupSource("data", str(tmp_path), None)], kept)
    assert await standby(tmp_path, "a" * 8)._to_restore() is None


async def test_a_wish_for_what_there_is_not_is_told(tmp_path: Path) -> None:
    """Such an instance would be held at a take-over, so it is not ready."""
    with pytest.raises(BackupError, match="there is no snapshot cccccccc"):
        await standby(tmp_path, "c" * 8)._to_restore()


async def test_one_that_would_have_to_ask_is_not_ready(tmp_path: Path) -> None:
    """A platform would end the old instance for it, and then nothing would be started."""
    (tmp_path / "note").write_text("nobody knows whose")
    with pytest.raises(BackupError, match="belong to no known snapshot"):
        await standby(tmp_path, "auto")._to_restore()


async def test_one_that_may_not_write_is_not_ready(tmp_path: Path) -> None:
    """It could read everything, but not take over."""
    waiting, shown = standby(tmp_path, "never"), dict[str, object]()

    async def probe() -> None:
        raise BackupError(Trouble("may not write"))

    async def refresh() -> tuple[SnapshotView, ...]:
        return (OLD, NEW)

    work = cast("SimpleNamespace", waiting._work)
    work.holder.probe, work.refresh, work.show = probe, refresh, lambda **changes: shown.update(changes)
    work.tell, work.log = lambda _trouble: None, SimpleNamespace(record=lambda *_, **__: None)
    await waiting._rehearse()
    assert "rehearsed" not in shown
    assert shown["why"] == "may not write"
