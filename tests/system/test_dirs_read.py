"""Small files written by people, and other things in their place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.system import dirs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_text_has_no_byte_order_mark(tmp_path: Path, start: bytes) -> None:
    """Editors on other systems write one, which is removed."""
    (tmp_path / "file").write_bytes(start + "grün\n".encode())
    assert dirs.read_text(str(tmp_path / "file"), 100) == "grün\n"


def test_a_file_is_read_whole_or_refused(tmp_path: Path) -> None:
    """One byte too many is an error, and so is invalid text, with its line."""
    (tmp_path / "file").write_bytes(b"a\nb\n\xff")
    assert dirs.read(str(tmp_path / "file"), 5) == b"a\nb\n\xff"
    with pytest.raises(ValueError, match="more than 4 bytes"):
        dirs.read(str(tmp_path / "file"), 4)
    with pytest.raises(ValueError, match=r"not UTF-8 text \(at line 3\)"):
        dirs.read_text(str(tmp_path / "file"), 5)


@pytest.mark.parametrize("filled", [True, False])
def test_a_pipe_is_no_file(tmp_path: Path, *, filled: bool) -> None:
    """It neither blocks nor passes for an empty file, and its content is left in it."""
    os.mkfifo(tmp_path / "pipe")
    fd = os.open(tmp_path / "pipe", os.O_RDWR)
    if filled:
        os.write(fd, b"text")
    with pytest.raises(ValueError, match="it is a pipe"):
        dirs.read(str(tmp_path / "pipe"), 100)
    os.close(fd)


def test_a_folder_and_nothing_at_all_are_told_by_the_system(tmp_path: Path) -> None:
    """The reason is in the system's own words."""
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file or directory")):
        with pytest.raises(OSError, match=why) as caught:
            dirs.read(str(path), 100)
        assert dirs.reason(caught.value) == why
