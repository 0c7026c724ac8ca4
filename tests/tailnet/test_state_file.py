"""The owner's choice in its file: stored whole or not at all, and never guessed."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.runtime import loop_latency
from supervisor.system import dirs
from supervisor.tailnet import state_file
from supervisor.tailnet.state_file import FILE, DesiredStateStore
from tests.support.descriptors import no_descriptors
from tests.support.syncs import noted_syncs
from tests.tailnet.attached import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_could_not_be_stored_is_stored_once_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the time of an order must not lose it for the next run."""
    store = DesiredStateStore(str(tmp_path / "state"))
    store.keep("disconnected", ephemeral=False)
    assert store.why_not_kept
    (tmp_path / "state").mkdir()
    store.keep("disconnected", ephemeral=False)
    assert store.why_not_kept
    monkeypatch.setattr(state_file, "AGAIN_S", 0.0)
    store.keep("disconnected", ephemeral=False)
    assert not store.why_not_kept
    assert DesiredStateStore(str(tmp_path / "state")).choice == "disconnected"


def test_what_was_stored_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is synced before it replaces the old one, and the folder after that: a power loss loses neither."""
    owner = DesiredStateStore(str(tmp_path))
    owner.keep("connected", ephemeral=False, first=True)
    steps = noted_syncs(monkeypatch, renames=True)
    owner.keep("disconnected", ephemeral=False)
    assert steps == [str(tmp_path / f".{FILE}.new"), FILE, str(tmp_path)]


def test_nothing_kept_means_connected(tmp_path: Path) -> None:
    """This applies to a first start, with or without a folder; afterwards the stored choice applies."""
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "none", tmp_path / "none/deeper", tmp_path / "file/state"):
        owner = DesiredStateStore(str(folder))
        assert (owner.choice, owner.found, owner.why_unread) == ("connected", False, "")
    owner = DesiredStateStore(str(tmp_path))
    owner.keep("disconnected", ephemeral=False)
    assert DesiredStateStore(str(tmp_path)).choice == "disconnected"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b'{"choice": "discon', "it is damaged"),
        (b'{"choice": "later"}', "it is damaged"),
        (b"{}", "it is damaged"),
        (b'{"ephemeral": true}', "it is damaged"),
        (b"\xff", "it is damaged"),
        (b" " * 2_000_000, "it has more than"),
        ("link", "symbolic links"),
        ("folder", "directory"),
        ("pipe", "it is a pipe"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_read_is_told_and_never_taken_for_connected(tmp_path: Path, data: bytes | str, why: str) -> None:
    """Recording a login meanwhile changes nothing; the owner's next choice does."""
    path = tmp_path / FILE
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif data == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif data == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    owner = DesiredStateStore(str(tmp_path))
    assert (owner.choice, owner.found) == ("unknown", True)
    assert why in owner.why_unread.lower()
    owner.keep(owner.choice, ephemeral=True)
    assert owner.choice == "unknown"
    if data != "folder":
        again = DesiredStateStore(str(tmp_path))
        assert (again.choice, again.record.ephemeral) == ("unknown", True)
        assert again.why_unread
    owner.keep("connected", ephemeral=False)
    assert (owner.choice, owner.why_unread) == ("connected", "")
    assert bool(owner.why_not_kept) is (data == "folder")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Provide a state folder with the choice to be disconnected."""
    folder = tmp_path / "state"
    folder.mkdir()
    DesiredStateStore(str(folder)).keep("disconnected", ephemeral=False)
    return folder


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ELOOP, errno.ENOMEM, errno.ESTALE],
)
def test_a_folder_that_cannot_be_opened_is_told_and_never_taken_for_connected(
    kept: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Before, it counted as a first start, and the device was connected against its owner's choice."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", _failing(number))
        owner = DesiredStateStore(str(kept))
    assert (owner.choice, owner.found) == ("unknown", True)
    assert owner.why_unread == f"the folder cannot be opened: {os.strerror(number)}"
    assert not owner.why_not_kept
    owner.keep(owner.choice, ephemeral=False, first=True)
    assert DesiredStateStore(str(kept)).choice == "disconnected"
    owner.keep("connected", ephemeral=False)
    assert (owner.choice, owner.why_unread) == ("connected", "")


def _failing(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_folder_of_another_kind_is_told(kept: Path) -> None:
    """A link is not followed, and its target's choice is not used; a file in the folder's place is no first start."""
    link, file = kept.with_name("link"), kept.with_name("file")
    link.symlink_to(kept)
    file.touch()
    for path, why in ((link, "it is a link"), (file, "Not a directory")):
        owner = DesiredStateStore(str(path))
        assert (owner.choice, owner.found) == ("unknown", True)
        assert owner.why_unread == f"the folder cannot be opened: {why}"


@pytest.mark.skipif(os.geteuid() != 0, reason="changing users takes root")
@pytest.mark.parametrize("closed", ["state", "above"])
def test_a_folder_that_this_user_may_not_enter_is_told(closed: str) -> None:
    """Neither it nor a folder above it: there may be a choice inside."""
    with tempfile.TemporaryDirectory() as name:
        folder = os.path.join(name, "above", "state")
        os.makedirs(folder)
        Path(name).chmod(0o711)
        os.chmod(folder if closed == "state" else os.path.dirname(folder), 0)
        code = "import sys; from supervisor.tailnet.state_file import DesiredStateStore as S; s = S(sys.argv[1]); "
        words = [*NOBODY, sys.executable, "-c", f"{code}print(s.choice, s.why_unread)", folder]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert said == "unknown the folder cannot be opened: Permission denied\n"


def test_without_a_free_descriptor_the_choice_is_unknown(kept: Path) -> None:
    """It is a failure of this moment, and says nothing about the choice."""
    with no_descriptors():
        owner = DesiredStateStore(str(kept))
    assert (owner.choice, owner.why_unread) == ("unknown", "the folder cannot be opened: Too many open files")


def test_a_disk_that_takes_only_a_part_changes_nothing(tmp_path: Path) -> None:
    """A short write is completed or discarded: the last choice stays on the disk."""
    owner = DesiredStateStore(str(tmp_path))
    owner.keep("disconnected", ephemeral=False)
    before = (tmp_path / FILE).read_bytes()
    # A file may have ten bytes from here on; the kernel writes those, and refuses the rest.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        owner.keep("forgotten", ephemeral=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "File too large" in owner.why_not_kept
    assert owner.choice == "forgotten"
    assert (tmp_path / FILE).read_bytes() == before
    assert os.listdir(tmp_path) == [FILE]


async def test_the_loop_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs blocks neither the loop nor the next choice; the newest choice is stored."""
    from threading import Event

    may, put = Event(), dirs.put_file

    def slow(*words: object, **more: object) -> None:
        assert may.wait(20)
        put(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(dirs, "put_file", slow)
    owner = DesiredStateStore(str(tmp_path))
    owner.keep("disconnected", ephemeral=False)
    owner.keep("forgotten", ephemeral=False)
    assert owner.choice == "forgotten"
    assert not (tmp_path / FILE).exists()
    may.set()
    await loop_latency.background_done(20)
    assert DesiredStateStore(str(tmp_path)).choice == "forgotten"
    assert owner.why_not_kept == ""
