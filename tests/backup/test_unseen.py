"""A folder that the kernel cannot open at the moment is not taken for empty, nor its files for missing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from supervisor.backup import copies, marker
from supervisor.backup.marker import Kept
from supervisor.backup.places import MARKER
from supervisor.backup.restore import _clean, _finish
from supervisor.backup.words import BackupError
from supervisor.config.plan import BackupSource
from supervisor.core.backup import Files
from supervisor.system import dirs
from tests.conventions.tree import modules
from tests.support.descriptors import no_descriptors
from tests.support.syncs import noted_syncs
from tests.system.test_dirs import NOBODY


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder called ``inner`` fail with a disk error."""

    def refusing(real: Any) -> Any:
        def ask(path: Any, *words: Any, **more: Any) -> Any:
            if str(path).endswith("inner"):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            return real(path, *words, **more)

        return ask

    monkeypatch.setattr(os, "open", refusing(os.open))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))


def source(path: Path) -> BackupSource:
    """Return a folder that is backed up."""
    return BackupSource("data", str(path), None)


def test_files_and_their_mark_are_never_taken_for_none(tmp_path: Path) -> None:
    """At the limit of descriptors a start is held and retried; otherwise it would restore over the files here."""
    (tmp_path / "note").write_text("newer than any snapshot")
    with no_descriptors(), pytest.raises(BackupError, match=r"cannot see what is in .*Too many open files"):
        marker.look([source(tmp_path)])
    marker.write([source(tmp_path)], Kept("repository", 2))
    with no_descriptors(), pytest.raises(BackupError, match="Too many open files"):
        marker.look([source(tmp_path)])
    assert marker.look([source(tmp_path)]) == (Kept("repository", 2), Files.SOME)


@pytest.mark.usefixtures("unread")
def test_a_folder_deeper_down_counts_too(tmp_path: Path) -> None:
    """It may contain the only files."""
    (tmp_path / "inner").mkdir()
    with pytest.raises(BackupError, match="Input/output error"):
        marker.look([source(tmp_path)])


def test_what_is_not_there_or_no_mark_is_none(tmp_path: Path) -> None:
    """This holds for a missing folder, and for a link or a folder with the marker's name."""
    assert marker.look([source(tmp_path / "none")]) == (None, Files.NONE)
    os.symlink("/etc/hostname", tmp_path / MARKER)
    assert marker.look([source(tmp_path)]) == (None, Files.NONE)
    (tmp_path / MARKER).unlink()
    (tmp_path / MARKER).mkdir()
    assert marker.look([source(tmp_path)]) == (None, Files.NONE)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 99, b'{"repository":"reposi', b"{}"], ids=["empty", "zero", "cut", "none"]
)
def test_a_damaged_mark_is_never_taken_for_none(tmp_path: Path, content: bytes) -> None:
    """As after a power loss: not in one of two folders either, nor without files beside it, and no restore is over."""
    folders = [source(tmp_path / name) for name in ("one", "two")]
    marker.write(folders, Kept("repository", 2, swap="mark"))
    assert marker.is_over(folders, "repository", "mark")
    for folder in folders:
        (Path(folder.path) / MARKER).write_bytes(content)
        assert marker.look(folders) == (None, Files.DAMAGED)
        assert not marker.is_over(folders, "repository", "mark")


def test_a_mark_is_on_the_disk_unless_it_stands_for_what_a_restore_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a restore has written is not synced, and a mark for it must not outlast it."""
    synced = noted_syncs(monkeypatch)
    marker.write([source(tmp_path)], Kept("repository", 2, swap="mark"))
    assert synced == []
    marker.write([source(tmp_path)], Kept("repository", 2))
    assert synced == [f"{tmp_path}/.{MARKER}.new", str(tmp_path)]


@pytest.mark.usefixtures("unread")
def test_a_restore_that_cannot_see_all_of_it_fails(tmp_path: Path) -> None:
    """Otherwise databases would not be put in their place, and rights that must be dropped would stay."""
    (tmp_path / "copies/inner").mkdir(parents=True)
    (tmp_path / "files").mkdir()
    with dirs.opened(str(tmp_path)) as fd, pytest.raises(OSError, match="Input/output error"):
        _finish(fd, None)
    (tmp_path / "files/inner").mkdir()
    (tmp_path / "files/inner/tool").touch()
    (tmp_path / "files/inner/tool").chmod(0o4755)
    with dirs.opened(str(tmp_path)) as fd, pytest.raises(OSError, match="Input/output error"):
        _clean(fd, None)
    assert (tmp_path / "files/inner/tool").stat().st_mode & stat.S_ISUID


@pytest.mark.usefixtures("unread")
def test_databases_that_cannot_be_looked_for_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The snapshot is then marked as incomplete."""
    # The copies are made in this process.
    monkeypatch.setattr(os, "umask", lambda _mask: 0)
    (tmp_path / "app/inner").mkdir(parents=True)
    (tmp_path / "copies").mkdir()
    assert copies.main(str(tmp_path / "copies"), [str(tmp_path / "app")]) == 0
    assert f"cannot look for databases in {tmp_path}/app/inner: Input/output error" in capsys.readouterr().err


@pytest.mark.usefixtures("unread")
def test_a_folder_is_given_to_its_owner_whole_or_not(tmp_path: Path) -> None:
    """Otherwise the app would have files that it may not write."""
    (tmp_path / "state/inner").mkdir(parents=True)
    with dirs.opened(str(tmp_path / "state")) as fd, pytest.raises(OSError, match="Input/output error"):
        dirs._hand_over(fd, NOBODY)


def test_no_walk_passes_over_what_it_cannot_read() -> None:
    """Python's own does by default."""
    for module in modules("supervisor"):
        text = module.text
        assert text.count("os.walk(") + text.count("os.fwalk(") == text.count("onerror="), module.name
